"""ext4 on disk: names, offsets and constants as in Linux's fs/ext4/ext4.h and its documentation.

Source: the kernel's Documentation/filesystems/ext4 (super.rst, group_descr.rst, inodes.rst,
directory.rst, attributes.rst, ifork.rst). All integers are little-endian. Only what this writer
uses is named; what is not named is zero.
"""

from __future__ import annotations

from struct import Struct

BLOCK_SIZE = 4096
LOG_BLOCK_SIZE = 2  # s_log_block_size: block size is 2 ** (10 + this)
BLOCKS_PER_GROUP = 8 * BLOCK_SIZE  # one bitmap block describes one group
SECTORS_PER_BLOCK = BLOCK_SIZE // 512  # i_blocks counts 512-byte sectors
INODE_SIZE = 256
INODES_PER_BLOCK = BLOCK_SIZE // INODE_SIZE

# struct ext4_super_block

SUPERBLOCK_OFFSET = 1024
SUPERBLOCK_SIZE = 1024
EXT4_SUPER_MAGIC = 0xEF53
SUPERBLOCK = Struct(
    "<"
    "IIIIIIIIIIIII"  # 0x00 s_inodes_count, s_blocks_count_lo, s_r_blocks_count_lo,
    #                       s_free_blocks_count_lo, s_free_inodes_count, s_first_data_block,
    #                       s_log_block_size, s_log_cluster_size, s_blocks_per_group,
    #                       s_clusters_per_group, s_inodes_per_group, s_mtime, s_wtime
    "HHHHHH"  # 0x34 s_mnt_count, s_max_mnt_count, s_magic, s_state, s_errors, s_minor_rev_level
    "IIII"  # 0x40 s_lastcheck, s_checkinterval, s_creator_os, s_rev_level
    "HH"  # 0x50 s_def_resuid, s_def_resgid
    "I"  # 0x54 s_first_ino
    "HH"  # 0x58 s_inode_size, s_block_group_nr
    "III"  # 0x5C s_feature_compat, s_feature_incompat, s_feature_ro_compat
    "16s16s64s"  # 0x68 s_uuid, s_volume_name, s_last_mounted
    "I"  # 0xC8 s_algorithm_usage_bitmap
    "BBH"  # 0xCC s_prealloc_blocks, s_prealloc_dir_blocks, s_reserved_gdt_blocks
    "16sIII"  # 0xD0 s_journal_uuid, s_journal_inum, s_journal_dev, s_last_orphan
    "16s"  # 0xEC s_hash_seed
    "BBH"  # 0xFC s_def_hash_version, s_jnl_backup_type, s_desc_size
    "II"  # 0x100 s_default_mount_opts, s_first_meta_bg
    "I"  # 0x108 s_mkfs_time
    "68s"  # 0x10C s_jnl_blocks: i_block of the journal's inode, then its size (high, low)
    "III"  # 0x150 s_blocks_count_hi, s_r_blocks_count_hi, s_free_blocks_count_hi
    "HH"  # 0x15C s_min_extra_isize, s_want_extra_isize
    "I"  # 0x160 s_flags
    "HHQ"  # 0x164 s_raid_stride, s_mmp_interval, s_mmp_block
    "I"  # 0x170 s_raid_stripe_width
    "B"  # 0x174 s_log_groups_per_flex
    "651x"  # 0x175 to the end: checksums, snapshots, error records, quotas: unused
)

EXT4_VALID_FS = 1  # s_state: cleanly unmounted
EXT4_ERRORS_CONTINUE = 1
EXT4_DYNAMIC_REV = 1
EXT4_DFL_MAX_MNT_COUNT = 0xFFFF  # never force a check by count
EXT2_FLAGS_SIGNED_HASH = 1
DX_HASH_HALF_MD4 = 1
EXT3_JNL_BACKUP_BLOCKS = 1
EXT4_DEFM_XATTR_USER = 0x4
EXT4_DEFM_ACL = 0x8

EXT4_FEATURE_COMPAT_HAS_JOURNAL = 0x4
EXT4_FEATURE_COMPAT_EXT_ATTR = 0x8
EXT4_FEATURE_COMPAT_DIR_INDEX = 0x20
EXT4_FEATURE_INCOMPAT_FILETYPE = 0x2
EXT4_FEATURE_INCOMPAT_EXTENTS = 0x40
EXT4_FEATURE_INCOMPAT_FLEX_BG = 0x200
EXT4_FEATURE_RO_COMPAT_SPARSE_SUPER = 0x1
EXT4_FEATURE_RO_COMPAT_LARGE_FILE = 0x2
EXT4_FEATURE_RO_COMPAT_HUGE_FILE = 0x8
EXT4_FEATURE_RO_COMPAT_GDT_CSUM = 0x10
EXT4_FEATURE_RO_COMPAT_DIR_NLINK = 0x20
EXT4_FEATURE_RO_COMPAT_EXTRA_ISIZE = 0x40

# struct ext4_group_desc, its first 32 bytes (no 64bit feature)

GROUP_DESC_SIZE = 32
GROUP_DESC_CHECKSUM_OFFSET = 30
GROUP_DESC = Struct(
    "<"
    "III"  # 0x00 bg_block_bitmap_lo, bg_inode_bitmap_lo, bg_inode_table_lo
    "HHHH"  # 0x0C bg_free_blocks_count_lo, bg_free_inodes_count_lo, bg_used_dirs_count_lo, bg_flags
    "IHH"  # 0x14 bg_exclude_bitmap_lo, bg_block_bitmap_csum_lo, bg_inode_bitmap_csum_lo
    "H"  # 0x1C bg_itable_unused_lo
)  # 0x1E bg_checksum: crc16 of s_uuid, the group's number and the 30 bytes above
EXT4_BG_INODE_UNINIT = 1
EXT4_BG_BLOCK_UNINIT = 2
EXT4_BG_INODE_ZEROED = 4

