"""What DSP0243 1.1.0 demands of a descriptor, checked on its XML by a reader of its own.

What its schema (DSP8023 1.1.1) says of elements, their order and their values is here for those
that we write; others, which the schema may well allow, are faults.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree as ET

OVF = "{http://schemas.dmtf.org/ovf/envelope/1}"
RASD = "{http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData}"
VMW = "{http://www.vmware.com/schema/ovf}"
VSSD = "{http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData}"
PREFIXES = {"": "{}", OVF: "", RASD: "rasd:", VMW: "vmw:", VSSD: "vssd:"}

# The children of an element in their order; the rest have text, and no children. What is not
# OVF's own may only be at an end (the schema's wildcards, which are for other namespaces).
CHILDREN = {
    "Envelope": "References DiskSection? NetworkSection? VirtualSystem",
    "References": "File*",
    "File": "",
    "DiskSection": "Info Disk*",
    "Disk": "",
    "NetworkSection": "Info Network*",
    "Network": "Description?",
    "VirtualSystem": "Info Name? OperatingSystemSection VirtualHardwareSection ProductSection* "
    "AnnotationSection",
    "OperatingSystemSection": "Info Description?",
    "VirtualHardwareSection": "Info System Item* vmw:Config*",
    "System": "vssd:ElementName vssd:InstanceID vssd:VirtualSystemIdentifier? "
    "vssd:VirtualSystemType?",
    "Item": "rasd:Address? rasd:AddressOnParent? rasd:AllocationUnits? rasd:AutomaticAllocation? "
    "rasd:Connection* rasd:ElementName rasd:HostResource* rasd:InstanceID rasd:Parent? "
    "rasd:ResourceSubType? rasd:ResourceType rasd:VirtualQuantity? vmw:Config*",
    "vmw:Config": "",
    "ProductSection": "Info Product? Version? Property*",
    "Property": "Label? Description?",
    "AnnotationSection": "Info Annotation",
}
REQUIRED = {
    "File": ("id", "href"),
    "Disk": ("diskId", "capacity"),
    "Network": ("name",),
    "VirtualSystem": ("id",),
    "OperatingSystemSection": ("id",),
    "Property": ("key", "type"),
}
NUMBER, BOOLEAN = r"\d+", "true|false"
VALUES = {  # of attributes, and of the texts of children
    "File/size": NUMBER,
    "Disk/populatedSize": NUMBER,
    "OperatingSystemSection/id": NUMBER,
    "Item/required": BOOLEAN,
    "Item/rasd:AutomaticAllocation": BOOLEAN,
    "Item/rasd:ResourceType": NUMBER,
    "Item/rasd:VirtualQuantity": NUMBER,
    "vmw:Config/required": BOOLEAN,
    "Property/password": BOOLEAN,
    "Property/userConfigurable": BOOLEAN,
}
CONTROLLERS = {"17": ("6",), "15": ("5",)}  # a disk hangs on SCSI, a CD drive on IDE
SERIAL_PORT = "21"


def faults(descriptor: bytes) -> list[str]:
    """Return what is wrong with a descriptor, in words; nothing if it is as it must be."""
    return list(_faults(ET.fromstring(descriptor)))


def _faults(root: ET.Element) -> Iterator[str]:
    misplaced = list(_form_faults(root))
    yield from misplaced
    if misplaced:
        return  # the other rules rely on the form
    yield from _file_faults(root)
    yield from _hardware_faults(root)
    yield from _property_faults(root)


def _form_faults(root: ET.Element) -> Iterator[str]:
    """Hold every element to the tables above."""
    if root.tag != f"{OVF}Envelope":
        yield f"the root is {root.tag}"
    for parent in root.iter():
        name = _short(parent.tag)
        children = [_short(child.tag) for child in parent]
        if not _pattern(CHILDREN.get(name, "")).fullmatch("".join(f"{one} " for one in children)):
            yield f"{name} has {children}"
        between = [parent.text, *(child.tail for child in parent)]
        if name in CHILDREN and any(text and text.strip() for text in between):
            yield f"{name} has text"
        said = {_short(attribute): value for attribute, value in parent.attrib.items()}
        yield from (f"{name} has no {one}" for one in REQUIRED.get(name, ()) if one not in said)
        said |= {_short(child.tag): child.text or "" for child in parent}
        for one, value in said.items():
            if not re.fullmatch(VALUES.get(f"{name}/{one}", "(?s:.*)"), value):
                yield f"{name}/{one} is {value!r}"


def _short(tag: str) -> str:
    """Write a name as descriptors do, those of OVF's own without a prefix."""
    namespace, brace, name = tag.rpartition("}")
    return PREFIXES.get(namespace + brace, namespace + brace) + name


