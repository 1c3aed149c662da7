"""The VMware telnet extension's numbers, under the names of its documents, and our limits.

Source: VMware, "Using a Proxy with vSphere Virtual Serial Ports" (vSphere Web Services SDK),
chapter "VMware Telnet Extension Commands for Proxy Communication". The virtual machine (its host's
VMX process) is the telnet client, the proxy the server. A suboption is the code, then parameters.

What the document leaves open, and public proxies do differently, is said where it matters.
"""

from __future__ import annotations

VMWARE_TELNET_EXT = 232  # the option's number


class Code:
    """The first byte of a suboption of VMWARE-TELNET-EXT."""

    KNOWN_SUBOPTIONS_1 = 0  # VM: list of codes
    KNOWN_SUBOPTIONS_2 = 1  # proxy: list of codes
    UNKNOWN_SUBOPTION_RCVD_1 = 2  # VM: the code that it does not know
    UNKNOWN_SUBOPTION_RCVD_2 = 3  # proxy: as above
    VMOTION_BEGIN = 40  # source host: sequence
    VMOTION_GOAHEAD = 41  # proxy: sequence, secret
    VMOTION_NOTNOW = 43  # proxy: sequence (one public proxy appends a secret)
    VMOTION_PEER = 44  # target host: sequence, secret
    VMOTION_PEER_OK = 45  # proxy: sequence (public proxies send the secret too, and it works)
    VMOTION_COMPLETE = 46  # target host: sequence
    VMOTION_ABORT = 48  # source host: sequence, or nothing
    DO_PROXY = 70  # VM: direction, service URI
    WILL_PROXY = 71  # proxy
    WONT_PROXY = 73  # proxy
    VM_VC_UUID = 80  # VM: text
    GET_VM_VC_UUID = 81  # proxy
    VM_NAME = 82
    GET_VM_NAME = 83
    VM_BIOS_UUID = 84
    GET_VM_BIOS_UUID = 85
    VM_LOCATION_UUID = 86
    GET_VM_LOCATION_UUID = 87


KNOWN_SUBOPTIONS = bytes(
    sorted(number for name, number in vars(Code).items() if not name.startswith("_"))
)

# What a VM says about itself, and how it is asked for it.
QUESTIONS = {
    Code.VM_VC_UUID: Code.GET_VM_VC_UUID,
    Code.VM_NAME: Code.GET_VM_NAME,
    Code.VM_BIOS_UUID: Code.GET_VM_BIOS_UUID,
    Code.VM_LOCATION_UUID: Code.GET_VM_LOCATION_UUID,
}

DIRECTIONS = {ord("C"): "client", ord("S"): "server"}  # of DO-PROXY, as the VM's port has it

# Four bytes are what public proxies use and hosts are known to take. No 0xFF among them: a host
# that forgets to double one inside a suboption still gives the secret back.
SECRET_BYTES = 4

# --- how long things may take, in seconds --------------------------------------------------------

# The document: a host gives up when VMOTION-BEGIN is not answered within 5000 ms, which is
# serialN.vmotionLimit.
GOAHEAD_SECONDS = 4.0  # for what is queued to leave, before the answer is NOTNOW
MOVE_SECONDS = 300.0  # from GOAHEAD to COMPLETE or ABORT
COMPLETE_SECONDS = 60.0  # for the target or its COMPLETE, once the source has closed
PEER_SECONDS = 5.0  # for a connection of a VM that is on the move to say that it is the target
DRAIN_SECONDS = 5.0  # of silence before a source that does not close is closed
REPLACED_SECONDS = 1.0  # as above, for a connection whose VM has come back on another
IDENTIFY_SECONDS = 15.0  # from accept to a VM that is known and allowed; TLS included
CLOSE_SECONDS = 1.0  # for a refusal to reach the one who is refused

# --- how much may wait, in bytes -----------------------------------------------------------------

READ_BYTES = 65536  # of one connection, in one turn
UNIDENTIFIED_BYTES = 65536  # from a VM that is not known yet
HOLD_BYTES = 65536  # each way, while a VM moves
QUEUE_BYTES = 65536  # towards a VM that does not read
DRAIN_BYTES = 16 << 20  # from a source after COMPLETE; more than any socket buffers
NAME_CHARACTERS = 255  # of a name or URI; longer ones are cut
OLDER_CONNECTIONS = 3  # of one VM that are still read while a newer one waits
REPLIES = 1000  # answers of ours that a client may leave unread
