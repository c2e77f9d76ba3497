"""The script that installs a driver in a guest: what it asserts, and what it holds.

It is read from the goldens, where shellcheck and bash have seen it whole (test_render.py); its
judging parts run here with the tools' answers as data.
"""

import os
import subprocess
from pathlib import Path

import pytest

from tests.unit.test_render import CASES, GOLDEN, provision_script
from tests.unit.tools import accepts
from vfio_kit.knowledge.guests import GUESTS
from vfio_kit.knowledge.provisioning import PROVISIONING

ROWS = {"ubuntu-22.04": "ubuntu-22.04-470", "debian-12": "debian-12-470"}
"""Guest system -> its golden with a driver."""

each_guest = pytest.mark.parametrize("guest", ROWS)


def script(guest: str) -> str:
    text = provision_script(GOLDEN / ROWS[guest] / "user-data")
    assert text is not None
    return text


def part(guest: str, begin: str, end: str) -> str:
    """The script's head, with its way to say things, and its lines from one to before another."""
    text = script(guest)
    head = text[: text.index("die()")] + text[text.index("die()") :].split("\n", 1)[0] + "\n"
    return head + text[text.index(begin) : text.index(end)]


def run(text: str, **stubs: str) -> subprocess.CompletedProcess[str]:
    """Runs a part of the script; `stubs` are the tools that the test answers for, as shell."""
    functions = "".join(
        f"{name.replace('_', '-')}() {{\n{body}\n}}\n" for name, body in stubs.items()
    )
    head, _, rest = text.partition("\n")
    return subprocess.run(
        ["bash", "-c", f"{head}\n{functions}{rest}"],
        check=False,
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
        timeout=30,
    )


def test_every_guest_with_a_driver_is_looked_at() -> None:
    assert {(guest, "470") for guest in ROWS} == PROVISIONING.keys()
    assert set(ROWS) == set(GUESTS)
    assert set(ROWS.values()) <= CASES.keys()


@each_guest
def test_the_script_is_sound_shell(guest: str) -> None:
    accepts("bash", "-n", stdin=script(guest))
    accepts("shellcheck", "--shell=bash", "-", stdin=script(guest))


# The module and libcuda are of one version, and of the branch that was asked for.


def assertion(guest: str) -> str:
    return part(guest, "version=$(", 'say "adding the CUDA repository"')


@pytest.fixture
def libcuda(tmp_path: Path) -> Path:
    """A libcuda as Debian's alternatives have it: the name that programs ask for is a link."""
    library = tmp_path / "nvidia" / "libcuda.so.470.256.02"
    library.parent.mkdir()
    library.touch()
    (tmp_path / "libcuda.so.1").symlink_to(library)
    return tmp_path / "libcuda.so.1"


def ldconfig(*libraries: Path) -> str:
    """As `ldconfig -p` prints its cache."""
    lines = ["2 libs found in cache `/etc/ld.so.cache'", "\tlibc.so.6 (libc6) => /lib/libc.so.6"]
    lines += [f"\t{path.name} (libc6,x86-64) => {path}" for path in libraries]
    return f"printf '%s\\n' {' '.join(repr(line) for line in lines if chr(39) not in line)}"


@each_guest
def test_a_driver_of_one_version_throughout_is_taken(guest: str, libcuda: Path) -> None:
    done = run(assertion(guest), modinfo="echo 470.256.02", ldconfig=ldconfig(libcuda))
    assert (done.returncode, done.stderr) == (0, "")


@each_guest
def test_the_module_is_asked_for_by_the_name_of_its_file(guest: str, libcuda: Path) -> None:
    asked = run(
        assertion(guest), modinfo='echo "$*" >&2; echo 470.256.02', ldconfig=ldconfig(libcuda)
    )
    assert asked.stderr == f"-F version {PROVISIONING[guest, '470'].module}\n"


@each_guest
@pytest.mark.parametrize("version", ["535.183.01", "4700.1", "47", "390.157", ""])
def test_a_driver_of_another_branch_is_a_failure(guest: str, libcuda: Path, version: str) -> None:
    done = run(assertion(guest), modinfo=f"echo {version}", ldconfig=ldconfig(libcuda))
    assert done.returncode == 1
    assert done.stderr == (
        f"vfio-kit: FAILED: driver {version} was installed, 470.x was asked for\n"
    )


