"""Generic netlink, as far as ACPI's events need it. Owns constants and structure layouts only.

Sources: linux/netlink.h, linux/genetlink.h, and drivers/acpi/event.c, whose family has no header.
"""

from __future__ import annotations

import struct

NETLINK_GENERIC = 16
SOL_NETLINK = 270
NETLINK_ADD_MEMBERSHIP = 1
NLM_F_REQUEST = 1
NLMSG_ERROR = 2
NLMSG_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
ALIGNMENT = 4

GENL_ID_CTRL = 0x10
GENL_HEADER = struct.Struct("=BBH")  # command, version, reserved
CTRL_CMD_GETFAMILY = 3
CTRL_ATTR_FAMILY_NAME = 2
CTRL_ATTR_MCAST_GROUPS = 7
CTRL_ATTR_MCAST_GRP_NAME = 1
CTRL_ATTR_MCAST_GRP_ID = 2
ATTRIBUTE_HEADER = struct.Struct("=HH")  # length with the header, type
ATTRIBUTE_TYPE_MASK = 0x3FFF

ACPI_FAMILY = b"acpi_event"
ACPI_GROUP = b"acpi_mc_group"
ACPI_ATTR_EVENT = 1
# struct acpi_genl_event: device class, bus id, type, data
ACPI_EVENT = struct.Struct("=20s15sxII")
POWER_BUTTON_CLASS = b"button/power"