def _pattern(children: str) -> re.Pattern[str]:
    """Return what matches the names of such children, each with a space behind it."""
    return re.compile(re.sub(r"(\S+?)([?*]?)(?: |$)", r"(?:\1 )\2", children))


def _file_faults(root: ET.Element) -> Iterator[str]:
    files = root.findall(f"{OVF}References/{OVF}File")
    ids = [file.get(f"{OVF}id") for file in files]
    names = [file.get(f"{OVF}href") for file in files]
    if len(set(ids)) < len(ids) or len(set(names)) < len(names):
        yield f"files {ids}, {names} are not distinct"
    disks: dict[str, ET.Element] = {}
    used = []
    for disk in root.findall(f"{OVF}DiskSection/{OVF}Disk"):
        name, file = disk.attrib[f"{OVF}diskId"], disk.attrib[f"{OVF}fileRef"]
        if name in disks:
            yield f"{name} is there twice"
        if file not in ids:
            yield f"{name} is of {file}, which is no file"
        used.append(file)
        parent = disk.get(f"{OVF}parentRef")
        if parent is not None and parent not in disks:
            yield f"{name} comes before its parent {parent}"
        elif parent is not None:
            own, theirs = (one.get(f"{OVF}capacity") for one in (disk, disks[parent]))
            if own != theirs:
                yield f"{name} and its parent have capacities {own}, {theirs}"
        disks[name] = disk
    if used != [file for file in ids if file in used]:
        yield f"the disks' files come in another order: {used}, {ids}"
    for host in root.iter(f"{RASD}HostResource"):
        kind, _, name = str(host.text).removeprefix("ovf:/").partition("/")
        if name not in {"disk": list(disks), "file": ids}.get(kind, []):
            yield f"{host.text} is nothing of this package"


def _hardware_faults(root: ET.Element) -> Iterator[str]:
    (section,) = root.iter(f"{OVF}VirtualHardwareSection")
    networks = [one.get(f"{OVF}name") for one in root.iter(f"{OVF}Network")]
    kinds: dict[str | None, str | None] = {}
    places = []
    for item in section.findall(f"{OVF}Item"):
        said = {child.tag.removeprefix(RASD): child.text for child in item}
        if said["InstanceID"] in kinds:
            yield f"InstanceID {said['InstanceID']} is there twice"
        kinds[said["InstanceID"]] = said["ResourceType"]
        if not said["ElementName"]:
            yield f"{said['InstanceID']} has no name"
        if "Parent" in said:
            places.append((said["Parent"], said["AddressOnParent"]))
            allowed = CONTROLLERS[str(said["ResourceType"])]
            if kinds.get(said["Parent"]) not in allowed:
                yield f"{said['ElementName']} hangs on {said['Parent']}"
        if "Connection" in said and said["Connection"] not in networks:
            yield f"{said['Connection']} is no network"
        if said["ResourceType"] == SERIAL_PORT and item.get(f"{OVF}required") != "false":
            yield "a serial port must be there"
    if len(set(places)) < len(places):
        yield f"two devices at one place: {places}"


def _property_faults(root: ET.Element) -> Iterator[str]:
    classes = [section.get(f"{OVF}class", "") for section in root.iter(f"{OVF}ProductSection")]
    if len(set(classes)) < len(classes):
        yield f"classes {classes} are not distinct"
    for section in root.iter(f"{OVF}ProductSection"):
        keys = [one.attrib[f"{OVF}key"] for one in section.iter(f"{OVF}Property")]
        if len(set(keys)) < len(keys):
            yield f"keys {keys} are not distinct"
        yield from (f"the key {key!r}" for key in keys if not key or set(key) & set(".: "))
        for one in section.iter(f"{OVF}Property"):
            if one.get(f"{OVF}type") != "string":
                yield f"{one.get(f'{OVF}key')} has the type {one.get(f'{OVF}type')}"
