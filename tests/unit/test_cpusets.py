"""Sets of CPUs, as libvirt writes them in a domain's XML."""

import pytest

from vfio_kit.apply.hypervisor import cpus_of


@pytest.mark.parametrize(
    ("cpuset", "cpus"),
    [("3", {3}), ("0-2", {0, 1, 2}), ("8-9,40-41", {8, 9, 40, 41}), ("1,3", {1, 3})],
)
def test_cpus_of(cpuset: str, cpus: set[int]) -> None:
    assert cpus_of(cpuset) == cpus
