"""The properties of a package: an image's environment, and what the agent is told at its start.

Owns which variables can be properties and what the agent's are called. What they do in the guest is
`agent.tether.ovf_environment`'s, whose names these are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from converter.errors import UsageError
from converter.package.descriptor import is_xml_text
from converter.package.model import Property, PropertySection

AGENT_CLASS = "saltflat"
VARIABLE_CLASS = "env"
DOCUMENT_KEY = "config"

# What a shell can set. Others, which Docker takes too, could not be told from a class or an
# instance (DSP0243 9.5: no dot and no colon in a key).
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
# XML's readers make spaces of these in an attribute (XML 1.0, 3.3.3) unless they are references,
# which a hypervisor that writes the environment anew may forget.
_NOT_KEPT = re.compile("[\t\n\r]")
# A guest takes no longer answer from guestinfo than 1 MiB; quotes take six characters in XML.
MAX_BYTES = 512 << 10


def property_sections(
    document: Mapping[str, Any], *, asked: Sequence[str] = ()
) -> tuple[PropertySection, ...]:
    """Return the sections for a guest that is to read `document`.

    Its `key`, if it has one, is what the property of that name has at first. Each variable of the
    image's `Env` is a property with the image's value, and each NAME or NAME=VALUE of `asked`
    beside them; what cannot be one stays as it is in the document. Raises UsageError for a name of
    `asked` that cannot be one, and if all that is too much for a guest.
    """
    told = {name: value for name, value in document.items() if name != "key"}
    variables = _variables(document.get("image") or {})
    for entry in asked:
        name, _, value = entry.partition("=")
        if not _can_be_property(name, value):
            raise UsageError(
                f"{entry!r} cannot be a property.",
                expected="a name of letters, digits and _, and a value of one line",
            )
        variables[name] = value
    text = json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    size = len(text) + sum(len(name) + len(value.encode()) for name, value in variables.items())
    if size > MAX_BYTES:
        raise UsageError(
            f"The image's configuration has {size} bytes.",
            expected=f"at most {MAX_BYTES}: a guest cannot be told more in this way",
        )
    return (
        PropertySection(
            class_name=VARIABLE_CLASS,
            info="The environment of the image's process",
            properties=[_variable(name, value) for name, value in variables.items()],
        ),
        PropertySection(
            class_name=AGENT_CLASS,
            info="What the agent in the machine is told",
            properties=[*_agent_properties(str(document.get("key") or "")), _document(text)],
        ),
    )


def _variables(image: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables that can be properties, in order; the last of those of one name."""
    environment = image.get("Env")
    if not isinstance(environment, list):
        return {}
    last = {entry.partition("=")[0]: entry for entry in environment if isinstance(entry, str)}
    pairs = (entry.partition("=") for entry in last.values())
    return {
        name: value for name, equals, value in pairs if equals and _can_be_property(name, value)
    }


def _can_be_property(name: str, value: str) -> bool:
    known = _VARIABLE_NAME.fullmatch(name) is not None
    return known and is_xml_text(value) and _NOT_KEPT.search(value) is None


def _variable(name: str, value: str) -> Property:
    return Property(key=name, value=value, label=name)


def _agent_properties(key: str) -> tuple[Property, ...]:
    return (
        Property(
            key="hostname",
            value="",
            label="Host name",
            description="Empty: as in the guest's document",
        ),
        Property(
            key="run",
            value="",
            label="What this run changes",
            description='JSON as in the guest\'s document, such as {"args": ["-v"], "user": "app"}',
        ),
        Property(
            key="network",
            value="",
            label="Network",
            description="JSON as in the guest's document. Empty: DHCP",
        ),
        Property(
            key="key",
            value=key,
            label="Key of the serial line",
            description="64 hexadecimal digits, which the relay has too. Empty: nobody can attach",
            is_password=True,
        ),
    )


def _document(text: str) -> Property:
    return Property(key=DOCUMENT_KEY, value=text, label="The guest's document", configurable=False)
