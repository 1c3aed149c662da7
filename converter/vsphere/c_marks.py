"""Names of the extra configuration by which machines say what they are (docs/formats.md).

Whatever is cloned of a template or a machine, by us or by hand, inherits its marks: each says what
it is by something that a clone does not have, too.
"""

from __future__ import annotations

TEMPLATE = "saltflat.template"  # its own name
DISK = "saltflat.disk"  # tells one disk from another
PLATFORM = "saltflat.platform"
REFERENCE = "saltflat.reference"
IMPORT = "saltflat.import"  # whose work it is: 32 hexadecimal digits, which are its instanceUuid
MACHINE = "saltflat.machine"  # its id, of which config.instanceUuid is the beginning
NAME = "saltflat.name"  # which it was made with, and by which its relay knows it
IMAGE = "saltflat.image"
DIGEST = "saltflat.digest"
CREATED = "saltflat.created"  # nanoseconds since 1970, by the client's clock, as all times here
AUTO_REMOVE = "saltflat.auto_remove"  # YES, or not there
LABELS = "saltflat.labels"
SPEC = "saltflat.spec"
BOOT = "saltflat.boot"  # the boot medium, as the API names files
STARTED = "saltflat.started"
END = "saltflat.end"
# When gc found first that nobody needs it, by the server's clock, and STARTED as it was then.
NOTED = "saltflat.noted"

# guestinfo, which the agent knows under the same names (agent/tether/guestinfo.py).
GUEST_DOCUMENT = "guestinfo.saltflat.config"
GUEST_STATUS = "guestinfo.saltflat.status"
GUEST_NETWORK = "guestinfo.saltflat.network"

YES = "1"
# Boot media, each named by its digest, on the datastore of the machines that start from them.
BOOT_FOLDER = "saltflat/boot"
BOOT_SUFFIX = ".iso"
UNUSED = ".unused-"  # in the name of a medium that is about to be deleted
