"""ELF-64 little endian, as "Tool Interface Standard ELF 1.2" and the System V gABI name it.

Only what naming a library's needs and reading a module's .modinfo take. No logic.
"""

from __future__ import annotations

import struct

ELFMAG = b"\x7fELF"
ELFCLASS64 = 2  # e_ident[EI_CLASS]
ELFDATA2LSB = 1  # e_ident[EI_DATA]
EI_CLASS = 4
EI_DATA = 5

# e_ident[16] e_type e_machine e_version e_entry e_phoff e_shoff e_flags e_ehsize
# e_phentsize e_phnum e_shentsize e_shnum e_shstrndx
ELF64_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
# p_type p_flags p_offset p_vaddr p_paddr p_filesz p_memsz p_align
ELF64_PHDR = struct.Struct("<IIQQQQQQ")
# sh_name sh_type sh_flags sh_addr sh_offset sh_size sh_link sh_info sh_addralign sh_entsize
ELF64_SHDR = struct.Struct("<IIQQQQIIQQ")
# d_tag d_val
ELF64_DYN = struct.Struct("<qQ")

PT_LOAD = 1
PT_DYNAMIC = 2
PT_INTERP = 3

DT_NULL = 0
DT_NEEDED = 1
DT_STRTAB = 5

SHT_NOBITS = 8

# Linux Standard Base, "Exception Frames".
UNWIND_SECTIONS = (".eh_frame", ".eh_frame_hdr")
