"""VK7xx: where on the host the guest runs."""

from vfio_kit.knowledge.findings.kind import FindingKind
from vfio_kit.knowledge.findings.links import HUGETLB, LIBVIRT_DOMAIN, PARAMETERS, SYSFS_NODE
from vfio_kit.model import Level

_LIBVIRT_TUNING = "https://libvirt.org/kbase/kvm-realtime.html"
_NUMA = "https://docs.kernel.org/mm/numa.html"

MEMORY_CROSSES = FindingKind(
    "VK701",
    Level.WARN,
    "the guest's memory does not fit on one NUMA node",
    story="""
    A guest's memory belongs on the node that its GPU hangs on: there the GPU's transfers and the
    guest's CPUs reach it without crossing the link between the sockets. Here that node has not
    enough of it: too few free hugepages and, less a reserve for the host and what other VMs are
    about to take, too little free memory to make more of. So the rest comes from the next node, as
    few of them as hold it, the nearest first.

    Nothing fails. What lies on the other node is slower to reach, and a benchmark may differ from
    one start of the guest to the next, by what the guest happens to keep there.
    """,
    remedy=(
        "Give the guest as much as the node has (`--memory`), the finding says how much that is.",
        """Or see who has the node's memory, and end what need not be there:
        $ numastat -m
        $ vfio-kit list""",
        """Or reserve hugepages at boot, per node, before anything else has the memory, on a kernel
        of 5.16 or later, by words like these on its command line:
        $ hugepagesz=2M hugepages=0:4096,1:8192""",
    ),
    sources=(_NUMA, HUGETLB, PARAMETERS),
)
VCPUS_CROSS = FindingKind(
    "VK702",
    Level.WARN,
    "vCPUs run on another NUMA node than the guest's memory",
    story="""
    vCPUs are pinned to cores of the node that the GPU and the guest's memory are on. Here that node
    has fewer CPUs than are asked for, without those of other VMs; so the rest are cores of the next
    node. What runs on those reaches all of the guest's memory, and the GPU, across the link between
    the sockets, and the guest does not know which of its CPUs these are.
    """,
    remedy=(
        "Give the guest fewer CPUs (`--cpus`): the finding says how many the node has.",
        "Or take a GPU of another node, whose CPUs nobody has: `vfio-kit scan` names the nodes.",
        "Or leave the CPUs to the kernel: `--no-pin`.",
    ),
    sources=(_NUMA, LIBVIRT_DOMAIN),
)
VCPUS_SHARE = FindingKind(
    "VK703",
    Level.WARN,
    "vCPUs have no cores of their own",
    story="""
    A vCPU that has a core of its own is never made to wait by other work of the host. For that
    there have to be enough cores: one of each NUMA node stays with the host, for its interrupts and
    for QEMU's own threads, those of other VMs are taken, and a core goes as a whole, with its
    siblings. Here too few are left, so no vCPU is pinned to a core; all of them float over the CPUs
    that the finding names, or over all that the host has.

    Nothing fails. Under load the guest gets less than it seems to have, and its latencies vary.
    """,
    remedy=(
        "Give the guest fewer CPUs (`--cpus`): the finding says how many are free.",
        """Or end a guest that has cores there:
        $ vfio-kit list""",
    ),
    sources=(LIBVIRT_DOMAIN, _LIBVIRT_TUNING),
)
MORE_VCPUS_THAN_CPUS = FindingKind(
    "VK704",
    Level.WARN,
    "more vCPUs than the host has CPUs",
    story="""
    Two vCPUs of one guest never run at the same time on one CPU. A guest that has more of them than
    the host has CPUs gains nothing by it, and loses: a vCPU that holds a lock may be the one that
    waits for its turn, and all others wait for the lock. QEMU's own threads and the host's work
    want their turns as well.

    With so many none is pinned: the kernel moves them about as it sees fit.
    """,
    remedy=("Give the guest no more than the host has, better one or two fewer: `--cpus`.",),
    sources=(LIBVIRT_DOMAIN, _LIBVIRT_TUNING),
)
OTHER_NODE = FindingKind(
    "VK705",
    Level.INFO,
    "the NUMA node that was asked for is not the GPU's",
    story="""
    The spec names a node (`--numa-node`, `node` in `[placement]`), and the GPU hangs on another.
    The guest gets its memory and its CPUs where it was asked for. Each transfer between them and
    the GPU crosses the link between the sockets, which costs bandwidth and adds delay.

    That may be what is wanted: where the GPU's node is full, or kept for other guests, and for work
    that computes on the GPU for long and moves little.
    """,
    remedy=("Leave the node out, unless the GPU's node is to be kept for something else.",),
    sources=(_NUMA, SYSFS_NODE),
)
SEVERAL_NODES = FindingKind(
    "VK706",
    Level.INFO,
    "the guest's GPUs hang on several NUMA nodes",
    story="""
    One guest gets GPUs of several nodes. Its memory and its CPUs are on the node of most of them,
    as far as that holds them; the other GPUs reach both across the link between the sockets. Copies
    from one GPU to the other cross it as well, and the guest cannot tell which of them is the near
    one: it is shown a machine with a single node.

    Nothing fails. Work that is bound by the transfers runs slower on the far GPUs.
    """,
    remedy=(
        "Give the guest GPUs of one node, where there are enough: `vfio-kit scan` names the nodes.",
        "Or make it one guest for each node.",
    ),
    sources=(_NUMA, SYSFS_NODE),
)
PAGES_TO_ADD = FindingKind(
    "VK707",
    Level.INFO,
    "hugepages have to be added on the guest's NUMA node",
    story="""
    The hugepages that are free on the guest's node are used first. Here they are fewer than it
    takes; `up` has the kernel make the rest from the node's free memory, and gives them back when
    the guest goes down.

    That needs memory in one piece for each page. Soon after the host has booted there is plenty;
    later the kernel has to move things about, which takes its time, and with pages of 1 GiB it
    often fails. Pages that are reserved at boot are there.
    """,
    remedy=(
        "Nothing, if it works; `up` says what is missing if it does not.",
        """To be sure, reserve them at boot: add the words that the finding names to
        GRUB_CMDLINE_LINUX in `/etc/default/grub` (kernels from 5.16 know nodes), and reboot:
        $ sudo update-grub""",
    ),
    sources=(HUGETLB, PARAMETERS),
)
NO_ROOM = FindingKind(
    "VK708",
    Level.WARN,
    "the host has not the memory for the guest now",
    story="""
    VFIO pins all of a guest's memory for as long as it runs, so all of it has to be there when it
    starts. At the time of the plan the host has less: free hugepages of that size, and free memory
    and file caches less a reserve for the host and what other VMs are about to take.

    `up` looks again and refuses where it is still so. What a file system keeps in a cache of its
    own (ZFS) counts as taken here, though it may give it back.
    """,
    remedy=(
        "Give the guest less: `--memory`.",
        """See who has the memory:
        $ ps aux --sort -rss | head
        $ vfio-kit list""",
    ),
    sources=(HUGETLB, LIBVIRT_DOMAIN),
)
MEMORY_UNKNOWN = FindingKind(
    "VK709",
    Level.INFO,
    "how much memory a guest with this card needs is not known",
    story="""
    Without a size in the spec, a guest gets as much memory as its GPUs have together, at least 8
    GiB: what a GPU works on was mostly in the guest's memory before. For this card no table says
    how much it has: it is not NVIDIA's, it was made with several sizes under one device id, it is a
    virtual function, or nobody has put it into the table yet. It counts as one with 8 GiB.

    Work that loads more than that into the GPU may find the guest's memory too small.
    """,
    remedy=(
        "Name the size: `--memory MIB`, or `memory` in the spec.",
        """In the guest, how much the card has:
        $ nvidia-smi --query-gpu=memory.total --format=csv""",
    ),
    sources=("https://docs.nvidia.com/deploy/nvidia-smi/index.html",),
)
