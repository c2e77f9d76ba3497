"""Makes a bootable disk from a folder, without loop devices, mounts or a bootloader's installer.

Laid out like Ubuntu's cloud images: partition 14 is BIOS boot, 15 the ESP, and 1, the last on
the disk so that it can grow, the root.
"""

import shlex
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

SECTOR = 512
_BIOS_BOOT = 2048  # first sectors of the partitions
_ESP = 10240
_ROOT = 227328
_BACKUP_GPT = 2048
_CORE_LIMIT = _ESP - _BIOS_BOOT

# What GRUB needs to find its menu and a kernel: by disk and partition, to look, to boot.
_MODULES = (
    *("part_gpt", "ext2", "fat", "search", "search_fs_uuid", "search_label"),
    *("normal", "configfile", "echo", "test", "serial", "terminal", "minicmd", "loadenv"),
    *("linux", "gzio", "halt", "reboot"),
)


def run(argv: Sequence[str | Path]) -> None:
    """Run a command; where it fails, say which and with what output."""
    done = subprocess.run(argv, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        command = shlex.join(str(a) for a in argv)
        raise RuntimeError(f"{command}\nended with {done.returncode}:\n{done.stdout[-4000:]}")


def make_disk(root: Path, disk: Path, *, mib: int, label: str) -> None:
    """Write a disk of `mib` MiB whose root, labelled `label`, holds the folder `root`.

    GRUB comes from `root` itself, so that its core and its modules are of one version.
    """
    with tempfile.TemporaryDirectory(dir=root / "tmp") as name:
        work = Path(name)
        _build_grub(root, work, label)
        esp = _build_esp(work)
        core = (work / "core.img").read_bytes()
        parts = disk.with_suffix(".part")
        parts.unlink(missing_ok=True)
        with parts.open("wb") as f:
            f.truncate(mib << 20)
        _partition(parts)
        _copy_sparse(esp, parts, _ESP * SECTOR)
    _install_boot_sector(parts, (root / "usr/lib/grub/i386-pc/boot.img").read_bytes(), core)
    kib = (mib * 2048 - _ROOT - _BACKUP_GPT) // 2
    _make_filesystem(root, parts, label, offset=_ROOT * SECTOR, kib=kib)
    parts.rename(disk)


def make_data_disk(folder: Path, disk: Path, *, mib: int, label: str) -> None:
    """Write a disk without partitions whose file system holds `folder`."""
    parts = disk.with_suffix(".part")
    parts.unlink(missing_ok=True)
    with parts.open("wb") as f:
        f.truncate(mib << 20)
    _make_filesystem(folder, parts, label, offset=0, kib=mib << 10)
    parts.rename(disk)


def _make_filesystem(folder: Path, disk: Path, label: str, *, offset: int, kib: int) -> None:
    argv = ["mke2fs", "-q", "-F", "-t", "ext4", "-m", "1", "-L", label]
    argv += ["-O", "^orphan_file,^metadata_csum_seed"]  # GRUB 2.06 reads neither
    argv += ["-E", f"offset={offset},lazy_itable_init=1,lazy_journal_init=1"]
    run([*argv, "-d", folder, disk, f"{kib}k"])


def _build_grub(root: Path, work: Path, label: str) -> None:
    """Leave core.img (BIOS) and grubx64.efi in `work`, and GRUB's modules in `root`."""
    for platform in ("i386-pc", "x86_64-efi"):
        target = root / "boot/grub" / platform
        shutil.copytree(root / "usr/lib/grub" / platform, target, dirs_exist_ok=True)
    early = work / "early.cfg"
    early.write_text(f"search.fs_label {label} root\nset prefix=($root)/boot/grub\n")
    inside = Path("/") / work.relative_to(root)
    for platform, out, modules in (
        ("i386-pc", "core.img", ["biosdisk", "part_msdos"]),
        ("x86_64-efi", "grubx64.efi", ["efi_gop", "all_video"]),
    ):
        argv: list[str | Path] = ["chroot", root, "grub-mkimage", "-O", platform]
        argv += ["-o", inside / out, "-c", inside / "early.cfg", "-p", "/boot/grub"]
        run([*argv, *_MODULES, *modules])


def _build_esp(work: Path) -> Path:
    esp = work / "esp"
    with esp.open("wb") as f:
        f.truncate((_ROOT - _ESP) * SECTOR)
    run(["mkfs.vfat", "-F", "32", "-n", "UEFI", esp])
    run(["mmd", "-i", esp, "::/EFI", "::/EFI/BOOT"])
    run(["mcopy", "-i", esp, work / "grubx64.efi", "::/EFI/BOOT/BOOTX64.EFI"])
    return esp


def _partition(disk: Path) -> None:
    argv = ["sgdisk", "-a", "1", "-n", f"14:{_BIOS_BOOT}:{_ESP - 1}", "-t", "14:ef02"]
    argv += ["-n", f"15:{_ESP}:{_ROOT - 1}", "-t", "15:ef00"]
    argv += ["-n", f"1:{_ROOT}:0", "-t", "1:8300", "-c", "1:root"]
    run([*argv, disk])


def _copy_sparse(source: Path, disk: Path, offset: int) -> None:
    with source.open("rb") as src, disk.open("r+b") as out:
        while block := src.read(1 << 20):
            if any(block):
                out.seek(offset)
                out.write(block)
            offset += len(block)


def _install_boot_sector(disk: Path, boot_image: bytes, core_image: bytes) -> None:
    """Do what grub-bios-setup does: boot.img into the MBR, core.img into partition 14.

    The boot sector names core.img's first sector (0x5c) and takes the drive from the BIOS
    (0x64 = 0xff, and two NOPs in place of a jump at 0x66); core.img's first sector ends with
    a block list (start, count, segment) of the rest.
    """
    sectors = -(-len(core_image) // SECTOR)
    if sectors > _CORE_LIMIT:
        raise RuntimeError(f"GRUB's core has {sectors} sectors, room is for {_CORE_LIMIT}")
    boot, core = bytearray(boot_image[:440]), bytearray(core_image)
    struct.pack_into("<Q", boot, 0x5C, _BIOS_BOOT)
    boot[0x64] = 0xFF
    boot[0x66:0x68] = b"\x90\x90"
    struct.pack_into("<QHH", core, SECTOR - 12, _BIOS_BOOT + 1, sectors - 1, 0x820)
    with disk.open("r+b") as f:
        f.write(boot)
        f.seek(_BIOS_BOOT * SECTOR)
        f.write(core)
