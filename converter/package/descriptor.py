"""Write the OVF descriptor of a package: an envelope of OVF 1.1, as vSphere reads it.

Owns the XML, and nothing else: the same package gives the same bytes. Sources: DSP0243 1.1.0 (in
the comments: its sections), DSP8023 for the order of elements; inside an Item they are in the order
of the alphabet, VMware's behind them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree as ET

from converter.errors import UsageError
from converter.package import c_ovf as c
from converter.package.model import Package, PackageDisk, PropertySection, SerialPort

# XML 1.0, production 2: nothing else may be in a document, not even as a reference.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def is_xml_text(text: str) -> bool:
    """Say whether XML can express `text`: no control characters, no lone surrogates."""
    return _NOT_XML.search(text) is None


def encode_descriptor(package: Package, *, length: int = 0) -> bytes:
    """Return the descriptor's bytes, with spaces behind its end up to `length`.

    In names and texts for people U+FFFD takes the place of what XML cannot express. Raises
    UsageError for such a property, ValueError for a disk before its parent or of another size, or
    a descriptor that is longer.
    """
    _check(package)
    root = ET.Element("Envelope", c.NAMESPACES)
    _references(root, package)
    _disk_section(root, package)
    _network_section(root, package)
    system = ET.SubElement(root, "VirtualSystem", {"ovf:id": _text(package.name)})
    _leaf(system, "Info", "A virtual machine")
    _leaf(system, "Name", package.name)
    attributes = {"ovf:id": str(c.CIM_LINUX_64), "vmw:osType": c.GUEST_ID}
    guest = ET.SubElement(system, "OperatingSystemSection", attributes)
    _leaf(guest, "Info", "The kind of installed guest operating system")
    _leaf(guest, "Description", "Linux, 64 bits")
    _hardware(system, package)
    _products(system, package)
    notes = ET.SubElement(system, "AnnotationSection")
    _leaf(notes, "Info", "What the machine was made of")
    _leaf(notes, "Annotation", package.annotation)
    ET.indent(root, " ")
    text = ET.tostring(root, encoding="unicode", xml_declaration=False)
    data = f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'.encode()
    if length and len(data) > length:
        raise ValueError(f"a descriptor of {len(data)} bytes in {length}")
    return data if len(data) >= length else data[:-1].ljust(length - 1) + b"\n"


def _check(package: Package) -> None:
    capacities: dict[str, int] = {}
    for disk in package.disks:
        parent = disk.capacity_bytes if disk.parent is None else capacities.get(disk.parent)
        if parent != disk.capacity_bytes:
            raise ValueError(f"{disk.file.name}: no parent of its size before it")
        capacities[disk.file.name] = disk.capacity_bytes
    for section in package.sections:
        for prop in section.properties:
            if not is_xml_text(prop.key + prop.value):
                raise UsageError(
                    f"The property {section.class_name}.{prop.key!r} has characters that XML "
                    "cannot express.",
                    expected="text without control characters",
                )


def _references(root: ET.Element, package: Package) -> None:
    """7.1: every file, in the order in which a reader of a stream needs them."""
    references = ET.SubElement(root, "References")
    for number, file in enumerate(package.files, 1):
        attributes = {"ovf:id": f"file{number}", "ovf:href": file.name}
        if file.size_bytes is not None:
            attributes["ovf:size"] = str(file.size_bytes)
        ET.SubElement(references, "File", attributes)


def _disk_section(root: ET.Element, package: Package) -> None:
    """9.1: parents before children, so that who reads a stream has them."""
    section = ET.SubElement(root, "DiskSection")
    _leaf(section, "Info", "The disks")
    for number, disk in enumerate(package.disks, 1):
        attributes = {
            "ovf:diskId": _disk_id(package, disk.file.name),
            "ovf:fileRef": f"file{number}",
            "ovf:capacity": str(disk.capacity_bytes),
            "ovf:capacityAllocationUnits": c.UNITS_BYTE,
            "ovf:format": c.DISK_FORMAT,
        }
        if disk.populated_bytes is not None:
            attributes["ovf:populatedSize"] = str(disk.populated_bytes)
        if disk.parent is not None:
            attributes["ovf:parentRef"] = _disk_id(package, disk.parent)
        ET.SubElement(section, "Disk", attributes)


def _disk_id(package: Package, file_name: str) -> str:
    names = [disk.file.name for disk in package.disks]
    return f"vmdisk{names.index(file_name) + 1}"


def _network_section(root: ET.Element, package: Package) -> None:
    """9.2: each network that an adapter is connected to."""
    if not package.networks:
        return
    section = ET.SubElement(root, "NetworkSection")
    _leaf(section, "Info", "The networks")
    for name in dict.fromkeys(map(_text, package.networks)):
        network = ET.SubElement(section, "Network", {"ovf:name": name})
        _leaf(network, "Description", f"The network {name}")


def _hardware(system: ET.Element, package: Package) -> None:
    """8: what the machine is made of."""
    section = ET.SubElement(system, "VirtualHardwareSection", {"ovf:transport": c.TRANSPORT})
    _leaf(section, "Info", "The virtual hardware")
    general = ET.SubElement(section, "System")
    _leaf(general, "vssd:ElementName", "Virtual Hardware Family")
    _leaf(general, "vssd:InstanceID", "0")
    _leaf(general, "vssd:VirtualSystemIdentifier", package.name)
    _leaf(general, "vssd:VirtualSystemType", c.HARDWARE_VERSION)
    for item in _Items(package):
        section.append(item)
    _config(section, "firmware", "efi" if package.is_efi else "bios")


class _Items:
    """The Items of a package, with InstanceIDs that count up from 1."""

    def __init__(self, package: Package) -> None:
        self._package = package
        self._count = 0

    def __iter__(self) -> Iterator[ET.Element]:
        package = self._package
        yield self._item(
            c.ResourceType.PROCESSOR,
            f"{package.processors} virtual CPU(s)",
            AllocationUnits=c.UNITS_MHZ,
            VirtualQuantity=package.processors,
        )
        yield self._item(
            c.ResourceType.MEMORY,
            f"{package.memory_mib} MB of memory",
            AllocationUnits=c.UNITS_MIB,
            VirtualQuantity=package.memory_mib,
        )
        yield self._item(
            c.ResourceType.SCSI_CONTROLLER, "SCSI controller 0", Address=0, ResourceSubType=c.PVSCSI
        )
        scsi = self._count
        ide = None
        if package.boot_iso is not None:
            # Of IDE every version has a driver in its firmware; the guest never reads the medium.
            yield self._item(c.ResourceType.IDE_CONTROLLER, "IDE controller 0", Address=0)
            ide = self._count
        for number, disk in enumerate(package.machine_disks):
            yield self._disk(scsi, number, disk)
        if package.boot_iso is not None:
            yield self._item(
                c.ResourceType.CD_DRIVE,
                "CD/DVD drive 1",
                AddressOnParent=0,
                AutomaticAllocation="true",
                HostResource=f"{c.FILE_LINK}file{len(package.disks) + 1}",
                Parent=ide,
                ResourceSubType=c.CDROM_ISO,
            )
        for number, network in enumerate(package.networks):
            yield self._item(
                c.ResourceType.ETHERNET_ADAPTER,
                f"Network adapter {number + 1}",
                AddressOnParent=c.FIRST_ADAPTER_UNIT + number,
                AutomaticAllocation="true",
                Connection=network,
                ResourceSubType=c.VMXNET3,
            )
        for number, port in enumerate(package.serial_ports, 1):
            yield self._serial(number, port)
        # What the guest takes its properties by. Every machine of this version has one anyway.
        yield self._item(
            c.ResourceType.OTHER,
            "VMCI device",
            required=False,
            AutomaticAllocation="false",
            ResourceSubType=c.VMCI,
        )

    def _disk(self, controller: int, number: int, disk: PackageDisk) -> ET.Element:
        return self._item(
            c.ResourceType.DISK_DRIVE,
            f"Hard disk {number + 1}",
            AddressOnParent=number if number < c.CONTROLLER_UNIT else number + 1,
            HostResource=c.DISK_LINK + _disk_id(self._package, disk.file.name),
            Parent=controller,
        )

    def _serial(self, number: int, port: SerialPort) -> ET.Element:
        """Return a port that may stay unconnected; one that knows its other end is connected."""
        item = self._item(
            c.ResourceType.SERIAL_PORT,
            f"Serial port {number}",
            required=False,
            AutomaticAllocation="true" if port.concentrator or port.file_name else "false",
            ResourceSubType=c.SERIAL_FILE if port.file_name else c.SERIAL_URI,
        )
        # The keys are vSphere's names of the members, as for all devices of its own exports.
        _config(item, "yieldOnPoll", "true")
        if port.file_name:
            _config(item, "backing.fileName", port.file_name)
            return item
        _config(item, "backing.direction", "client")
        _config(item, "backing.serviceURI", c.SERVICE_URI)
        if port.concentrator:
            _config(item, "backing.proxyURI", port.concentrator)
        return item

    def _item(
        self, kind: c.ResourceType, name: str, *, required: bool = True, **members: object
    ) -> ET.Element:
        self._count += 1
        item = ET.Element("Item", {} if required else {"ovf:required": "false"})
        members = {
            **members,
            "ElementName": name,
            "InstanceID": self._count,
            "ResourceType": int(kind),
        }
        for member in sorted(members):
            _leaf(item, f"rasd:{member}", str(members[member]))
        return item


def _config(parent: ET.Element, key: str, value: str) -> None:
    """Add a setting of VMware's, which others may pass over."""
    attributes = {"ovf:required": "false", "vmw:key": key, "vmw:value": _text(value)}
    ET.SubElement(parent, "vmw:Config", attributes)


