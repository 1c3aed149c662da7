"""What is added to the machine that a server makes of a descriptor, before it becomes one.

A descriptor cannot say these things, or servers leave them out. Owns what they are in the API.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from converter.vsphere.c_vsphere import OPAQUE_NETWORK, PORT_GROUP
from converter.vsphere.connection import Connection, option_values, type_name, vim


def add_marks(configuration: Any, marks: Mapping[str, str]) -> None:  # noqa: ANN401 - pyvmomi's own
    """Add extra configuration to a ConfigSpec."""
    configuration.extraConfig = [*(configuration.extraConfig or ()), *option_values(marks)]


def add_storage_policy(configuration: Any, profile: str) -> None:  # noqa: ANN401 - pyvmomi's own
    """Have a machine's own files and every disk of a ConfigSpec made by a policy, by its id."""
    configuration.vmProfile = [vim.vm.DefinedProfileSpec(profileId=profile)]
    for change in configuration.deviceChange:
        if isinstance(change.device, vim.vm.device.VirtualDisk):
            change.profile = [vim.vm.DefinedProfileSpec(profileId=profile)]


def add_adapter(connection: Connection, configuration: Any, network: object) -> bool:  # noqa: ANN401 - pyvmomi's own
    """Add a vmxnet3 adapter on `network` unless a ConfigSpec has one; say whether it was added.

    Servers read networks of a descriptor that they know. One of NSX is not among them everywhere.
    """
    card = vim.vm.device.VirtualEthernetCard
    if any(isinstance(change.device, card) for change in configuration.deviceChange):
        return False
    adapter = vim.vm.device.VirtualVmxnet3(
        key=-100,  # any negative one, until the server gives it its own
        backing=network_backing(connection, network),
        addressType="generated",
        connectable=vim.vm.device.VirtualDevice.ConnectInfo(
            startConnected=True, allowGuestControl=True, connected=False
        ),
    )
    change = vim.vm.device.VirtualDeviceSpec(operation="add", device=adapter)
    configuration.deviceChange = [*configuration.deviceChange, change]
    return True


def network_backing(connection: Connection, network: object) -> Any:  # noqa: ANN401 - pyvmomi's own
    """Return how an adapter names its network, which each kind of network has its own way for."""
    card, kind = vim.vm.device.VirtualEthernetCard, type_name(network)
    if kind == OPAQUE_NETWORK:
        summary = connection.properties(network, ["summary"])["summary"]
        return card.OpaqueNetworkBackingInfo(
            opaqueNetworkId=summary.opaqueNetworkId, opaqueNetworkType=summary.opaqueNetworkType
        )
    if kind == PORT_GROUP:
        about = connection.properties(network, ["key", "config.distributedVirtualSwitch"])
        switch = connection.properties(about["config.distributedVirtualSwitch"], ["uuid"])
        port = vim.dvs.PortConnection(portgroupKey=about["key"], switchUuid=switch["uuid"])
        return card.DistributedVirtualPortBackingInfo(port=port)
    name = connection.properties(network, ["name"])["name"]
    return card.NetworkBackingInfo(deviceName=name, network=network)
