"""OVF descriptors: the specification's rules for any package, and properties that come through."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.tether import config
from agent.tether.resolve import resolve_environment
from converter.errors import UsageError
from converter.package.descriptor import encode_descriptor
from converter.package.model import (
    Package,
    PackageDisk,
    PackageFile,
    Property,
    PropertySection,
    SerialPort,
    portable_stem,
)
from converter.package.properties import MAX_BYTES, property_sections
from tests.unit.package.deployment import environment, properties
from tests.unit.package.ovf_rules import OVF, RASD, VMW, faults

CAPACITY = 16 << 30
DOCUMENT = {
    "schema": 1,
    "channel": {"kind": "serial", "device": "/dev/ttyS0"},
    "root": {"uuid": "6f1c9a3e-1111-4222-8333-0123456789ab"},
    "hostname": "web",
    "image": {"Env": ["PATH=/bin"]},
    "run": {"env": []},
}


def file(name: str, size_bytes: int = 1000) -> PackageFile:
    return PackageFile(name=name, size_bytes=size_bytes)


def disk(name: str, parent: str | None = None, capacity_bytes: int = CAPACITY) -> PackageDisk:
    return PackageDisk(
        file=file(name), capacity_bytes=capacity_bytes, populated_bytes=65536, parent=parent
    )


PACKAGE = Package(
    name="web",
    product="docker.io/library/nginx:1.27",
    version="sha256:00",
    annotation="one\ntwo",
    memory_mib=512,
    processors=2,
    disks=[disk("web-disk1.vmdk")],
    boot_iso=file("web-boot.iso"),
    others=[file("web.provenance.json")],
    networks=["VM Network"],
    serial_ports=[SerialPort(), SerialPort(file_name="web-console.log")],
    sections=property_sections(DOCUMENT),
)


def items(descriptor: bytes) -> dict[str, dict[str, str | None]]:
    """Return the Items by their names."""
    found = ET.fromstring(descriptor).iter(f"{OVF}Item")
    said = ({child.tag.removeprefix(RASD): child.text for child in item} for item in found)
    return {str(one["ElementName"]): one for one in said}


def settings(descriptor: bytes) -> dict[str, str]:
    """Return VMware's settings of all devices and of the machine."""
    found = ET.fromstring(descriptor).iter(f"{VMW}Config")
    return {one.attrib[f"{VMW}key"]: one.attrib[f"{VMW}value"] for one in found}


def test_the_machine() -> None:
    descriptor = encode_descriptor(PACKAGE)
    assert faults(descriptor) == []
    found = items(descriptor)
    assert found["2 virtual CPU(s)"]["VirtualQuantity"] == "2"
    assert found["512 MB of memory"]["VirtualQuantity"] == "512"
    assert found["SCSI controller 0"]["ResourceSubType"] == "VirtualSCSI"
    assert found["Network adapter 1"]["ResourceSubType"] == "VmxNet3"
    assert found["CD/DVD drive 1"]["HostResource"] == "ovf:/file/file2"
    assert found["Hard disk 1"]["HostResource"] == "ovf:/disk/vmdisk1"
    assert found["Serial port 1"]["ResourceSubType"] == "vmware.serialport.uri"
    assert found["Serial port 1"]["AutomaticAllocation"] == "false"  # it stays unconnected
    assert found["Serial port 2"]["ResourceSubType"] == "vmware.serialport.file"
    assert settings(descriptor)["firmware"] == "efi"
    assert settings(descriptor)["backing.fileName"] == "web-console.log"
    (section,) = ET.fromstring(descriptor).iter(f"{OVF}VirtualHardwareSection")
    assert section.get(f"{OVF}transport") == "com.vmware.guestInfo"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('ovf:fileRef="file1"', 'ovf:fileRef="file9"', "vmdisk1 is of file9"),
        ('ovf:id="file2"', 'ovf:id="file1"', "are not distinct"),
        ("ovf:/disk/vmdisk1", "ovf:/disk/vmdisk2", "is nothing of this package"),
        ("<rasd:InstanceID>3<", "<rasd:InstanceID>2<", "InstanceID 2 is there twice"),
        ("<rasd:Parent>3<", "<rasd:Parent>4<", "Hard disk 1 hangs on 4"),
        ('ovf:class="env"', 'ovf:class="saltflat"', "are not distinct"),
        ('ovf:key="PATH"', 'ovf:key="PA.TH"', "the key 'PA.TH'"),
        ("Connection>VM", "Connection>The VM", "The VM Network is no network"),
        ("<Info>The disks</Info>", "", "DiskSection has ['Disk']"),
        ("<Label>", "<Description /><Label>", "Property has ['Description', 'Label'"),
        ("<Item>", "<vmw:Config /><Item>", "VirtualHardwareSection has ['Info', 'System', 'vmw:"),
        (":InstanceID>0</vssd:InstanceID>", ":Notes>0</vssd:Notes>", "System has"),
        ('ovf:href="web-disk1.vmdk"', 'href="web-disk1.vmdk"', "File has no href"),
        ('userConfigurable="true"', 'userConfigurable="yes"', "userConfigurable is 'yes'"),
        ("<References>", "<References>x", "References has text"),
        (">2</rasd:VirtualQuantity", ">two</rasd:VirtualQuantity", "rasd:VirtualQuantity is 'two'"),
    ],
)
def test_the_rules_bite(old: str, new: str, said: str) -> None:
    descriptor = encode_descriptor(PACKAGE).decode()
    assert old in descriptor
    assert said in " ".join(faults(descriptor.replace(old, new, 1).encode()))


