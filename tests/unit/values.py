"""Short ways to write down the values that the tests are about."""

import base64
from collections import defaultdict
from typing import Any

from vfio_kit.model import Host, PciAddress, PciDevice
from vfio_kit.model.health import CommandResult
from vfio_kit.model.vm import SeedKeys
from vfio_kit.spec import GuestSpec

TEST_KEYS = SeedKeys(
    # The shape of an OpenSSH key and nothing in it: TEST KEY, opens no door.
    host_private=(
        "-----BEGIN OPENSSH PRIVATE KEY-----\n"
        "VEVTVCBLRVkgT0YgVkZJTy1LSVQsIE9QRU5TIE5PIERPT1I=\n"
        "-----END OPENSSH PRIVATE KEY-----\n"
    ),
    host_public="ssh-ed25519 AAAATESTKEYHOST root@gpu-vm",
    authorized=("ssh-ed25519 AAAATESTKEYCLIENT vfio-kit@gpu-vm",),
)


def public_key(comment: str = "", key_type: str = "ssh-ed25519") -> str:
    """A line of a .pub file: of the right shape, and nobody has its private half."""
    length = len(key_type).to_bytes(4, "big")
    data = length + key_type.encode() + b"\0\0\0\x20" + bytes(range(32))
    return f"{key_type} {base64.b64encode(data).decode()} {comment}".rstrip(" ")


def at(text: str) -> PciAddress:
    return PciAddress.parse(text)


def function(
    address: str, ids: tuple[str, str, str], group: int | None = None, **fields: Any
) -> PciDevice:
    """A PCI function; `ids` as in tests/machines.py: vendor, device, class."""
    vendor, device, class_code = (int(digits, 16) for digits in ids)
    return PciDevice(
        address=at(address),
        vendor_id=vendor,
        device_id=device,
        class_code=class_code,
        iommu_group=group,
        **fields,
    )


def host(*functions: PciDevice, **fields: Any) -> Host:
    """A host with these functions, and the IOMMU groups that they say they are in."""
    groups: dict[int, list[PciAddress]] = defaultdict(list)
    for one in functions:
        if one.iommu_group is not None:
            groups[one.iommu_group].append(one.address)
    return Host(
        devices=tuple(sorted(functions, key=lambda d: d.address)),
        iommu_groups={number: tuple(sorted(members)) for number, members in groups.items()},
        **fields,
    )


def spec(*gpus: str, **fields: Any) -> GuestSpec:
    """A spec as a file would give it, `gpus` first."""
    return GuestSpec.model_validate({"name": "gpu-vm", "gpus": list(gpus), **fields})


def said(stdout: str = "", exit_status: int = 0, stderr: str = "") -> CommandResult:
    """What a command in a guest gave back."""
    return CommandResult(exit_status, stdout, stderr)
