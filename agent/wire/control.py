"""The control stream: JSON objects both ways. Owns its fragments, its order and its bounds.

No credit: a message is bounded, taken at once, and leaves before any data. OPEN and POSITION
travel in the same order, for they are about the same things.
"""

from __future__ import annotations

from agent import bare_json as json
from agent.bare_tools import deque
from agent.hints import Deque, Dict, Optional
from agent.wire.c_frame import (
    CONTROL,
    CONTROL_LIMIT,
    CONTROL_QUEUE,
    Flag,
    FrameType,
)
from agent.wire.events import Control, ControlFullError, ProtocolError
from agent.wire.sender import Message


class ControlStream:
    """Both directions of the control stream of one end."""

    def __init__(self, partial: bytes = b"") -> None:
        self.waiting: Deque[Message] = deque()  # to be sent
        self._waiting_bytes = 0
        self.partial = bytearray(partial)  # of a message that is still coming
        self.received = 0  # whole messages

    @property
    def pending(self) -> bool:
        """Whether something waits to be sent."""
        return bool(self.waiting)

    def send(self, message: Dict[str, object], max_payload: int) -> None:
        """Queue a message, in fragments of `max_payload` bytes.

        Raises ValueError when it is longer than CONTROL_LIMIT as JSON, ControlFullError when more
        than CONTROL_QUEUE bytes wait.
        """
        text = json.dumps(message, separators=(",", ":")).encode("ascii")
        if len(text) > CONTROL_LIMIT:
            raise ValueError("a control message of %d bytes" % len(text))
        if self._waiting_bytes + len(text) > CONTROL_QUEUE:
            raise ControlFullError("%d bytes of control messages wait" % self._waiting_bytes)
        self._waiting_bytes += len(text)
        for start in range(0, len(text), max_payload):
            end = start + max_payload
            more = Flag.MORE if end < len(text) else 0
            self.waiting.append(Message(FrameType.DATA, more, CONTROL, text[start:end]))

    def queue(self, message: Message) -> None:
        """Queue a message that is about the streams themselves."""
        self._waiting_bytes += len(message.payload)
        self.waiting.append(message)

    def next_message(self) -> Optional[Message]:
        """Return the message that is to be sent next."""
        if not self.waiting:
            return None
        message = self.waiting.popleft()
        self._waiting_bytes -= len(message.payload)
        return message

    def peer_restarted(self) -> None:
        """Forget the beginning of a message whose end nobody is left to send."""
        self.partial.clear()

    def receive(self, flags: int, payload: bytes) -> Optional[Control]:
        """Take a fragment; return the message that it completes.

        Raises ProtocolError when that is too long or no JSON object.
        """
        if flags & ~Flag.MORE:
            raise ProtocolError("a control frame with the flags %d" % flags)
        if len(self.partial) + len(payload) > CONTROL_LIMIT:
            raise ProtocolError("a control message of more than %d bytes" % CONTROL_LIMIT)
        self.partial += payload
        if flags & Flag.MORE:
            return None
        text = bytes(self.partial)
        self.partial.clear()
        self.received += 1
        try:
            value = json.loads(text.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise ProtocolError("a control message that is not JSON") from error
        if not isinstance(value, dict):
            raise ProtocolError("a control message that is no JSON object")
        return Control(value)
