"""Numbers and layouts of rtnetlink, under the kernel's own names.

Owns constants and structures only; all fields are in the machine's byte order. Sources are the
UAPI headers named above each block. What Python 3.8's socket has is not repeated here.
"""

from __future__ import annotations

import struct

# linux/netlink.h
NETLINK_ROUTE = 0
NLMSGHDR = struct.Struct("=IHHII")  # length with this header, type, flags, sequence, port
NLMSG_ALIGNTO = 4
NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_REPLACE = 0x100
NLM_F_DUMP = 0x300  # NLM_F_ROOT | NLM_F_MATCH
NLM_F_CREATE = 0x400
NLMSG_ERROR = 2
NLMSG_DONE = 3
NLMSGERR = struct.Struct("=i")  # 0 or a negative errno; the request follows

# linux/rtnetlink.h
RTM_GETLINK = 18
RTM_SETLINK = 19
RTM_NEWADDR = 20
RTM_DELADDR = 21
RTM_GETADDR = 22
RTM_NEWROUTE = 24
RTM_DELROUTE = 25
RTMGRP_LINK = 0x1
RTMGRP_IPV4_IFADDR = 0x10
RTMGRP_IPV6_IFADDR = 0x100
RTATTR = struct.Struct("=HH")  # length with this header, type
RTMSG = struct.Struct("=8BI")  # family dst_len src_len tos table protocol scope type; flags
RTA_DST = 1
RTA_OIF = 4
RTA_GATEWAY = 5
RTA_PRIORITY = 6
RT_TABLE_MAIN = 254
RTPROT_STATIC = 4
RT_SCOPE_UNIVERSE = 0
RT_SCOPE_LINK = 253
RTN_UNICAST = 1
RTNH_F_ONLINK = 4

# linux/rtnetlink.h, linux/if_link.h, linux/if_arp.h
IFINFOMSG = struct.Struct("=BxHiII")  # family, type, index, flags, which flags to change
IFLA_ADDRESS = 1
IFLA_IFNAME = 3
IFLA_MTU = 4
ARPHRD_ETHER = 1

# linux/if_addr.h
IFADDRMSG = struct.Struct("=4BI")  # family, prefix length, flags, scope; index
IFA_ADDRESS = 1
IFA_LOCAL = 2
IFA_BROADCAST = 4
IFA_CACHEINFO = 6
IFA_FLAGS = 8
IFA_F_NODAD = 0x02
IFA_F_DADFAILED = 0x08
IFA_F_TENTATIVE = 0x40
CACHEINFO = struct.Struct("=4I")  # preferred and valid seconds; two times that are the kernel's
FOREVER = 0xFFFFFFFF

# linux/rtnetlink.h: what the kernel leaves of a router's advertisement to user space
RTM_NEWNDUSEROPT = 68
RTMGRP_ND_USEROPT = 0x80000  # 1 << (RTNLGRP_ND_USEROPT - 1)
NDUSEROPTMSG = struct.Struct("=BxHiBB6x")  # family, length of the options, index, ICMP type, code
