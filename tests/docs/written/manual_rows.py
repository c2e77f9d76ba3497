"""TABLES of the manual pages: what the declarations of the commands do not say."""

from dataclasses import dataclass

_RECORD = ("/var/lib/vfio-kit/NAME/", "What was done for the VM NAME, its keys and its journal.")
_DISKS = ("/var/lib/libvirt/images/", "Images, and the overlay and the seed of each VM.")
_CONSOLE = ("/var/log/libvirt/qemu/NAME.console", "What the guest wrote on its serial console.")
_UNITS = ("/etc/systemd/system/vfio-kit@NAME.service", "The unit of a VM with --autostart.")
_SYSFS = ("/sys/bus/pci/devices/", "The devices and their IOMMU groups, which are read.")


@dataclass(frozen=True, slots=True)
class Manual:
    """What the declaration of a command does not say."""

    files: tuple[tuple[str, str], ...] = ()
    examples: tuple[tuple[str, str], ...] = ()
    """Each with what it is for."""
    see_also: tuple[str, ...] = ()


MANUALS: dict[str, Manual] = {
    "scan": Manual(
        (_SYSFS,),
        (
            ("Which GPUs can go to a guest:", "vfio-kit scan"),
            ("For a script, whether one of them can:", "vfio-kit scan --quiet --gpu 01:00.0"),
        ),
        ("vfio-kit-explain(1)", "vfio-kit-plan(1)", "lspci(8)"),
    ),
    "explain": Manual(
        (),
        (("The story behind a finding:", "vfio-kit explain VK101"),),
        ("vfio-kit-scan(1)", "vfio-kit-plan(1)"),
    ),
    "advise": Manual(
        (_SYSFS, ("/usr/share/misc/pci.ids", "Names of devices, beside udev's database.")),
        (
            ("Of a GPU of this machine:", "vfio-kit advise --gpu 01:00.0"),
            ("Of a card that is not there yet:", "vfio-kit advise --name 'Tesla K80'"),
        ),
        ("vfio-kit-scan(1)", "vfio-kit-up(1)"),
    ),
    "snapshot": Manual(
        (_SYSFS,),
        (
            (
                "All that root sees, to be looked at elsewhere:",
                "sudo vfio-kit snapshot -o gpu1.tar.gz",
            ),
        ),
        ("vfio-kit-scan(1)", "vfio-kit-plan(1)"),
    ),
    "plan": Manual(
        (_SYSFS, _RECORD, _DISKS),
        (
            ("What up would do:", "vfio-kit plan --gpu 01:00.0"),
            (
                "A plan for up --plan, which refuses what has changed since:",
                "vfio-kit plan --name m4000 --gpu 01:00.0 --json > m4000.json",
            ),
        ),
        ("vfio-kit-up(1)", "vfio-kit-render(1)"),
    ),
    "render": Manual(
        (),
        (
            (
                "The domain XML and the seed, into the folder m4000:",
                "vfio-kit render --gpu 01:00.0 --output libvirt --output cloud-init -o m4000",
            ),
        ),
        ("vfio-kit-plan(1)", "virsh(1)", "qemu-system-x86_64(1)", "cloud-init(1)"),
    ),
    "image": Manual(
        (_DISKS,),
        (("The image of Ubuntu 22.04, verified:", "sudo vfio-kit image fetch ubuntu-22.04"),),
        ("vfio-kit-bake(1)", "vfio-kit-up(1)", "qemu-img(1)", "gpgv(1)"),
    ),
    "bake": Manual(
        (_DISKS, ("OUT.manifest.json", "What the image holds, and from what it was made.")),
        (
            (
                "An image that needs no network any more:",
                "sudo vfio-kit bake /var/lib/libvirt/images/golden.qcow2 --driver 470",
            ),
        ),
        ("vfio-kit-image(1)", "vfio-kit-up(1)"),
    ),
    "up": Manual(
        (_RECORD, _DISKS, _CONSOLE, _UNITS),
        (
            (
                "A VM with the GPU, driver 470 and CUDA 11.4:",
                "sudo vfio-kit up m4000 --gpu 01:00.0",
            ),
            (
                "What would be done, and nothing else:",
                "vfio-kit up m4000 --gpu 01:00.0 --dry-run",
            ),
        ),
        ("vfio-kit-plan(1)", "vfio-kit-verify(1)", "vfio-kit-down(1)", "virsh(1)"),
    ),
    "verify": Manual(
        (_RECORD,),
        (
            ("A VM that vfio-kit made:", "sudo vfio-kit verify m4000"),
            (
                "As a gate, ten minutes at most:",
                "vfio-kit verify --host gpu-01 --until healthy --for 600 --expect driver=470",
            ),
        ),
        ("vfio-kit-up(1)", "ssh_config(5)", "nvidia-smi(1)"),
    ),
    "list": Manual(
        (_RECORD,), (("The VMs of this host:", "sudo vfio-kit list"),), ("vfio-kit-repair(1)",)
    ),
    "stop": Manual(
        (_RECORD,),
        (("Switched off, and kept:", "sudo vfio-kit stop m4000"),),
        ("vfio-kit-start(1)", "vfio-kit-down(1)"),
    ),
    "start": Manual(
        (_RECORD, _CONSOLE),
        (("On again, with its card:", "sudo vfio-kit start m4000"),),
        ("vfio-kit-stop(1)", "vfio-kit-up(1)"),
    ),
    "down": Manual(
        (_RECORD, _CONSOLE),
        (
            ("Away, with its disk; record and console log stay:", "sudo vfio-kit down m4000"),
            ("Those go, too:", "sudo vfio-kit down m4000 --purge"),
        ),
        ("vfio-kit-stop(1)", "vfio-kit-repair(1)"),
    ),
    "repair": Manual(
        (_RECORD, _UNITS),
        (("What a crash left, and nothing mended yet:", "sudo vfio-kit repair --check"),),
        ("vfio-kit-list(1)", "vfio-kit-down(1)"),
    ),
    "completion": Manual(
        (),
        (("For this bash alone:", "source <(vfio-kit completion bash)"),),
        ("bash(1)", "zsh(1)", "fish(1)"),
    ),
}
"""One row a command."""

PROGRAM = Manual(
    (_RECORD, _DISKS, _CONSOLE, _UNITS),
    (
        ("Which cards can go:", "vfio-kit scan"),
        ("The guest's image:", "sudo vfio-kit image fetch ubuntu-22.04"),
        ("The VM:", "sudo vfio-kit up m4000 --gpu 01:00.0"),
        ("Whether its card computes:", "sudo vfio-kit verify m4000"),
        ("The host as it was:", "sudo vfio-kit down m4000"),
    ),
    (*(f"vfio-kit-{name}(1)" for name in MANUALS), "virsh(1)", "driverctl(8)"),
)

ENVIRONMENT = {
    "VFIO_KIT_ROOT": "Stands for --root.",
    "VFIO_KIT_STATE_DIR": "Stands for --state-dir.",
    "VFIO_KIT_IMAGE_DIR": "Stands for --image-dir.",
    "NO_COLOR": "Set to anything: no colours, as with --no-color.",
}
"""Variables of the commands' options; a row each."""
