"""Numbers and words of VMware's guest RPC, under the names of open-vm-tools.

Sources: open-vm-tools, lib/include/vmware/guestrpc/tclodefs.h and powerops.h, lib/dataMap/dataMap.c
and lib/rpcChannel/simpleSocket.c (packets: integers are big-endian, a 64-bit one is its low half,
then its high), services/plugins/guestInfo, lib/include/guestInfo.h (GuestInfoType).
"""

from __future__ import annotations

import struct

VMCI_HYPERVISOR_CONTEXT_ID = 0
GUESTRPC_RPCI_VSOCK_LISTEN_PORT = 976
GUESTRPC_TCLO_VSOCK_LISTEN_PORT = 975
PRIVILEGED_PORT_MAX = 1023  # a local port up to here says that the caller is privileged

DMFIELDTYPE_INT64 = 1
DMFIELDTYPE_STRING = 2

GUESTRPCPKT_FIELD_TYPE = 1
GUESTRPCPKT_FIELD_PAYLOAD = 2
GUESTRPCPKT_TYPE_DATA = 1
GUESTRPCPKT_TYPE_PING = 2

LENGTH = struct.Struct(">I")  # of all that follows
FIELD = struct.Struct(">II")  # type, id; then the value
INT64 = struct.Struct(">II")  # low, high
STRING = struct.Struct(">I")  # length; then the bytes

GUESTMSG_MAX_IN_SIZE = 65536  # guest to hypervisor
REPLY_BYTES = 1 << 20  # hypervisor to guest; a little more than it sends

# The hypervisor's heartbeats, on which its high availability depends (RPCIN_HEARTBEAT_INTERVAL).
HEARTBEAT_SECONDS = 1.0

# States of the operating system that the hypervisor asks for (GuestOsState, guestrpc/powerops.h).
GUESTOS_STATECHANGE_HALT = 1
GUESTOS_STATECHANGE_REBOOT = 2
GUESTOS_STATECHANGE_POWERON = 3
GUESTOS_STATECHANGE_RESUME = 4
GUESTOS_STATECHANGE_SUSPEND = 5

TOOLS_VERSION_UNMANAGED = 0x7FFFFFFF  # whoever made the guest looks after it
TOOLS_TYPE_OVT = 4  # open-vm-tools, and what is like it

# What a guest says of itself (SetGuestInfo).
INFO_DNS_NAME = 1
INFO_OS_NAME_FULL = 5
INFO_OS_NAME = 6
INFO_IPADDRESS_V2 = 9
INFO_IPADDRESS_V3 = 10
MAX_VALUE_LEN = 100  # of a text, its NUL included
