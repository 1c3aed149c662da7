"""What can go wrong with the concentrator itself, rather than with one VM."""

from __future__ import annotations

from agent.host.errors import ChannelError


class RuleError(ChannelError):
    """A rule of the allow-list cannot be read."""

    kind = "rule"


class ListenError(ChannelError):
    """An address cannot be listened on, or cannot be read."""

    kind = "listen"


class BusyError(ChannelError):
    """Another concentrator uses the same directory of sockets."""

    kind = "busy"
