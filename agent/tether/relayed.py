"""One process between its descriptors and its streams, from its launch to its last byte.

Owns what is read and written, when that stops, and what is told of it at the start. It waits for
nothing and collects no status: the supervisor's loop calls it. The order at the end is fixed: the
process dies, its pipes are read to their end, both streams are finished, and only then it counts
as over. Nothing is dropped on the way: a host that does not take the output holds up the end.
"""

from __future__ import annotations

import fcntl
import os
import select
import sys
import termios

from agent import bare_signal as signal
from agent.bare_tools import partial
from agent.hints import Callable, Dict, Optional
from agent.tether import log, terminal
from agent.tether.errors import StartError
from agent.tether.poller import Poller
from agent.tether.process import Launch, Process
from agent.tether.standard_input import StandardInput
from agent.wire import STDERR, STDIN, STDOUT, Endpoint, stream_of

# What is read of an output at once. A pipe holds as much: each read of a full one wakes its writer,
# who takes the processor, and what comes back from that has lost its place in every cache.
READ_BYTES = 262144
PIECE_BYTES = 131072  # of that, for the endpoint: a frame's payload at most, not copied once more


class Relayed:
    """A process by its number on the line.

    `on_start` is called when it runs its program, `on_over` once, when all of it is over. With
    `keeps_streams` its outputs are not at their end with it: another process is to go on there.
    """

    def __init__(
        self,
        number: int,
        launch: Launch,
        endpoint: Endpoint,
        poller: Poller,
        *,
        on_start: Callable[[Relayed], None],
        on_over: Callable[[Relayed], None],
        keeps_streams: bool = False,
    ) -> None:
        self.number = number
        self.pid = launch.pid
        self.status: Optional[int] = None  # as waitpid had it
        self.failure: Optional[StartError] = None  # why it never ran its program
        self.kills_before = 0  # the group's count of processes killed for want of memory
        self._launch: Optional[Launch] = launch
        self._endpoint = endpoint
        self._poller = poller
        self._on_start = on_start
        self._on_over = on_over
        self._keeps_streams = keeps_streams
        self._process: Optional[Process] = None
        self._outputs: Dict[int, int] = {}  # descriptor to stream, until its end was read
        self._paused: Dict[int, int] = {}  # stream to descriptor: without room to send
        self._input: Optional[StandardInput] = None
        self._early = bytearray()  # what came for stdin before there was one
        self._early_end = False
        self._held: Optional[int] = None  # the stream whose end waits for the process's
        self._is_cut_off = False
        self._left: Dict[int, int] = {}  # what is still read of an output that has been cut off
        self._uncredited = 0  # bytes of stdin that came in a session before this one
        poller.watch(launch.descriptor, select.EPOLLIN, self._take_report)

    @property
    def is_over(self) -> bool:
        """Whether it has ended, and its output as well."""
        if self.failure is not None:
            return True
        return self._launch is None and self.status is not None and not self._outputs

    @property
    def runs(self) -> bool:
        """Whether it has executed its program and not ended."""
        return self._process is not None and self.status is None

    def signal(self, number: int) -> None:
        """Send a signal, unless it has ended: until then its pid is its own."""
        if self.status is None and self.failure is None:
            os.kill(self.pid, number)

    def resize(self, rows: int, columns: int) -> None:
        """Set the size of its terminal, if it has one."""
        process = self._process
        if process is not None and process.has_terminal and self.status is None:
            terminal.set_size(process.stdout, rows, columns)

    def end(self, status: int) -> None:
        """Learn from the one place that waits how it ended."""
        self.status = status
        self._close_input()
        if self._process is not None and self._process.slave is not None:
            # The last one: now the master comes to its end once it has been read.
            os.close(self._process.slave)
        if self._held is not None:
            self._finish(self._held)
            self._held = None
        self._check_over()

    def cut_off(self) -> None:
        """Take what its outputs hold now for all that comes, whoever else has them open."""
        self._is_cut_off = True
        for descriptor in list(self._outputs):
            waiting = fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4))
            self._left[descriptor] = int.from_bytes(waiting, sys.byteorder)
            if not self._left[descriptor]:
                self._end_output(descriptor)

    # --- another session -------------------------------------------------------------------------

    def move(self, endpoint: Endpoint) -> None:
        """Go on in another session, whose streams have taken over what waited in the old ones."""
        self._endpoint = endpoint
        self._uncredited = len(self._early)
        if self._input is not None:
            self._uncredited += self._input.waiting_bytes
        for stream in list(self._paused):
            self.writable(stream)

    def abandon(self) -> None:
        """Kill it and let go of all that is its: there is no session any more to tell of it in."""
        self._on_over = _nothing
        self.signal(signal.SIGKILL)
        if self._launch is not None:
            self._poller.watch(self._launch.descriptor, 0, self._take_report)
            self._launch.abandon()
            self._launch = None
        self._close_input()
        descriptors = set(self._outputs)
        if self._process is not None and self._process.has_terminal and self.status is None:
            descriptors.add(self._process.stdout)
        self._outputs.clear()
        self._paused.clear()
        for descriptor in descriptors:
            self._rewatch(descriptor)
            os.close(descriptor)

    # --- the start -------------------------------------------------------------------------------

    def _take_report(self, _mask: int) -> None:
        launch = self._launch
        if launch is None:
            return
        failure = process = None
        try:
            process = launch.poll()
        except StartError as error:
            failure = error
        if process is None and failure is None:
            return
        self._poller.watch(launch.descriptor, 0, self._take_report)
        launch.close()
        self._launch = None
        if process is not None:
            self._begin(process)
        elif failure is not None:
            self._fail(failure)

    def _begin(self, process: Process) -> None:
        self._process = process
        self._on_start(self)
        self._outputs = {process.stdout: stream_of(self.number, STDOUT)}
        if process.stderr is None:
            self._finish(stream_of(self.number, STDERR))
        else:
            self._outputs[process.stderr] = stream_of(self.number, STDERR)
        for descriptor in self._outputs:
            os.set_blocking(descriptor, False)
        if process.stdin is not None:
            self._input = StandardInput(process.stdin, is_terminal=process.has_terminal)
        early, self._early = bytes(self._early), bytearray()
        if early:
            self.receive(early)
        if self._early_end:
            self.finish_input()
        self.flush()
        for descriptor in self._outputs:
            self._rewatch(descriptor)
        if self.status is not None:
            self.end(self.status)  # its parts that need a process
        if self._is_cut_off:
            self.cut_off()

    def _fail(self, error: StartError) -> None:
        self.failure = error
        log.info("process {}: {}: {}".format(self.number, error.kind, error.message))
        self._give_back(len(self._early))
        for which in (STDOUT, STDERR):
            self._finish(stream_of(self.number, which))
        self._check_over()

    # --- output ----------------------------------------------------------------------------------

    def writable(self, stream: int) -> None:
        """Go on reading what goes to a stream that takes bytes again."""
        descriptor = self._paused.pop(stream, None)
        if descriptor is not None:
            self._rewatch(descriptor)

    def _read(self, descriptor: int) -> None:
        stream = self._outputs[descriptor]
        left = self._left.get(descriptor)
        most = READ_BYTES if left is None else min(READ_BYTES, left)
        room = min(most, self._endpoint.writable(stream))
        data = b""
        if room:
            try:
                data = os.read(descriptor, room)
            except BlockingIOError:
                return
            except OSError:
                pass  # EIO: the last slave of the terminal was closed
        taken = len(data)
        if taken <= PIECE_BYTES:
            self._endpoint.send(stream, data)
        else:
            for start in range(0, taken, PIECE_BYTES):
                self._endpoint.send(stream, data[start : start + PIECE_BYTES])
        if left is not None:
            self._left[descriptor] = left = left - taken
        if (room and not taken) or left == 0:
            self._end_output(descriptor)
        elif taken == room and not self._endpoint.writable(stream):
            self._pause(descriptor)

    def _pause(self, descriptor: int) -> None:
        """Do not wake for what cannot be sent. Sending nothing asks to be told when it can."""
        stream = self._outputs[descriptor]
        self._paused[stream] = descriptor
        self._rewatch(descriptor)
        self._endpoint.send(stream, b"")

    def _end_output(self, descriptor: int) -> None:
        stream = self._outputs.pop(descriptor)
        self._paused.pop(stream, None)
        self._left.pop(descriptor, None)
        self._rewatch(descriptor)
        assert self._process is not None
        # A terminal's master may still be wanted for input, until the process has ended.
        if not self._process.has_terminal or self.status is not None:
            os.close(descriptor)
        if self._outputs or self.status is not None:
            self._finish(stream)
        else:
            # With this end its streams could be forgotten, and its number be another's, before
            # the host has been told how it ended.
            self._held = stream
        self._check_over()

    def _finish(self, stream: int) -> None:
        if not self._keeps_streams:
            self._endpoint.finish(stream)

    # --- input -----------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Take bytes for its stdin, which `flush` writes.

        What nobody will read is given back as consumed.
        """
        if self._launch is not None:
            self._early += data
        elif self._input is None:
            self._give_back(len(data))
        else:
            self._input.append(data)

    def flush(self) -> None:
        """Write what came for its stdin, as far as that goes."""
        if self._input is not None and self._input.pending:
            self._write()

    def finish_input(self) -> None:
        """Learn that no more will come."""
        if self._launch is not None:
            self._early_end = True
        elif self._input is not None:
            self._input.finish()

    def _write(self) -> None:
        assert self._input is not None
        done = self._input.write()
        self._give_back(done)
        if self._input.ended:
            self._close_input()
        else:
            self._rewatch(self._input.descriptor)

    def _close_input(self) -> None:
        """Give the credit of what nobody will read any more back, and read no more."""
        if self._input is None:
            return
        descriptor = self._input.descriptor
        dropped = self._input.discard()
        self._input = None
        self._rewatch(descriptor)
        self._give_back(dropped)
        assert self._process is not None
        if not self._process.has_terminal:
            os.close(descriptor)

    def _give_back(self, count: int) -> None:
        """Give the credit of bytes back that are disposed of, if this session gave them."""
        foreign = min(count, self._uncredited)
        self._uncredited -= foreign
        if count > foreign:
            self._endpoint.consumed(stream_of(self.number, STDIN), count - foreign)

    # --- both ------------------------------------------------------------------------------------

    def _rewatch(self, descriptor: int) -> None:
        """Watch exactly what can be served."""
        mask = 0
        stream = self._outputs.get(descriptor)
        if stream is not None and stream not in self._paused:
            mask |= select.EPOLLIN
        if self._input is not None and self._input.descriptor == descriptor and self._input.pending:
            mask |= select.EPOLLOUT
        self._poller.watch(descriptor, mask, partial(self._serve, descriptor))

    def _serve(self, descriptor: int, ready: int) -> None:
        if descriptor in self._outputs and ready & ~select.EPOLLOUT:
            self._read(descriptor)
        if (
            self._input is not None
            and self._input.descriptor == descriptor
            and self._input.pending
            and ready & ~select.EPOLLIN
        ):
            self._write()

    def _check_over(self) -> None:
        if self.is_over:
            on_over, self._on_over = self._on_over, _nothing
            on_over(self)


def _nothing(_relayed: Relayed) -> None:
    """Stand for a callback that has been called."""
