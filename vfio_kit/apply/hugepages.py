"""Hugepages: what is free is used, what is missing is added, and only that is given back."""

import time
from pathlib import Path

from vfio_kit.errors import HostError
from vfio_kit.model.vm import DomainPlan, Hugepages

_ROOT = Path("/sys/kernel/mm/hugepages")
_VM = Path("/proc/sys/vm")
HOST_RESERVE_MIB = 256


def pages_to_add(pages: Hugepages, root: Path = _ROOT) -> int:
    """How many pages the pool must grow by so that `pages.count` are free and unreserved."""
    pool = _pool(pages.size_kib, root)
    available = _value(pool / "free_hugepages") - _value(pool / "resv_hugepages")
    return max(0, pages.count - available)


def require_memory(
    domain: DomainPlan, meminfo: Path = Path("/proc/meminfo"), root: Path = _ROOT
) -> None:
    """Raises HostError where the host has not the memory that is still to be taken.

    VFIO pins all of a guest's RAM, with hugepages and without; HOST_RESERVE stays for the host.
    """
    pages = domain.hugepages
    needed = pages_to_add(pages, root) * pages.size_kib >> 10 if pages else domain.memory_mib
    lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
    available = int(lines["MemAvailable"].split()[0]) >> 10
    if needed + HOST_RESERVE_MIB > available:
        kind = "hugepages" if pages else "memory"
        raise HostError(
            f"the guest takes {needed} MiB more of {kind}, {HOST_RESERVE_MIB} MiB stay for the "
            f"host, and only {available} MiB are available",
            "give it less with --memory, or end what holds the memory: ps aux --sort -rss | head",
        )


def require_mount(pages: Hugepages, mounts: Path = Path("/proc/mounts")) -> None:
    """Raises HostError where no hugetlbfs of this page size is mounted: libvirt needs one."""
    sizes = pages.size.mount_options
    options = [line.split()[3].split(",") for line in mounts.read_text().splitlines()
               if line.split()[2] == "hugetlbfs"]  # fmt: skip
    if not any(f"pagesize={size}" in several for several in options for size in sizes):
        folder = f"/dev/hugepages-{sizes[0]}"
        raise HostError(
            f"no hugetlbfs with pages of {sizes[0]} is mounted, and libvirt needs one",
            f"mkdir -p {folder}; mount -t hugetlbfs -o pagesize={sizes[0]} none {folder}; "
            "systemctl restart libvirtd",
        )


def grow(
    size_kib: int, count: int, root: Path = _ROOT, vm: Path = _VM, patience: float = 20
) -> None:
    """Adds `count` pages; compacts memory and asks again where the kernel gives fewer.

    Raises HostError, with the pool as it was, where they cannot be had within `patience` seconds.
    """
    pool = _pool(size_kib, root)
    before = _value(pool / "nr_hugepages")
    end = time.monotonic() + patience
    dropped = False
    try:
        while (got := _ask(pool, before, count)) < count and time.monotonic() < end:
            if not dropped:
                _write(vm / "drop_caches", 3)
                dropped = True
            _write(vm / "compact_memory", 1)
            time.sleep(0.2)
    except HostError:
        _write(pool / "nr_hugepages", before)
        raise
    if got >= count:
        return
    _write(pool / "nr_hugepages", before)
    size = "1G" if size_kib >= 1 << 20 else f"{size_kib >> 10}M"
    raise HostError(
        f"only {got} of {count} missing hugepages of {size} could be made free",
        f"use less --memory, or --hugepages off, or reserve them at boot: kernel parameters "
        f"hugepagesz={size} hugepages={before + count}",
    )


def _ask(pool: Path, before: int, count: int) -> int:
    """Asks for `count` more pages; returns how many more there are."""
    _write(pool / "nr_hugepages", before + count)
    return _value(pool / "nr_hugepages") - before


def shrink(size_kib: int, count: int, *, at_least: int, root: Path = _ROOT) -> None:
    """Gives `count` pages back, but leaves `at_least` in the pool: those that were there before.

    Pages that somebody else added meanwhile stay, and so does the pool if it never grew.
    """
    pool = _pool(size_kib, root)
    now = pool_size(size_kib, root)
    if now > at_least:
        _write(pool / "nr_hugepages", max(at_least, now - count))


def pool_size(size_kib: int, root: Path = _ROOT) -> int:
    """Pages in the pool, used or not."""
    return _value(_pool(size_kib, root) / "nr_hugepages")


def _pool(size_kib: int, root: Path) -> Path:
    pool = root / f"hugepages-{size_kib}kB"
    if not pool.is_dir():
        raise HostError(
            f"this kernel has no hugepages of {size_kib} KiB",
            "use --hugepages 2M or off; 1G needs a CPU with the flag pdpe1gb",
        )
    return pool


def _value(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError) as error:
        raise HostError(f"cannot read a number from {path}: {error}") from None


def _write(path: Path, value: int) -> None:
    try:
        path.write_text(str(value))
    except OSError as error:
        raise HostError(f"cannot write {value} to {path}: {error.strerror}") from None
