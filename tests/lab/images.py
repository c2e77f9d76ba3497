"""Builds the images: two guests ("L2"), one of them with NVIDIA's driver, and the host ("L1").

A disk of its own holds what the host needs of the guests.  A step is done again only where its
recipe changed: the code that makes images, the files it copies, and what it builds upon.  Needs
root, Debian's mirror and `HOST_PACKAGES`.
"""

import fcntl
import hashlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .disk import make_data_disk, make_disk, run
from .paths import cache_dir, key_file

HOST_PACKAGES = (
    "mmdebstrap",
    "qemu-system-x86",
    "qemu-utils",
    "gdisk",
    "dosfstools",
    "mtools",
    "e2fsprogs",
    "openssh-client",
)
RECIPES = Path(__file__).parent / "recipes"
_CODE = (Path(__file__), Path(__file__).with_name("disk.py"))
_DEVICE_QUERY = Path(__file__).with_name("device_query.py")
_UNWANTED_FILES = tuple(f"/usr/share/{name}/*" for name in ("doc", "man", "locale", "info"))
GUEST_FILES = ("guest.qcow2", "guest-vmlinuz", "guest-initrd")
DRIVER_FILES = ("driver.qcow2", "driver-vmlinuz", "driver-initrd")
STORE = "store.raw"  # the disk that the host mounts at /var/lib/libvirt/images
HOST_FILES = ("host.raw", "host-vmlinuz", "host-initrd")
_STORE_MIB = 12288


@dataclass(frozen=True, slots=True)
class Recipe:
    """An image.  What is in it says `recipes/<name>.*`, and files are in `recipes/<name>/`.

    With a `base`, all of that recipe comes before its own; `scripts` change the image at last,
    while it still has apt's lists.
    """

    name: str
    suite: str
    label: str
    mib: int
    base: str | None = None
    components: str = "main"
    scripts: tuple[Path, ...] = ()

    def names(self) -> tuple[str, ...]:
        """Return the recipes that it consists of."""
        return (self.base, self.name) if self.base else (self.name,)

    def lines(self, kind: str) -> tuple[str, ...]:
        """Return the words of the files `recipes/<name>.<kind>`, where `#` begins a comment."""
        lines = [line for p in self.parts(kind) for line in p.read_text().splitlines()]
        return tuple(word for line in lines for word in line.split("#")[0].split())

    def parts(self, kind: str) -> list[Path]:
        """Return the files `recipes/<name>.<kind>` that there are."""
        paths = [RECIPES / f"{name}.{kind}" for name in self.names()]
        return [path for path in paths if path.exists()]

    def folders(self) -> list[Path]:
        """Return the folders `recipes/<name>` that there are."""
        return [RECIPES / name for name in self.names() if (RECIPES / name).is_dir()]

    def files(self) -> Iterator[Path]:
        """Yield every file that the recipe consists of, in a fixed order."""
        for name in self.names():
            yield from sorted(RECIPES.glob(f"{name}.*"))
        for folder in self.folders():
            yield from sorted(p for p in folder.rglob("*") if p.is_file())
        yield from self.scripts


# The guest keeps Debian 12's kernel: 6.12 dies in nested SVM under QEMU 7.2's TCG.
GUEST = Recipe("guest", "bookworm", "cloudimg-rootfs", 2252)
DRIVER = Recipe(
    name="driver",
    suite="bookworm",
    label="cloudimg-rootfs",
    mib=2252,
    base="guest",
    components="main contrib non-free non-free-firmware",
    scripts=(_DEVICE_QUERY,),
)
HOST = Recipe("host", "trixie", "gpuhost-root", 14336)


def recipe_hash(recipe: Recipe, depends: Iterable[str] = ()) -> str:
    """Return a digest of all that decides what the image holds."""
    row = (*recipe.names(), recipe.suite, recipe.components, recipe.label, recipe.mib)
    digest = hashlib.sha256(repr((row, tuple(depends))).encode())
    for path in (*_CODE, *recipe.files()):
        mode = path.stat().st_mode & 0o111
        digest.update(f"{path.name}\0{mode}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def build(say: Callable[[str], None]) -> None:
    """Build what is missing or out of date; `say` gets one line for each step."""
    cache = cache_dir()
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / "build.lock"):
        if not key_file().exists():
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", key_file()])
        public = key_file().with_suffix(".pub").read_text()
        with ThreadPoolExecutor() as pool:  # much of a build is waiting for the mirror
            steps = (
                pool.submit(_image, DRIVER, (), DRIVER_FILES, _build_guest, say),
                pool.submit(_image, GUEST, (), GUEST_FILES, _build_guest, say),
                pool.submit(_image, HOST, (public,), HOST_FILES, _build_host, say),
            )
        guests = " ".join(step.result() for step in steps[:2])
        _step("store", guests, (STORE,), _build_store, say)
        steps[2].result()