@each_guest
def test_a_module_that_was_not_built_is_a_failure(guest: str, libcuda: Path) -> None:
    done = run(assertion(guest), modinfo="return 1", ldconfig=ldconfig(libcuda))
    assert done.returncode == 1
    assert "vfio-kit: FAILED: no nvidia module for kernel " in done.stderr
    assert "make.log" in done.stderr


@each_guest
def test_a_libcuda_of_another_version_is_a_failure(guest: str, libcuda: Path) -> None:
    done = run(assertion(guest), modinfo="echo 470.199.02", ldconfig=ldconfig(libcuda))
    assert done.returncode == 1
    assert done.stderr == (
        "vfio-kit: FAILED: the module is of driver 470.199.02, "
        f"and libcuda is {libcuda.resolve()}\n"
    )


@each_guest
def test_a_libcuda_that_is_missing_is_a_failure(guest: str) -> None:
    done = run(assertion(guest), modinfo="echo 470.256.02", ldconfig=ldconfig())
    assert done.returncode == 1


@each_guest
def test_a_libcuda_that_is_missing_is_said_to_be(guest: str) -> None:
    done = run(assertion(guest), modinfo="echo 470.256.02", ldconfig=ldconfig())
    assert done.stderr == (
        "vfio-kit: FAILED: the module is of driver 470.256.02, and libcuda is missing\n"
    )


# What was proven to fit stays: the driver, and the kernel that its module was built for.

INSTALLED = """\
ii linux-image-6.1.0-28-cloud-amd64
ii linux-image-cloud-amd64
rc linux-image-6.1.0-27-cloud-amd64
un linux-image-generic
hi linux-headers-generic
ii linux-headers-6.1.0-28-cloud-amd64
ii linux-headers-cloud-amd64
"""


@each_guest
def test_the_driver_and_all_of_the_kernel_are_held(guest: str) -> None:
    done = run(
        part(guest, "mapfile -t kernels", 'say "loading nvidia'),
        dpkg_query=f'[ "$1" = -W ] && cat <<"EOF"\n{INSTALLED}EOF',
        apt_mark='printf "%s\\n" "$@"',
    )
    assert (done.returncode, done.stderr) == (0, "")
    # The metapackages as well: they would bring a kernel for which there is no module.
    assert done.stdout.split() == [
        "hold",
        *PROVISIONING[guest, "470"].hold,
        "linux-image-6.1.0-28-cloud-amd64",
        "linux-image-cloud-amd64",
        "linux-headers-6.1.0-28-cloud-amd64",
        "linux-headers-cloud-amd64",
    ]


@each_guest
def test_what_is_held_is_what_was_installed_or_came_with_it(guest: str) -> None:
    row = PROVISIONING[guest, "470"]
    assert set(row.hold) & set(row.driver_packages)
    assert all("470" in package for package in (*row.hold, *row.driver_packages))
    assert not {*row.hold, *row.driver_packages, *row.cuda_packages} & set(row.never)


@each_guest
def test_a_driver_that_cannot_take_over_is_a_failure(guest: str) -> None:
    text = script(guest)
    loading = text[text.index('say "loading nvidia') : text.index('say "building deviceQuery')]
    assert loading.count("|| die ") == 2
    assert "reboot the guest" in loading


def test_debian_gets_no_libcuda_of_another_driver() -> None:
    """Debian's own libcuda1 and nvidia-cuda-dev are of driver 535, which drives no Kepler."""
    row = PROVISIONING["debian-12", "470"]
    packages = {*row.driver_packages, *row.cuda_packages, *row.hold}
    assert not packages & {"libcuda1", "nvidia-cuda-dev", "nvidia-cuda-toolkit", "nvidia-driver"}
    assert "libnvidia-tesla-470-cuda1" in row.driver_packages
    assert "libcuda1" in row.never


@each_guest
def test_cuda_is_the_last_that_the_branch_carries_and_of_a_known_key(guest: str) -> None:
    row = PROVISIONING[guest, "470"]
    assert all(package.endswith("-11-4") for package in row.cuda_packages)
    repository = row.cuda_repository
    assert repository is not None
    text = script(guest)
    checked = text.index(f'[ "$found" = {repository.key_fingerprint} ] || die ')
    assert checked < text.index("gpg --dearmor") < text.index("deb [signed-by=/etc/apt/keyrings/")
