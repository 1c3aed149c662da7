"""What a vCenter makes of a package's properties for the guest: the OVF environment, as XML.

In the form of the environments that VMware's products write; the values are those of the
descriptor, or what whoever deploys it sets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.etree import ElementTree as ET
from xml.sax.saxutils import quoteattr

from tests.unit.package.ovf_rules import OVF


def properties(descriptor: bytes, chosen: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return name -> value of all properties, as they are or as `chosen`.

    Raises KeyError for a property that may not be chosen.
    """
    values, free = {}, set()
    for section in ET.fromstring(descriptor).iter(f"{OVF}ProductSection"):
        for one in section.iter(f"{OVF}Property"):
            name = f"{section.attrib[f'{OVF}class']}.{one.attrib[f'{OVF}key']}"
            values[name] = one.attrib[f"{OVF}value"]
            if one.attrib[f"{OVF}userConfigurable"] == "true":
                free.add(name)
    for name, value in (chosen or {}).items():
        if name not in free:
            raise KeyError(name)
        values[name] = value
    return values


def environment(values: Mapping[str, str], addresses: Sequence[str] = ()) -> bytes:
    """Return the OVF environment with these properties and network adapters."""
    listed = "".join(
        f"         <Property oe:key={quoteattr(name)} oe:value={quoteattr(value)}/>\n"
        for name, value in values.items()
    )
    adapters = "".join(
        f'      <ve:Adapter ve:mac="{mac}" ve:network="VM Network" ve:unitNumber="{7 + number}"/>\n'
        for number, mac in enumerate(addresses)
    )
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<Environment
     xmlns="http://schemas.dmtf.org/ovf/environment/1"
     xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
     xmlns:oe="http://schemas.dmtf.org/ovf/environment/1"
     xmlns:ve="http://www.vmware.com/schema/ovfenv"
     oe:id=""
     ve:vCenterId="vm-320">
   <PlatformSection>
      <Kind>VMware ESXi</Kind>
      <Version>8.0.3</Version>
      <Vendor>VMware, Inc.</Vendor>
      <Locale>en</Locale>
   </PlatformSection>
   <PropertySection>
{listed}   </PropertySection>
   <ve:EthernetAdapterSection>
{adapters}   </ve:EthernetAdapterSection>
</Environment>
""".encode()
