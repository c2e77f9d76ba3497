"""Before anything is changed: whether the memory is there, where, and the mount of hugepages."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.machines import K80
from tests.unit.test_hugepages import placed, pool, two_nodes
from tests.unit.values import function, host, spec
from vfio_kit.apply.memory import HOST_RESERVE_MIB, require_memory, require_mount
from vfio_kit.errors import HostError
from vfio_kit.model import NumaNode
from vfio_kit.model.placement import Claim, CpuTopology, Hugepages, Placement
from vfio_kit.model.vm import DomainPlan
from vfio_kit.plan import make_plan


def domain(memory: int, hugepages: str, placement: Placement | None = None) -> DomainPlan:
    machine = host(function("01:00.0", K80, 6))
    plan = make_plan(machine, spec("01:00.0", memory=memory, hugepages=hugepages))
    return replace(plan.domain, placement=placement)


def nodes(*free: int | None) -> tuple[NumaNode, ...]:
    return tuple(NumaNode(number, {}, 65536, mib) for number, mib in enumerate(free))


def meminfo(root: Path, available_kib: int) -> Path:
    """Gives `root` a /proc/meminfo, and returns `root`."""
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc/meminfo").write_text(
        f"MemTotal:       65536000 kB\nMemFree:  1 kB\nMemAvailable:  {available_kib} kB\n"
        "HugePages_Total:       0\n"
    )
    return root


def test_a_guest_whose_memory_is_there_may_come(tmp_path: Path) -> None:
    root = meminfo(tmp_path, (1001 + HOST_RESERVE_MIB) * 1024)
    require_memory(domain(1001, "off"), root=root)


def test_memory_that_is_not_there_is_named_with_all_its_parts(tmp_path: Path) -> None:
    just_less = (1001 + HOST_RESERVE_MIB) * 1024 - 1
    with pytest.raises(HostError) as caught:
        require_memory(domain(1001, "off"), root=meminfo(tmp_path, just_less))
    assert caught.value.message == (
        "the guest takes 1001 MiB more of memory, 256 MiB stay for the host, "
        "and only 1256 MiB are available"
    )
    assert "--memory" in caught.value.hint
    assert "reserve" not in caught.value.hint


@pytest.mark.parametrize(("size", "size_kib"), [("2M", 2048), ("1G", 1 << 20)])
def test_hugepages_that_are_free_already_take_no_more_memory(
    tmp_path: Path, size: str, size_kib: int
) -> None:
    wanted = domain(8192, size)
    pool(tmp_path, size_kib=size_kib, nr=2, free=2)
    needed = 8192 - 2 * size_kib // 1024
    require_memory(wanted, root=meminfo(tmp_path, (needed + HOST_RESERVE_MIB) * 1024))
    with pytest.raises(HostError) as caught:
        require_memory(wanted, root=meminfo(tmp_path, (needed + HOST_RESERVE_MIB - 1) * 1024))
    assert f"takes {needed} MiB more of hugepages" in caught.value.message
    count = 8192 * 1024 // size_kib
    assert f"reserve them at boot: kernel parameters hugepagesz={size} hugepages={count}" in (
        caught.value.hint
    )


def test_more_than_the_host_has_cannot_be_reserved_either(tmp_path: Path) -> None:
    pool(tmp_path)
    with pytest.raises(HostError) as caught:
        require_memory(domain(65536, "2M"), root=meminfo(tmp_path, 1 << 20))
    assert "reserve" not in caught.value.hint


def test_a_node_that_has_not_the_memory_is_named_with_what_would_reserve_it(tmp_path: Path) -> None:
    two_nodes(tmp_path, (0, 0), (100, 20))
    root = meminfo(tmp_path, 1 << 30)
    wanted = domain(2048, "2M", placed((0, 512), (1, 512)))
    require_memory(wanted, nodes(1024, 984), root=root)
    with pytest.raises(HostError) as caught:
        require_memory(wanted, nodes(1024, 983), root=root)
    assert caught.value.message == (
        "the guest takes 984 MiB more of hugepages on node 1, and only 983 MiB are available there "
        "(node 0 has 1024 MiB; node 1 has 983 MiB)"
    )
    assert "hugepages=0:512,1:592" in caught.value.hint or "node1" in caught.value.hint
    assert "--numa-node" in caught.value.hint


def test_a_node_whose_memory_is_not_known_refuses_nobody(tmp_path: Path) -> None:
    two_nodes(tmp_path, (0, 0), (0, 0))
    root = meminfo(tmp_path, 1 << 30)
    require_memory(domain(1024, "2M", placed((1, 512))), nodes(1, None), root=root)
    require_memory(domain(1024, "2M", placed((1, 512))), root=root)


def test_what_other_vms_will_take_is_not_there(tmp_path: Path) -> None:
    two_nodes(tmp_path, (0, 0), (512, 512))
    root = meminfo(tmp_path, 1 << 30)
    wanted = domain(1024, "2M", placed((1, 512)))
    require_memory(wanted, nodes(0, 0), root=root)
    with pytest.raises(HostError, match="takes 100 MiB more of hugepages on node 1"):
        require_memory(
            wanted, nodes(0, 0), claims=(Claim("other", memory_mib=((1, 100),)),), root=root
        )


def test_without_hugepages_the_nodes_together_have_to_hold_it(tmp_path: Path) -> None:
    root = meminfo(tmp_path, 1 << 30)
    bound = Placement(CpuTopology(1, 1, 1), nodes=(0, 1))
    require_memory(domain(3000, "off", bound), nodes(1000, 2000), root=root)
    with pytest.raises(HostError) as caught:
        require_memory(domain(3000, "off", bound), nodes(1000, 1999), root=root)
    assert caught.value.message == (
        "the guest's 3000 MiB come from node 0 and 1, and only 2999 MiB are available there "
        "(node 0 has 1000 MiB; node 1 has 1999 MiB)"
    )


# The mount.

_MOUNTS = "proc /proc proc rw 0 0\nnone /mnt/huge\\040pages hugetlbfs {options} 0 0\n"


@pytest.mark.parametrize(
    ("size_kib", "options", "there"),
    [
        (2048, "rw,relatime,pagesize=2M", True),
        (2048, "rw,pagesize=2048K,uid=1", True),
        (2048, "rw,pagesize=1024M", False),
        (2048, "rw,pagesize=20M", False),
        (2048, "rw", False),
        (1 << 20, "rw,relatime,pagesize=1024M", True),
        (1 << 20, "rw,pagesize=1G", True),
        (1 << 20, "rw,pagesize=2M", False),
    ],
)
def test_a_mount_of_the_pages_size_is_asked_for(
    tmp_path: Path, size_kib: int, options: str, there: bool
) -> None:
    (tmp_path / "mounts").write_text(_MOUNTS.format(options=options))
    pages = Hugepages(size_kib, 1, 1)
    if there:
        require_mount(pages, tmp_path / "mounts")
        return
    size = "2M" if size_kib == 2048 else "1G"
    with pytest.raises(HostError) as caught:
        require_mount(pages, tmp_path / "mounts")
    assert caught.value.message.startswith(f"no hugetlbfs with pages of {size} is mounted")
    assert f"mount -t hugetlbfs -o pagesize={size} none /dev/hugepages-{size}" in caught.value.hint


def test_another_file_system_with_such_an_option_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "mounts").write_text("tmpfs /tmp tmpfs rw,pagesize=2M 0 0\n")
    with pytest.raises(HostError):
        require_mount(Hugepages(2048, 1, 1), tmp_path / "mounts")
