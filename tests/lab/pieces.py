"""Memory of the host in pieces: free, and not in blocks of 2 MiB."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .labhost import LabHost

_PROGRAM = Path(__file__).parent / "inside" / "fragment.py"
_MOVABLE = "/proc/sys/vm/compact_unevictable_allowed"


@contextmanager
def in_pieces(host: LabHost, cpu: int, mib: int, *, fixed: bool = False) -> Iterator[None]:
    """So many MiB, of the CPU's node, have a page in use in each.

    fixed  these pages are locked, and the kernel may not move what is locked (admin-guide/sysctl/
           vm.rst, compact_unevictable_allowed): no compaction makes blocks of them.
    """
    host.put(_PROGRAM, "/root/fragment.py")
    if fixed:
        host.run(f"echo 0 > {_MOVABLE}")
    host.run(
        "mkfifo /root/hold; (exec sleep 900 > /root/hold) 2> /dev/null & echo $! > /root/hold.pid; "
        f"python3 /root/fragment.py {cpu} {mib} {'locked' * fixed} < /root/hold > /root/ready 2>&1 "
        "& pid=$!; until grep -q ready /root/ready; do kill -0 $pid || cat /root/ready; "
        "kill -0 $pid || exit; sleep 0.5; done",
        timeout=300,
    )
    try:
        yield
    finally:
        host.run("cd /root; kill $(cat hold.pid); rm hold hold.pid ready fragment.py")
        if fixed:
            host.run(f"echo 1 > {_MOVABLE}")
