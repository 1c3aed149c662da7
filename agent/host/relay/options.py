"""How a relay is to work: sizes and times that whoever starts one may choose."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.host.relay.c_relay import LOG_BYTES, SEGMENT_BYTES
from agent.host.relay.condition import LineKind, Patience


@dataclass(frozen=True, slots=True)
class RelayOptions:
    """Sizes and times. Bytes and seconds."""

    segment_bytes: int = SEGMENT_BYTES
    log_bytes: int = LOG_BYTES
    max_payload: int = 131072
    window: int = 524288
    patience: Patience = field(default_factory=Patience)
    # How long a client may take nothing and hold the guest, while there are others.
    hold_seconds: float = 60.0
    # Of silence, after which the guest is asked whether it is there: if somebody has come since, or
    # it owes an answer, and if not. A local machine's end is seen without asking.
    keepalive_seconds: float = 5.0
    idle_keepalive_seconds: float = 600.0
    # Between two requests to the guest to look around: at all, and when somebody comes.
    look_seconds: float = 900.0
    visit_look_seconds: float = 30.0
    line: LineKind = LineKind.LOCAL

    @property
    def asking_seconds(self) -> tuple[float, float]:
        """Of silence, after which a guest is asked: that somebody waits for, and any other."""
        seconds = min(self.keepalive_seconds, self.patience.silence / 2)
        return seconds, max(seconds, self.idle_keepalive_seconds)

    @property
    def looking_seconds(self) -> tuple[float, float]:
        """Between two requests to look around: at all, and when somebody comes."""
        return self.look_seconds, self.visit_look_seconds
