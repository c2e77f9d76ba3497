"""How first boots fail: what the logs of a guest say then, what it means, and what to do.

Sources: the texts are those of apt 2.6, dpkg 1.21, DKMS 3.0 and gcc 12 of Debian 12, made to fail
(tests/fixtures/first-boot has what they printed), but for those of the kernel: kernel/module/
signing.c and security/lockdown of Linux, kmod's modprobe, nv.c and nvidia_470's nv-pci.c.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pain:
    """A row. The causes stand before what follows from them: the first that matches is named."""

    name: str
    meaning: str
    remedy: str
    texts: tuple[str, ...] = ()
    """Regular expressions, for any line of a log."""
    steps: tuple[str, ...] = ()
    """Steps of the provisioning that fail of nothing else (knowledge/provision_steps)."""


_MIRROR = "see that the guest reaches the archive, or give it all on a disk: --bundle DIR"

PAINS: tuple[Pain, ...] = (
    Pain(
        "disk full",
        "the guest's disk is full",
        "in the guest: df -h; give a larger --disk",
        (r"No space left on device", r"You don't have enough free space in "),
    ),
    Pain(
        "disk read-only",
        "the guest's kernel has taken its disk away from writers: it met errors on it",
        "in the guest: dmesg; on the host: df -h of the folder with the overlay (--image-dir)",
        (r"Read-only file system",),
    ),
    Pain(
        "wrong clock",
        "the guest's clock is behind: what is signed counts as not valid yet",
        "in the guest: timedatectl; on the host: is its own clock right?",
        (
            r"Release file for .* is not valid yet",
            r"certificate is not yet valid",
            r"certificate chain uses not yet valid certificate",
        ),
    ),
    Pain(
        "no network",
        "the guest reaches no archive of packages",
        "in the guest: resolvectl status; ip route; on the host: is the libvirt network's forward "
        "mode nat, and ip_forward on? or give it all on a disk: --bundle DIR",
        (
            r"Temporary failure resolving",
            r"Could not resolve host",
            r"Network is unreachable",
            r"Could not connect to ",
            r"Failed to connect to ",
            r"Connection timed out",
        ),
    ),
    Pain(
        "apt lock",
        "another run of apt or dpkg held its lock all the time",
        "in the guest: fuser -v /var/lib/dpkg/lock-frontend; an image with unattended-upgrades "
        "at work at its first boot wants longer",
        (
            r"^E: Could not get lock /var/lib/",
            r"^E: Unable to acquire the dpkg frontend lock",
            r"^dpkg: error: dpkg frontend lock was locked",
        ),
    ),
    Pain(
        "key fingerprint",
        "the key of a repository is missing, or not the known one: nothing was taken from it",
        "has the repository a new key? a vfio-kit that knows it, or --bundle DIR; "
        "somebody in between cannot be ruled out",
        (
            r"NO_PUBKEY",
            r"BADSIG",
            r"EXPKEYSIG",
            r"REVKEYSIG",
            r"^E: The repository '.*' is not signed\.",
            r"key .*has (the )?fingerprint",
        ),
    ),
    Pain(
        "checksum",
        "a file is not the one that its index names: damaged on the way, or a mirror in motion",
        "repeat it; if it stays, another mirror, or --bundle DIR",
        (r"Hash Sum mismatch", r"File has unexpected size", r"computed checksums? did NOT match"),
    ),
    Pain(
        "package gone",
        "the archive has not the version any more that the image's index names",
        "take a newer image of the same system",
        (r"^E: Failed to fetch .*  404 ",),
    ),
    Pain(
        "package missing",
        "the archive has no package of this name, or not in this version",
        "correct `packages` in the spec; " + _MIRROR,
        (
            r"^E: Unable to locate package ",
            r"^E: Version '.*' for '.*' was not found",
            r"^E: Package '.*' has no installation candidate",
        ),
    ),
    Pain(
        "packages in conflict",
        "packages exclude each other, or one that is needed cannot be had",
        "its log names them; `packages` in the spec may want another version of the driver's",
        (r"^E: Unable to correct problems, you have held broken packages", r"unmet dependencies"),
    ),
    Pain(
        "dpkg interrupted",
        "an installation was broken off in the middle, by a stop of the VM as a rule",
        "vfio-kit down, then up again: the guest begins with a fresh disk",
        (r"^E: dpkg was interrupted",),
    ),
    Pain(
        "Secure Boot",
        "the kernel takes no module that DKMS built: it is not signed with a key of the machine",
        "boot the VM without Secure Boot: --boot bios, or uefi as vfio-kit defines it",
        (
            r"Key was rejected by service",
            r"Required key not available",
            r"Loading of (unsigned module|module with unavailable key) is rejected",
            r"Lockdown: .*: unsigned module loading is restricted",
        ),
    ),
    Pain(
        "headers missing",
        "DKMS has no headers of the running kernel to build against",
        "take a newer image of the same system, whose kernel the archive still has",
        (
            r"Your kernel headers for kernel .* cannot be found",
            r"Module build for kernel .* was skipped since the",
        ),
    ),
    Pain(
        "out of memory",
        "the guest had too little memory for the compiler",
        "give it more with --memory, or fewer --cpus: DKMS compiles on all of them",
        (
            r"Killed signal terminated program",
            r"internal compiler error: Killed",
            r"Out of memory: Killed process",
            r"virtual memory exhausted",
        ),
    ),
    Pain(
        "DKMS build failed",
        "the driver's module does not compile for this kernel",
        "take a kernel that the branch builds on (vfio-kit advise), or another --driver",
        (
            r"^Error! Bad return status for module build",
            r"^make(\[\d+\])?: \*\*\* .* Error \d+$",
            r": fatal error: .*: No such file or directory$",
        ),
        ("dkms",),
    ),
    Pain(
        "driver was replaced",
        "another version of the driver is installed than was asked for",
        "in the guest: apt-cache policy says where each package came from; choose a driver that "
        "the archive carries: vfio-kit advise",
        steps=("assert-driver",),
    ),
    Pain(
        "bundle incomplete",
        "the offline bundle lacks a file, or holds another one than its SHA256SUMS says",
        "make it again: vfio-kit render --output bundle, then make-bundle.sh",
        steps=("bundle",),
    ),
)