def _products(system: ET.Element, package: Package) -> None:
    """9.5: what it is, and its properties by class; the first section is about the product."""
    product = ET.SubElement(system, "ProductSection")
    _leaf(product, "Info", "What the machine runs")
    _leaf(product, "Product", package.product)
    _leaf(product, "Version", package.version)
    for section in package.sections:
        _properties(system, section)


def _properties(system: ET.Element, section: PropertySection) -> None:
    element = ET.SubElement(system, "ProductSection", {"ovf:class": section.class_name})
    _leaf(element, "Info", section.info)
    for prop in section.properties:
        attributes = {
            "ovf:key": prop.key,
            "ovf:type": "string",
            "ovf:userConfigurable": "true" if prop.configurable else "false",
            "ovf:value": prop.value,
        }
        if prop.is_password:
            attributes["ovf:password"] = "true"
        one = ET.SubElement(element, "Property", attributes)
        if prop.label:
            _leaf(one, "Label", prop.label)
        if prop.description:
            _leaf(one, "Description", prop.description)


def _leaf(parent: ET.Element, tag: str, text: str) -> None:
    ET.SubElement(parent, tag).text = _text(text)


def _text(text: str) -> str:
    """Replace what XML cannot express, and the line ends that its readers change."""
    return _NOT_XML.sub("\ufffd", text).replace("\r\n", "\n").replace("\r", "\n")
