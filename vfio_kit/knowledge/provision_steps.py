"""The steps of vfio-kit-provision, the script that installs a driver in a guest: one row each.

The script says in /var/lib/vfio-kit/provision.state where it is (docs/guest.md has the format);
`code` is what stands there as `step`. The order of the rows is the order of the steps.
"""

from dataclasses import dataclass
from enum import StrEnum


class Needs(StrEnum):
    """What must be asked for, or a step is left out."""

    NOTHING = "nothing"
    BUNDLE = "bundle"
    DRIVER = "driver"
    CUDA = "cuda"
    GPU = "gpu"
    """A driver, and a GPU to load it for: not while an image is baked."""
    PACKAGES = "packages"


@dataclass(frozen=True, slots=True)
class ProvisionStep:
    """A row."""

    code: str
    title: str
    needs: Needs
    pain: str
    """What has gone wrong when it fails."""
    remedy: str
    culprits: tuple[str, ...] = ()
    """Files, as patterns of the shell, whose last lines say why; of several the newest."""


APT_LOG = "/var/log/apt/term.log"
KERNEL_LOG = "/var/log/vfio-kit-kernel.log"
STATE_FILE = "/var/lib/vfio-kit/provision.state"
MAKE_LOGS = "/var/lib/dkms/*/*/build/make.log"

_ROOM = "look at df -h in the guest; give a larger --disk"
_MIRROR = "see that the guest reaches the archive, or give it all on a disk: --bundle"

PROVISION_STEPS: tuple[ProvisionStep, ...] = (
    ProvisionStep(
        "preflight",
        "look whether a driver can be installed here",
        Needs.NOTHING,
        "Secure Boot refuses a module that DKMS built, another system than was planned, no room",
        "boot the VM without Secure Boot (--boot-mode bios, or uefi as vfio-kit defines it); "
        "give the image of the guest system that was asked for; give a larger --disk",
    ),
    ProvisionStep(
        "bundle",
        "mount the offline bundle and check it",
        Needs.BUNDLE,
        "the bundle's disk is missing, or a file on it is not the one in SHA256SUMS",
        "make the bundle again: vfio-kit render --output bundle, then make-bundle.sh",
    ),
    ProvisionStep(
        "sources",
        "set up the sources of packages",
        Needs.NOTHING,
        "the archive does not answer, or a repository's key is not the known one",
        _MIRROR,
    ),
    ProvisionStep(
        "kernel",
        "see to a kernel that the driver builds on",
        Needs.DRIVER,
        "the driver does not build on the kernel that runs, and the system's own is not to be had",
        "boot the image's own kernel, not a newer one; " + _MIRROR,
        (APT_LOG,),
    ),
    ProvisionStep(
        "headers",
        "install the headers of the kernel, and their compiler",
        Needs.DRIVER,
        "the archive has no headers for this kernel any more: the image is older than its archive",
        "take a newer image of the same system, or a bundle that has the headers",
        (APT_LOG,),
    ),
    ProvisionStep(
        "driver",
        "install the driver",
        Needs.DRIVER,
        "apt could not install the driver's packages",
        "the last lines of its log name the package; " + _ROOM,
        (MAKE_LOGS, APT_LOG),
    ),
    ProvisionStep(
        "dkms",
        "see that DKMS has built the module",
        Needs.DRIVER,
        "the module did not build for this kernel",
        "its make.log names the error; take a kernel that the branch builds on "
        "(vfio-kit advise lists them), or another driver",
        (MAKE_LOGS,),
    ),
    ProvisionStep(
        "assert-driver",
        "see that all of the driver is of one version",
        Needs.DRIVER,
        "the archive moved the package to another branch, or another repository replaced a part",
        "apt-cache policy in the guest says where each package came from; "
        "choose a driver that the archive carries",
        (APT_LOG,),
    ),
    ProvisionStep(
        "cuda",
        "install CUDA's toolkit",
        Needs.CUDA,
        "the toolkit is not to be had, its checksum is wrong, or it does not fit on the disk",
        _MIRROR + "; " + _ROOM,
        ("/var/log/cuda-installer.log", APT_LOG),
    ),
    ProvisionStep(
        "packages",
        "install the other packages that were asked for",
        Needs.PACKAGES,
        "a package that the spec names is not in the archive, or not in that version",
        "correct `packages` in the spec; make the bundle again, if there is one",
        (APT_LOG,),
    ),
    ProvisionStep(
        "hold",
        "hold driver and kernel",
        Needs.DRIVER,
        "dpkg has no such package to hold",
        "dpkg --audit in the guest says what is broken",
    ),
    ProvisionStep(
        "device-query",
        "build deviceQuery",
        Needs.CUDA,
        "the samples are not to be had, are not the known ones, or do not compile",
        _MIRROR,
    ),
    ProvisionStep(
        "load",
        "load the driver",
        Needs.GPU,
        "the module does not take the card: wrong branch, a BAR without address, or nouveau has it",
        "the kernel's log says which (lines with NVRM); vfio-kit verify names it",
        (KERNEL_LOG,),
    ),
    ProvisionStep(
        "done",
        "everything is installed and held",
        Needs.NOTHING,
        "the state could not be written",
        _ROOM,
    ),
)
