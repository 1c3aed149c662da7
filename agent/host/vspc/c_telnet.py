"""Telnet's numbers, under the names of its specifications.

Sources: RFC 854 (commands), RFC 855 (options, suboptions), RFC 856 (BINARY), RFC 857 (ECHO),
RFC 858 (SUPPRESS-GO-AHEAD).
"""

from __future__ import annotations

# --- commands, each after an IAC (RFC 854) -------------------------------------------------------

SE = 240  # end of a suboption
SB = 250  # begin of a suboption
WILL = 251  # the sender uses an option, or offers to
WONT = 252
DO = 253  # the sender wants the other side to use an option
DONT = 254
IAC = 255  # "interpret as command"; as data it is doubled

# --- options -------------------------------------------------------------------------------------

BINARY = 0  # RFC 856: all eight bits are data; CR and NUL mean nothing
ECHO = 1  # RFC 857
SGA = 3  # RFC 858

# --- limits of ours ------------------------------------------------------------------------------

# The longest suboption of the VMware extension is a name or a URI, both far below.
MAX_SUBOPTION_BYTES = 4096  # on the line: doubled bytes count twice