# struct ext4_inode

INODE = Struct(
    "<"
    "HH"  # 0x00 i_mode, i_uid
    "IIIII"  # 0x04 i_size_lo, i_atime, i_ctime, i_mtime, i_dtime
    "HH"  # 0x18 i_gid, i_links_count
    "III"  # 0x1C i_blocks_lo, i_flags, osd1
    "60s"  # 0x28 i_block
    "IIII"  # 0x64 i_generation, i_file_acl_lo, i_size_high, i_obso_faddr
    "HHHHHH"  # 0x74 l_i_blocks_high, l_i_file_acl_high, l_i_uid_high, l_i_gid_high,
    #                l_i_checksum_lo, l_i_reserved
    "HH"  # 0x80 i_extra_isize, i_checksum_hi
    "IIIIIII"  # 0x84 i_ctime_extra, i_mtime_extra, i_atime_extra, i_crtime, i_crtime_extra,
    #                 i_version_hi, i_projid
)
INODE_EXTRA_ISIZE = 32  # the fields behind the first 128 bytes, up to i_projid
INODE_XATTR_OFFSET = 128 + INODE_EXTRA_ISIZE
I_LINKS_COUNT_OFFSET = 0x1A
I_BLOCK_OFFSET = 0x28

S_IFIFO = 0x1000
S_IFCHR = 0x2000
S_IFDIR = 0x4000
S_IFBLK = 0x6000
S_IFREG = 0x8000
S_IFLNK = 0xA000

# include/linux/kdev_t.h: what new_encode_dev() has bits for in i_block of a device
MAX_MAJOR = 1 << 12
MAX_MINOR = 1 << 20

EXT4_EXTENTS_FL = 0x80000
EXT4_ROOT_INO = 2
EXT4_JOURNAL_INO = 8
EXT4_GOOD_OLD_FIRST_INO = 11  # inodes below this are reserved
EXT4_LINK_MAX = 65000
FAST_SYMLINK_MAX = 59  # a longer text takes a block

# struct ext4_extent_header, ext4_extent, ext4_extent_idx

EXT4_EXT_MAGIC = 0xF30A
EXTENT_HEADER = Struct("<HHHHI")  # eh_magic, eh_entries, eh_max, eh_depth, eh_generation
EXTENT = Struct("<IHHI")  # ee_block, ee_len, ee_start_hi, ee_start_lo
EXTENT_IDX = Struct("<IIHH")  # ei_block, ei_leaf_lo, ei_leaf_hi, ei_unused
I_BLOCK_ONE_EXTENT = Struct("<HHHHIIHHI36x")  # the header and the only extent, as i_block
EXT_INIT_MAX_LEN = 1 << 15  # blocks in one initialised extent
EXTENTS_IN_INODE = 4
EXTENTS_PER_BLOCK = (BLOCK_SIZE - EXTENT_HEADER.size) // EXTENT.size

# struct ext4_dir_entry_2

DIR_ENTRY = Struct("<IHBB")  # inode, rec_len, name_len, file_type; then the name, padded to 4
EXT4_FT_DIR = 2

# struct ext4_xattr_ibody_header, ext4_xattr_header, ext4_xattr_entry

EXT4_XATTR_MAGIC = 0xEA020000
XATTR_IBODY_HEADER = Struct("<I")  # h_magic
XATTR_HEADER = Struct("<IIIII12x")  # h_magic, h_refcount, h_blocks, h_hash, h_checksum
XATTR_ENTRY = Struct("<BBHIII")  # e_name_len, e_name_index, e_value_offs, e_value_inum,
#                                  e_value_size, e_hash; then the name, padded to 4
XATTR_PREFIXES = (  # (prefix, e_name_index), the longest first where one contains another
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"user.", 1),
    (b"trusted.", 4),
    (b"security.", 6),
    (b"system.", 7),
)

# POSIX ACLs: as xattrs (linux/posix_acl_xattr.h) and as ext4 stores them (fs/ext4/acl.h)

POSIX_ACL_XATTR_VERSION = 2
POSIX_ACL_XATTR_ENTRY = Struct("<HHI")  # e_tag, e_perm, e_id
EXT4_ACL_VERSION = 1
ACL_VERSION = Struct("<I")
EXT4_ACL_ENTRY = Struct("<HHI")  # for ACL_USER and ACL_GROUP
EXT4_ACL_ENTRY_SHORT = Struct("<HH")  # for the other tags, which have no id
ACL_USER_OBJ = 0x01
ACL_USER = 0x02
ACL_GROUP_OBJ = 0x04
ACL_GROUP = 0x08
ACL_MASK = 0x10
ACL_OTHER = 0x20
ACL_PERMISSIONS = 0o7
ACL_UNDEFINED_ID = 0xFFFFFFFF  # of an entry whose tag says whom it means

# struct journal_superblock_s (fs/jbd2, include/linux/jbd2.h). Big-endian, unlike all else.

JBD2_MAGIC_NUMBER = 0xC03B3998
JBD2_SUPERBLOCK_V2 = 4
JOURNAL_SUPERBLOCK = Struct(
    ">"
    "III"  # h_magic, h_blocktype, h_sequence
    "IIIIII"  # s_blocksize, s_maxlen, s_first, s_sequence, s_start (0: empty), s_errno
    "III"  # s_feature_compat, s_feature_incompat, s_feature_ro_compat
    "16sI"  # s_uuid, s_nr_users
)
