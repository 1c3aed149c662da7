"""A machine's specification, complete enough for everything that does not boot it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from converter.machine.model import GuestConfig, MachineSpec, RunConfig
from tinykernel.record import BootImage


@pytest.fixture
def boot(tmp_path: Path) -> BootImage:
    return BootImage(
        folder=tmp_path / "boot",
        id="ab" * 32,
        arch="amd64",
        kernel_package="linux-image-6.1.0-1-cloud-amd64",
        kernel_version="6.1.0-1-cloud-amd64",
        kernel_sha256="00" * 32,
        initrd_sha256="00" * 32,
        packages=(),
        python="3.11",
        compiled_by=None,
        protocol=1,
        modules=(),
    )


@pytest.fixture
def guest() -> GuestConfig:
    return GuestConfig(
        root_uuid="01234567-89ab-cdef-0123-456789abcdef",
        hostname="0123456789ab",
        image={"Cmd": ["sh"], "Env": ["A=b"]},
        run=RunConfig(args=("echo", "hi"), stdin=True),
    )


@pytest.fixture
def make_spec(boot: BootImage, guest: GuestConfig) -> Callable[..., MachineSpec]:
    def make(**changes: Any) -> MachineSpec:
        values: dict[str, Any] = {
            "chain": (Path("/store/base.vmdk"), Path("/store/top.vmdk")),
            "capacity_bytes": 1 << 30,
            "boot": boot,
            "guest": guest,
        }
        return MachineSpec(**{**values, **changes})

    return make
