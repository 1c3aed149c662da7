"""Numbers of the Linux kernel interface on x86-64, under the kernel's own names.

Owns constants and structure layouts only. Sources are the UAPI headers named above each block;
what Python 3.8's own modules already name (errno, signal, termios, socket) is not repeated here.
"""

from __future__ import annotations

import struct

# asm/unistd_64.h
SYS_mmap = 9
SYS_mprotect = 10
SYS_capset = 126
SYS_mount = 165
SYS_umount2 = 166
SYS_reboot = 169
SYS_sethostname = 170
SYS_delete_module = 176
SYS_setns = 308
SYS_finit_module = 313
SYS_seccomp = 317
SYS_bpf = 321
SYS_open_tree = 428
SYS_move_mount = 429
SYS_pidfd_open = 434
SYS_clone3 = 435
SYS_close_range = 436
SYS_mount_setattr = 442

# linux/mount.h
MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_SYNCHRONOUS = 0x10
MS_REMOUNT = 0x20
MS_DIRSYNC = 0x80
MS_NOATIME = 0x400
MS_NODIRATIME = 0x800
MS_BIND = 0x1000
MS_MOVE = 0x2000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MS_RELATIME = 0x200000
MS_STRICTATIME = 0x1000000
MNT_DETACH = 0x2
OPEN_TREE_CLONE = 0x1
MOVE_MOUNT_F_EMPTY_PATH = 0x4  # the source is the descriptor itself
MOUNT_ATTR_RDONLY = 0x1
# struct mount_attr: attr_set attr_clr propagation userns_fd
MOUNT_ATTR = struct.Struct("=4Q")

# linux/fcntl.h
AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000

# linux/sched.h
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
CLONE_INTO_CGROUP = 0x200000000
PF_EXITING = 0x4  # in the flags of /proc/PID/stat
# struct clone_args: flags pidfd child_tid parent_tid exit_signal stack stack_size tls set_tid
# set_tid_size cgroup
CLONE_ARGS = struct.Struct("=11Q")

# linux/reboot.h
LINUX_REBOOT_MAGIC1 = 0xFEE1DEAD
LINUX_REBOOT_MAGIC2 = 0x28121969
LINUX_REBOOT_CMD_CAD_OFF = 0x00000000
LINUX_REBOOT_CMD_POWER_OFF = 0x4321FEDC

# asm-generic/mman-common.h, linux/mman.h
PROT_READ = 1
PROT_WRITE = 2
PROT_EXEC = 4
MAP_PRIVATE = 0x2
MAP_ANONYMOUS = 0x20

# linux/prctl.h
PR_SET_DUMPABLE = 4
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38

# linux/seccomp.h, linux/filter.h
SECCOMP_SET_MODE_FILTER = 1
SOCK_FILTER_BYTES = 8
SOCK_FPROG = struct.Struct("=H6xQ")  # count of instructions, their address

# linux/capability.h
LINUX_CAPABILITY_VERSION_3 = 0x20080522
CAP_HEADER = struct.Struct("=Ii")  # version, pid
CAP_DATA = struct.Struct("=6I")  # effective, permitted, inheritable; low words, then high words

# linux/fs.h, linux/ext4.h
BLKGETSIZE64 = 0x80081272
FIFREEZE = 0xC0045877
EXT4_IOC_RESIZE_FS = 0x40086610  # argument: u64, the new size in blocks of the file system

# asm-generic/ioctls.h
TIOCEXCL = 0x540C
TIOCSPTLCK = 0x40045431
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
F_SETPIPE_SZ = 1031  # linux/fcntl.h; the library has it since 3.10
TIOCGPTPEER = 0x5441
WINSIZE = struct.Struct("=4H")  # rows, columns, x pixels, y pixels

# linux/netlink.h
NETLINK_KOBJECT_UEVENT = 15
UEVENT_GROUP_KERNEL = 1

# linux/sockios.h, linux/if.h
SIOCGIFFLAGS = 0x8913
SIOCSIFFLAGS = 0x8914
IFF_UP = 0x1
IFF_RUNNING = 0x40  # its operational state is up, or nothing has changed it yet
IFF_LOWER_UP = 0x10000  # there is a carrier
IFREQ_FLAGS = struct.Struct("=16sh22x")  # name, flags; struct ifreq is 40 bytes

# linux/pci_ids.h, linux/virtio_ids.h: (vendor, device)
PCI_VMWARE_VMCI = (0x15AD, 0x0740)
PCI_VMWARE_PVSCSI = (0x15AD, 0x07C0)
PCI_VMWARE_AHCI = (0x15AD, 0x07E0)
PCI_VMWARE_NVME = (0x15AD, 0x07F0)
PCI_LSI_53C1030 = (0x1000, 0x0030)  # VMware's "LSI Logic Parallel"
PCI_LSI_SAS1068 = (0x1000, 0x0054)  # VMware's "LSI Logic SAS"
PCI_INTEL_ICH9_AHCI = (0x8086, 0x2922)  # QEMU's
PCI_QEMU_NVME = (0x1B36, 0x0010)
PCI_VMWARE_VMXNET3 = (0x15AD, 0x07B0)
PCI_INTEL_82574L = (0x8086, 0x10D3)
PCI_VIRTIO_NET = (0x1AF4, 0x1000)
PCI_VIRTIO_BLOCK = (0x1AF4, 0x1001)  # transitional
PCI_VIRTIO_CONSOLE = (0x1AF4, 0x1003)
PCI_VIRTIO_SCSI = (0x1AF4, 0x1004)
PCI_VIRTIO_VSOCK = (0x1AF4, 0x1012)
PCI_VIRTIO_1_NET = (0x1AF4, 0x1041)
PCI_VIRTIO_1_BLOCK = (0x1AF4, 0x1042)  # 0x1040 + virtio device id
PCI_VIRTIO_1_CONSOLE = (0x1AF4, 0x1043)
PCI_VIRTIO_1_SCSI = (0x1AF4, 0x1048)
PCI_VIRTIO_1_VSOCK = (0x1AF4, 0x1053)
