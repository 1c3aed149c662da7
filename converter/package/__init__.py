"""Packages of a chain's disks, as other tools take them, and where their disks are from."""