def _image(
    recipe: Recipe,
    depends: tuple[str, ...],
    outputs: tuple[str, ...],
    action: Callable[[Recipe, Path], None],
    say: Callable[[str], None],
) -> str:
    """Build an image unless it is up to date; return the digest of its recipe."""

    def make() -> None:
        root = cache_dir() / f"{recipe.name}.root"
        _remove_tree(root)
        _bootstrap(recipe, root)
        _finish(recipe, root)
        action(recipe, root)
        _remove_tree(root)

    wanted = recipe_hash(recipe, depends)
    _step(f"{recipe.name} image", wanted, outputs, make, say, stamp=recipe.name)
    return wanted


def _step(
    what: str,
    wanted: str,
    outputs: tuple[str, ...],
    make: Callable[[], None],
    say: Callable[[str], None],
    *,
    stamp: str = "store",
) -> None:
    """Make the outputs unless they are there, and were made of what is `wanted`."""
    path = cache_dir() / f"{stamp}.stamp"
    complete = all((cache_dir() / name).exists() for name in outputs)
    if complete and path.exists() and path.read_text() == wanted:
        return
    say(f"{what}: building")
    started = time.monotonic()
    path.unlink(missing_ok=True)
    make()
    path.write_text(wanted)
    say(f"{what}: built in {time.monotonic() - started:.0f} s")


def _bootstrap(recipe: Recipe, root: Path) -> None:
    mirror = _mirror()
    argv: list[str | Path] = ["mmdebstrap", "--mode=root", "--quiet", "--variant=apt"]
    argv += ["--aptopt=APT::Install-Recommends false", "--aptopt=Acquire::Languages none"]
    argv += ["--aptopt=Acquire::Check-Valid-Until false"]
    argv += [f"--dpkgopt=path-exclude={pattern}" for pattern in _UNWANTED_FILES]
    argv += ["--dpkgopt=path-include=/usr/share/locale/locale.alias"]
    # initramfs-tools' settings must be there before the kernel's package makes the initrd
    argv += [f"--essential-hook=sh '{path}' \"$1\"" for path in recipe.parts("early")]
    argv += [f"--customize-hook='{sys.executable}' '{p}' \"$1\"" for p in recipe.scripts]
    argv += [f"--include={','.join(recipe.lines('packages'))}"]
    run([*argv, recipe.suite, root, f"deb {mirror} {recipe.suite} {recipe.components}"])


def _finish(recipe: Recipe, root: Path) -> None:
    """Copy the recipe's files, mask its units, and let its script have the last word."""
    for folder in recipe.folders():
        shutil.copytree(folder, root, dirs_exist_ok=True, symlinks=True)
    units = root / "etc/systemd/system"
    for unit in recipe.lines("masked"):
        (units / unit).unlink(missing_ok=True)
        (units / unit).symlink_to("/dev/null")
    for script in recipe.parts("late"):
        run(["sh", "-eu", script, root])


def _build_guest(recipe: Recipe, root: Path) -> None:
    cache, name = cache_dir(), recipe.name
    shutil.copyfile(root / "vmlinuz", cache / f"{name}-vmlinuz")
    shutil.copyfile(root / "initrd.img", cache / f"{name}-initrd")
    raw = cache / f"{name}.raw"
    make_disk(root, raw, mib=recipe.mib, label=recipe.label)
    run(["qemu-img", "convert", "-O", "qcow2", raw, cache / f"{name}.qcow2"])
    raw.unlink()


def _build_store() -> None:
    """Make the disk with the guests' files, so that a new guest needs no new host."""
    cache = cache_dir()
    with tempfile.TemporaryDirectory(dir=cache) as name:
        folder = Path(name)
        folder.chmod(0o711)  # as libvirt's package has it
        for file in (*GUEST_FILES, *DRIVER_FILES):
            (folder / file).hardlink_to(cache / file)
        make_data_disk(folder, cache / STORE, mib=_STORE_MIB, label="lab-store")


def _build_host(recipe: Recipe, root: Path) -> None:
    cache = cache_dir()
    public = key_file().with_suffix(".pub")
    for home in (root / "root", root / "home/tester"):
        folder = home / ".ssh"
        folder.mkdir(mode=0o700, exist_ok=True)
        shutil.copyfile(public, folder / "authorized_keys")
    run(["chroot", root, "chown", "-R", "tester:tester", "/home/tester"])
    shutil.copyfile(root / "vmlinuz", cache / "host-vmlinuz")
    shutil.copyfile(root / "initrd.img", cache / "host-initrd")
    make_disk(root, cache / "host.raw", mib=recipe.mib, label=recipe.label)


def _mirror() -> str:
    """Return the Debian mirror that this machine itself uses."""
    query = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Label: Debian"]
    done = subprocess.run(query, text=True, stdout=subprocess.PIPE)
    return (done.stdout.split() or ["http://deb.debian.org/debian"])[0]


def _remove_tree(root: Path) -> None:
    run(["rm", "-rf", "--one-file-system", root])


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        yield


def say_to_stderr(line: str) -> None:
    """Print a line with the time of day on stderr."""
    print(f"{time.strftime('%T')} lab: {line}", file=sys.stderr, flush=True)
