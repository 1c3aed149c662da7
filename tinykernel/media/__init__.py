"""What a machine boots from besides a bare kernel: EFI executables, ISO images, disks."""
