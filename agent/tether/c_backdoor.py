"""Numbers of VMware's backdoor: an I/O port that the hypervisor answers itself, from any ring.

Source: open-vm-tools, lib/include/backdoor_def.h and backdoor_types.h, lib/include/guest_msg_def.h,
lib/message/message.c. Registers are 32 bits wide, but for addresses.
"""

from __future__ import annotations

BDOOR_MAGIC = 0x564D5868
BDOOR_PORT = 0x5658
BDOORHB_PORT = 0x5659  # "high bandwidth": a whole block by one instruction

BDOOR_CMD_GETVERSION = 10
BDOOR_CMD_MESSAGE = 30
BDOOR_CMD_GETTIMEFULL = 46  # seconds in ESI:EDX, microseconds in EBX; EAX stays the magic number
BDOORHB_CMD_MESSAGE = 0

# In ECX's high half: what is done with a channel.
MESSAGE_TYPE_OPEN = 0
MESSAGE_TYPE_SENDSIZE = 1
MESSAGE_TYPE_SENDPAYLOAD = 2
MESSAGE_TYPE_RECVSIZE = 3
MESSAGE_TYPE_RECVPAYLOAD = 4
MESSAGE_TYPE_RECVSTATUS = 5
MESSAGE_TYPE_CLOSE = 6

# What came of it, there too; behind a block in EBX's high half.
MESSAGE_STATUS_SUCCESS = 0x01
MESSAGE_STATUS_DORECV = 0x02
MESSAGE_STATUS_CPT = 0x10  # a checkpoint came in between: the message is to be begun anew
MESSAGE_STATUS_HB = 0x80  # blocks can be had

RPCI_PROTOCOL = 0x49435052
TCLO_PROTOCOL = 0x4F4C4354
GUESTMSG_FLAG_COOKIE = 0x80000000  # the channel is to have a cookie, which nobody else knows
