"""The guest's document as an OVF environment gives it: XML with properties, some set at deployment.

Owns what the properties mean and the little of the XML that counts; the document itself is
`config`'s matter. Source: DMTF DSP0243 1.1.0, section 11 and DSP8027; the section with the network
adapters is VMware's. Imported only by a guest that has such an environment.
"""

from __future__ import annotations

import os
import pyexpat

from agent.hints import Dict, List, Mapping, Tuple
from agent.tether import config
from agent.tether.fields import arguments, checked, wrong

CLASS = "saltflat."
DOCUMENT = CLASS + "config"  # the document, but for what the others change
KEY = CLASS + "key"
HOST_NAME = CLASS + "hostname"
RUN = CLASS + "run"  # members of the document's `run`
NETWORK = CLASS + "network"  # the document's `network`
VARIABLE = "env."  # and a name: a variable of the process

_OVF = "http://schemas.dmtf.org/ovf/environment/1 "
_VMWARE = "http://www.vmware.com/schema/ovfenv "
# Where they stand counts: an `Entity` has the same section about another machine.
_PROPERTY = (_OVF + "Environment", _OVF + "PropertySection", _OVF + "Property")
_ADAPTER = (_OVF + "Environment", _VMWARE + "EthernetAdapterSection", _VMWARE + "Adapter")


def read_environment(raw: bytes) -> Mapping[str, object]:
    """Return the document; StartError("config") for what is no environment, or none of ours.

    A property that is empty is not set, but for variables. Without a key the document has one that
    nobody else knows: the guest runs, and no host can speak to it.
    """
    properties, addresses = _parse(raw)
    if DOCUMENT not in properties:
        raise wrong(DOCUMENT, "a property of that name in the OVF environment")
    document = dict(config.load_json(properties[DOCUMENT].encode("utf-8")))
    if properties.get(HOST_NAME):
        document["hostname"] = properties[HOST_NAME]
    if properties.get(KEY):
        document["key"] = properties[KEY]
    elif not document.get("key"):
        document["key"] = os.urandom(config.KEY_BYTES).hex()
    document["run"] = _run(document.get("run"), properties)
    if properties.get(NETWORK):
        document["network"] = _object(properties, NETWORK)
    document["network"] = _with_addresses(document.get("network"), addresses)
    return document


def _run(run: object, properties: Mapping[str, str]) -> object:
    """Return the document's `run` with what the properties say; of a variable the last counts."""
    if run is not None and not isinstance(run, dict):
        return run  # for `config` to refuse
    asked = _object(properties, RUN) if properties.get(RUN) else {}
    variables = list(arguments(run or {}, "env", "run.env") or ())
    for name, value in properties.items():
        if name.startswith(VARIABLE):
            variables.append(checked(name[len(VARIABLE) :] + "=" + value, name))
    variables.extend(arguments(asked, "env", RUN + ".env") or ())
    return {**(run or {}), **asked, "env": variables}


def _with_addresses(network: object, addresses: List[str]) -> object:
    """Return the network; an interface without a `mac` is the adapter that stands at its place."""
    if not isinstance(network, dict) or not isinstance(network.get("interfaces"), list):
        return network
    interfaces = [
        _with_address(index, interface, addresses)
        for index, interface in enumerate(network["interfaces"])
    ]
    return {**network, "interfaces": interfaces}


def _with_address(index: int, interface: object, addresses: List[str]) -> object:
    if not isinstance(interface, dict) or interface.get("mac"):
        return interface
    if index >= len(addresses):
        field = "network.interfaces[{}].mac".format(index)
        raise wrong(field, "an adapter for it in the OVF environment")
    return {**interface, "mac": addresses[index].lower()}


def _object(properties: Mapping[str, str], name: str) -> Mapping[str, object]:
    return config.json_object_of(properties[name].encode("utf-8"), name)


def _parse(raw: bytes) -> Tuple[Dict[str, str], List[str]]:
    """Return the properties, and the addresses of the network adapters in order."""
    properties: Dict[str, str] = {}
    addresses: List[str] = []
    above: List[str] = []

    def start(name: str, attributes: Dict[str, str]) -> None:
        above.append(name)
        if len(above) != len(_PROPERTY):
            return
        if tuple(above) == _PROPERTY:
            properties[attributes.get(_OVF + "key", "")] = attributes.get(_OVF + "value", "")
        elif tuple(above) == _ADAPTER:
            addresses.append(attributes.get(_VMWARE + "mac", ""))

    def end(_name: str) -> None:
        above.pop()

    def refuse(*_declaration: object) -> None:
        raise wrong("document", "an OVF environment without a document type")  # entities need one

    parser = pyexpat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(raw, True)
    except (pyexpat.ExpatError, ValueError, LookupError) as error:
        # The error has a line and a column, and nothing of the text, which has secrets.
        raise wrong("document", "an OVF environment in XML ({})".format(error)) from error
    return properties, addresses
