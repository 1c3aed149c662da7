"""Names and numbers of OVF: DMTF DSP0243 1.1.0, its CIM classes, and what VMware adds to them.

VMware's are those of descriptors that its own tools write, and of vmware/govmomi's ovf package.
"""

from __future__ import annotations

from enum import IntEnum

ENVELOPE = "http://schemas.dmtf.org/ovf/envelope/1"
CIM = "http://schemas.dmtf.org/wbem/wscim/1/common"
RASD = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
VSSD = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData"
VMW = "http://www.vmware.com/schema/ovf"
XSI = "http://www.w3.org/2001/XMLSchema-instance"
NAMESPACES = {
    "xmlns": ENVELOPE,
    "xmlns:cim": CIM,
    "xmlns:ovf": ENVELOPE,
    "xmlns:rasd": RASD,
    "xmlns:vmw": VMW,
    "xmlns:vssd": VSSD,
    "xmlns:xsi": XSI,
}

DISK_FORMAT = "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"
TRANSPORT = "com.vmware.guestInfo"  # the OVF environment is the variable guestinfo.ovfEnv

# ESXi 6.5's. EFI came with vmx-08, pvscsi and vmxnet3 with vmx-07; older hosts are out of support.
HARDWARE_VERSION = "vmx-13"

CIM_LINUX_64 = 101  # CIM_OperatingSystem.OSType "Linux 64-Bit"
# The oldest of the names that have pvscsi, vmxnet3 and EFI, so that ESXi 6.5 knows it.
GUEST_ID = "other3xLinux64Guest"


class ResourceType(IntEnum):
    """CIM_ResourceAllocationSettingData.ResourceType, as far as it is used."""

    OTHER = 1
    PROCESSOR = 3
    MEMORY = 4
    IDE_CONTROLLER = 5
    SCSI_CONTROLLER = 6
    ETHERNET_ADAPTER = 10
    CD_DRIVE = 15
    DISK_DRIVE = 17
    SERIAL_PORT = 21


CONTROLLER_UNIT = 7  # a SCSI controller's own place among its units
FIRST_ADAPTER_UNIT = 7  # where VMware's tools have the first network adapter

# rasd:ResourceSubType
PVSCSI = "VirtualSCSI"
VMXNET3 = "VmxNet3"
CDROM_ISO = "vmware.cdrom.iso"
SERIAL_URI = "vmware.serialport.uri"
SERIAL_FILE = "vmware.serialport.file"
VMCI = "vmware.vmci"

# What a guest's line is called at a concentrator, which tells machines apart by other things.
SERVICE_URI = "saltflat"

UNITS_BYTE = "byte"
UNITS_MIB = "byte * 2^20"
UNITS_MHZ = "hertz * 10^6"

DISK_LINK = "ovf:/disk/"  # and a diskId: where a drive's content is (rasd:HostResource)
FILE_LINK = "ovf:/file/"
