"""Which driver and which CUDA go into a guest: the tables, and the choice from them."""

import base64
import hashlib
import re

import pytest

from vfio_kit.assets import asset_dir
from vfio_kit.knowledge.branches import BRANCHES
from vfio_kit.knowledge.guests import GUESTS
from vfio_kit.knowledge.provisioning import (
    CUDA_ROWS,
    DRIVER_ROWS,
    AptRepository,
    CudaRow,
    DriverRow,
)
from vfio_kit.model.advice import Version
from vfio_kit.model.vm import CudaWay

PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+")
PATTERN = re.compile(r"[a-z0-9][a-z0-9+.?*-]+")


def row_id(row: DriverRow | CudaRow) -> str:
    return f"{row.guest}-{row.name}"


each_driver = pytest.mark.parametrize("row", DRIVER_ROWS.values(), ids=row_id)
each_cuda = pytest.mark.parametrize("row", CUDA_ROWS.values(), ids=row_id)

REPOSITORIES = {row.repository.name: row.repository for row in CUDA_ROWS.values() if row.repository}


# The tables


def test_every_guest_has_a_driver_and_a_toolkit() -> None:
    assert {guest for guest, _ in DRIVER_ROWS} == set(GUESTS) == {guest for guest, _ in CUDA_ROWS}


@each_driver
def test_a_driver_is_a_branch_of_the_table_that_the_guest_carries(row: DriverRow) -> None:
    (branch,) = (one for one in BRANCHES if one.number == row.branch)
    assert row.guest in {package.guest for package in branch.guests}
    assert row.name == (f"{row.branch}-open" if row.open_modules else f"{row.branch}")
    assert row.version == f"{row.branch}."
    assert row.source.startswith("https://")


@each_driver
def test_a_driver_builds_for_the_kernel_of_its_guest(row: DriverRow) -> None:
    (branch,) = (one for one in BRANCHES if one.number == row.branch)
    kernel = Version.leading(GUESTS[row.guest].kernel.series)
    assert kernel is not None
    assert any(known.stable and known.holds(kernel) for known in branch.kernels)


@each_driver
def test_a_driver_is_held_and_nothing_that_it_needs_is_kept_away(row: DriverRow) -> None:
    assert set(row.packages) & set(row.hold)
    assert not {*row.packages, *row.hold} & set(row.never)
    assert all(PACKAGE.fullmatch(name) for name in (*row.packages, *row.hold, *row.compilers))
    assert all(PATTERN.fullmatch(name) for name in row.never)
    assert {"cuda", "cuda-drivers*"} <= set(row.never)


@each_driver
def test_the_toolkit_that_comes_with_a_driver_is_one_that_it_speaks(row: DriverRow) -> None:
    (branch,) = (one for one in BRANCHES if one.number == row.branch)
    assert row.default_cuda is not None
    assert CUDA_ROWS[row.guest, row.default_cuda].version <= branch.cuda


@each_cuda
def test_a_toolkit_is_packages_of_its_version_and_no_metapackage(row: CudaRow) -> None:
    dashed = row.name.replace(".", "-")
    assert all(name.endswith(f"-{dashed}") for name in row.packages)
    assert not {f"cuda-{dashed}", f"cuda-runtime-{dashed}", f"cuda-toolkit-{dashed}"} & set(
        row.packages
    )
    assert row.include.startswith(row.home) and row.lib.startswith(row.home)
    assert row.ways[0] is CudaWay.PACKAGES
    assert row.source.startswith("https://")


@each_cuda
def test_a_runfile_has_a_checksum_that_two_agree_on(row: CudaRow) -> None:
    assert (CudaWay.RUNFILE in row.ways) is (row.runfile is not None)
    if row.runfile:
        assert re.fullmatch(r"[0-9a-f]{64}", row.runfile.sha256)
        assert len(row.runfile.sources) >= 2
        assert row.runfile.uri.endswith(f"/{row.runfile.file}")
        assert f"/{row.name}." in row.runfile.uri
        assert "--driver" not in row.runfile.arguments


@pytest.mark.parametrize("repository", REPOSITORIES.values(), ids=REPOSITORIES)
def test_nothing_of_a_driver_comes_from_a_repository_of_toolkits(repository: AptRepository) -> None:
    assert {"nvidia-*", "libnvidia-*", "cuda-drivers*"} <= set(repository.never)
    assert repository.uri.startswith(f"https://{repository.origin}/")
    assert repository.uri.endswith("/")


@pytest.mark.parametrize("repository", REPOSITORIES.values(), ids=REPOSITORIES)
def test_the_key_of_a_repository_is_the_one_of_its_fingerprint(repository: AptRepository) -> None:
    assert repository.key_asset == f"keys/{repository.key_fingerprint}.asc"
    armour = (asset_dir("cloud-init") / repository.key_asset).read_text("ascii")
    assert fingerprint(armour) == repository.key_fingerprint


def fingerprint(armour: str) -> str:
    """Of the first packet, a version 4 key in the old format with two bytes of length (RFC 4880,
    4.2.1 and 12.2)."""
    _, _, body = armour.partition("\n\n")
    data = base64.b64decode(body[: body.index("\n=")])
    assert data[0] == 0x99
    length = int.from_bytes(data[1:3], "big")
    assert data[3] == 4
    return hashlib.sha1(data[: 3 + length], usedforsecurity=False).hexdigest().upper()
