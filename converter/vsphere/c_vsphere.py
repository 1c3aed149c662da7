"""Names and numbers of the vSphere API that the rest of the room uses, as its reference calls them.

"vSphere Web Services API Reference", 8.0, unless a line says otherwise.
"""

from __future__ import annotations

HTTPS_PORT = 443
HTTP_PORT = 80
SDK_PATH = "/sdk"

# The version of the API that we speak. Servers keep the older ones ("priorVersions" of
# vimServiceVersions.xml), so one that all of them know makes all of them answer alike.
API_NAMESPACE = "urn:vim25"
API_VERSION = "vim.version.version12"  # 6.7 in pyvmomi's own names
OLDEST_RELEASE = "6.7"
VCENTER_API_TYPE = "VirtualCenter"  # AboutInfo.apiType; hosts say HostAgent

# The storage policies' service, "vSphere Storage Policy API", at the same server.
PBM_PATH = "/pbm"  # as govmomi has it
PBM_VERSION = "pbm.version.version1"

# The tags' service, "vSphere Automation API", 6.5 and later: {"value": ANSWER} in JSON.
REST_PATH = "/rest/com/vmware/cis"
REST_SESSION_HEADER = "vmware-api-session-id"
REST_BY_HEADER = "vmware-use-header-authn"  # so that no cookie is given
REST_EXISTS = "com.vmware.vapi.std.errors.already_exists"
TAG_CATEGORY = "saltflat"  # the one that our tags are in
TAG_PRIVILEGES = (
    "InventoryService.Tagging.CreateCategory",
    "InventoryService.Tagging.CreateTag",
    "InventoryService.Tagging.AttachTag",
)

# Folders that every datacenter has, under these names, whatever the language.
VM_FOLDER = "vm"
HOST_FOLDER = "host"
DATASTORE_FOLDER = "datastore"
NETWORK_FOLDER = "network"

ROOT_POOL = "Resources"  # the pool that is all of a cluster or host is always called so

# Types of managed objects.
DATACENTER = "Datacenter"
FOLDER = "Folder"
COMPUTE_RESOURCE = "ComputeResource"  # a host of its own
CLUSTER = "ClusterComputeResource"
RESOURCE_POOL = "ResourcePool"
VIRTUAL_APP = "VirtualApp"
HOST = "HostSystem"
DATASTORE = "Datastore"
NETWORK = "Network"
PORT_GROUP = "DistributedVirtualPortgroup"
VIRTUAL_MACHINE = "VirtualMachine"
OPAQUE_NETWORK = "OpaqueNetwork"

# HttpNfcLeaseDeviceUrl.url of a host without vCenter has this in the place of its name; a disk is
# sent with this type (govmomi and ovftool do; the reference is silent).
ANY_HOST = "*"
STREAM_DISK_TYPE = "application/x-vnd.vmware-streamVmdk"
# OvfCreateImportSpecParams.diskProvisioning
THIN = "thin"
THICK = "thick"
THICK_EAGER = "eagerZeroedThick"

# HostSystem.runtime.connectionState and Datastore.summary.maintenanceMode when all is well.
HOST_CONNECTED = "connected"
DATASTORE_NORMAL = "normal"

# Rule sets of a host's firewall that let virtual machines' serial ports out: to anywhere, and to a
# concentrator (vSphere Security, "Incoming and outgoing firewall ports for ESXi hosts").
SERIAL_RULESETS = ("remoteSerialPort", "vSPC")
OPEN_SERIAL_PORTS = (
    "esxcli network firewall ruleset set --ruleset-id=remoteSerialPort --enabled=true"
)
# The licensed feature "Remote virtual Serial Port Concentrator", as LicenseManager names it:
# "serialuri:" and a number of ports.
SERIAL_FEATURE = "serialuri"
LICENSE_FEATURE = "feature"  # key of such a property

# Privileges by the object that they are needed on ("Required privileges" of each method), each with
# what it is for: "import" makes templates, "run" makes machines of them.
FOLDER_PRIVILEGES = {
    "VirtualMachine.Inventory.Create": "import",
    "VirtualMachine.Inventory.CreateFromExisting": "run",
    "VirtualMachine.Inventory.Delete": "import, run",
    "VirtualMachine.Config.AddNewDisk": "import, run",
    "VirtualMachine.Config.AddRemoveDevice": "run",
    "VirtualMachine.Config.AdvancedConfig": "import, run",
    "VirtualMachine.Config.CPUCount": "run",
    "VirtualMachine.Config.EditDevice": "run",
    "VirtualMachine.Config.Memory": "run",
    "VirtualMachine.Config.Settings": "import, run",
    "VirtualMachine.Interact.PowerOff": "run",
    "VirtualMachine.Interact.PowerOn": "run",
    "VirtualMachine.Provisioning.Clone": "run",
    "VirtualMachine.Provisioning.DeployTemplate": "run",
    "VirtualMachine.Provisioning.MarkAsTemplate": "import",
    "VirtualMachine.State.CreateSnapshot": "import",
}
# Those of them that mean something on vCenter alone: a host has neither clones nor templates.
VCENTER_PRIVILEGES = frozenset(
    {
        "VirtualMachine.Inventory.CreateFromExisting",
        "VirtualMachine.Provisioning.Clone",
        "VirtualMachine.Provisioning.DeployTemplate",
        "VirtualMachine.Provisioning.MarkAsTemplate",
    }
)
POOL_PRIVILEGES = {
    "Resource.AssignVMToPool": "import, run",
    "VApp.Import": "import",
}
DATASTORE_PRIVILEGES = {
    "Datastore.AllocateSpace": "import, run",
    "Datastore.Browse": "run",
    "Datastore.FileManagement": "run",
}
SEE_ALL_PRIVILEGE = "System.Read"  # on the root folder; a role that is propagated gives it below
NETWORK_PRIVILEGES = {"Network.Assign": "import, run"}

# Files of a datastore over HTTP, at the server that has the session ("vSphere Web Services SDK
# Programming Guide", "Access to a datastore by HTTP"): /folder/PATH?dcPath=DATACENTER&dsName=NAME
FOLDER_PATH = "/folder"
FOLDER_DATACENTER = "dcPath"
FOLDER_DATASTORE = "dsName"

# VirtualMachineRelocateDiskMoveOptions: a new disk on top of the snapshot's, which stays shared.
CHILD_DISK = "createNewChildDiskBacking"
# VirtualMachinePowerState; a suspended machine has not ended.
POWERED_OFF = "poweredOff"
SUSPENDED = "suspended"
TASK_RUNNING = ("queued", "running")  # TaskInfoState
MANUAL_ADDRESS = "manual"  # VirtualEthernetCard.addressType
SERIAL_CLIENT = "client"  # VirtualDeviceURIBackingOptionDirection: the host connects
EFI = "efi"  # GuestOsDescriptorFirmwareType