def test_by_request() -> None:
    port = SerialPort(concentrator="telnet://10.1.0.5:2377")
    other = replace(PACKAGE, is_efi=False, boot_iso=None, serial_ports=[port])
    descriptor = encode_descriptor(other)
    assert faults(descriptor) == []
    assert settings(descriptor)["firmware"] == "bios"
    assert settings(descriptor)["backing.proxyURI"] == port.concentrator
    assert items(descriptor)["Serial port 1"]["AutomaticAllocation"] == "true"
    assert "CD/DVD drive 1" not in items(descriptor)


def test_of_a_chain_the_machine_has_the_topmost() -> None:
    chain = [disk("a"), disk("b", "a"), disk("c", "b")]
    descriptor = encode_descriptor(replace(PACKAGE, disks=chain))
    assert faults(descriptor) == []
    drives = [one for one in items(descriptor).values() if one["ResourceType"] == "17"]
    assert [one["HostResource"] for one in drives] == ["ovf:/disk/vmdisk3"]
    parents = [one.get(f"{OVF}parentRef") for one in ET.fromstring(descriptor).iter(f"{OVF}Disk")]
    assert parents == [None, "vmdisk1", "vmdisk2"]


def test_nine_disks_leave_the_controllers_place_free() -> None:
    many = [disk(f"disk{number}.vmdk") for number in range(9)]
    descriptor = encode_descriptor(replace(PACKAGE, disks=many))
    assert faults(descriptor) == []
    drives = [one for one in items(descriptor).values() if one["ResourceType"] == "17"]
    assert [one["AddressOnParent"] for one in drives] == [*"0123456", "8", "9"]


@pytest.mark.parametrize(
    "disks", [[disk("b", "a"), disk("a")], [disk("a"), disk("b", "a", CAPACITY * 2)]]
)
def test_a_child_has_its_parents_size_and_comes_behind(disks: list[PackageDisk]) -> None:
    with pytest.raises(ValueError, match="no parent of its size before it"):
        encode_descriptor(replace(PACKAGE, disks=disks))


def test_a_length_is_kept_by_spaces_behind_the_end() -> None:
    plain = encode_descriptor(PACKAGE)
    padded = encode_descriptor(PACKAGE, length=len(plain) + 7)
    assert padded == plain[:-1] + b" " * 7 + b"\n"
    assert faults(padded) == []
    with pytest.raises(ValueError, match="in 10"):
        encode_descriptor(PACKAGE, length=10)


TEXTS = st.text(max_size=12)
ENTRIES = st.one_of(
    st.builds("{}={}".format, st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,3}", fullmatch=True), TEXTS),
    st.builds("{}={}".format, st.text(min_size=1, max_size=4), TEXTS),
    st.sampled_from(
        ["HOME=", "A=a\nb", "A=\x1b[0m", "A=\ud800", "B.c=d", "A", "=", "A=\t", "A=\x85"]
    ),
)


@given(st.lists(ENTRIES, max_size=6), TEXTS, TEXTS)
def test_any_environment_comes_through(entries: list[str], name: str, annotation: str) -> None:
    # Docker's own limits: no NUL; a lone surrogate is a byte that is not UTF-8.
    entries = [entry for entry in entries if "\0" not in entry and entry.partition("=")[0]]
    document = {**DOCUMENT, "key": "ab" * 32, "image": {"Env": entries}}
    package = replace(
        PACKAGE, name=name, annotation=annotation, sections=property_sections(document)
    )
    descriptor = encode_descriptor(package)
    assert faults(descriptor) == []
    deployed = environment(properties(descriptor))
    try:
        expected = config.parse_job(document)
    except config.StartError:
        return  # what no run takes either: a surrogate that is no byte
    found = config.load_document(deployed)
    job = config.parse_job(found)
    assert found["key"] == document["key"]
    environments = [
        resolve_environment(one.image, one.run, host_name="web", home="/")
        for one in (job, expected)
    ]
    assert environments[0] == environments[1]


def test_a_further_variable_is_set_by_who_deploys() -> None:
    sections = property_sections(DOCUMENT, asked=["PASSWORD", "MODE=quick"])
    descriptor = encode_descriptor(replace(PACKAGE, sections=sections))
    deployed = environment(
        properties(descriptor, {"env.PASSWORD": "x < y", "env.PATH": "/usr/bin"})
    )
    job = config.parse_job(config.load_document(deployed))
    assert job.run.environment == ("PATH=/usr/bin", "PASSWORD=x < y", "MODE=quick")


def test_the_document_itself_is_not_for_who_deploys() -> None:
    with pytest.raises(KeyError):
        properties(encode_descriptor(PACKAGE), {"saltflat.config": "{}"})


@pytest.mark.parametrize("entry", ["", "=x", "a.b", "A=\x01", "A=a\nb", "\xe4=1"])
def test_what_cannot_be_asked_for(entry: str) -> None:
    with pytest.raises(UsageError, match="cannot be a property"):
        property_sections(DOCUMENT, asked=[entry])


def test_what_no_guest_could_read() -> None:
    with pytest.raises(UsageError, match=r"has \d+ bytes"):
        property_sections({**DOCUMENT, "image": {"Env": ["A=" + "x" * MAX_BYTES]}})


def test_a_property_that_xml_cannot_express() -> None:
    section = PropertySection(class_name="a", info="", properties=[Property(key="b", value="\x01")])
    with pytest.raises(UsageError, match="XML cannot express"):
        encode_descriptor(replace(PACKAGE, sections=[section]))


@given(TEXTS)
def test_any_name_gives_names_of_files(name: str) -> None:
    stem = portable_stem(name)
    file(f"{stem}-disk24.vmdk")  # or ValueError
    assert len(stem) <= 64
    assert not stem.startswith(("-", "."))


def test_other_names_are_refused() -> None:
    with pytest.raises(ValueError, match="no name for a file"):
        file("a/b")
