"""The bill of materials of a boot image: its packages, their sources and licences, its files."""
