"""make-bundle.sh, run for real: apt resolves against a repository on this disk, without network."""

import hashlib
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.machines import M4000
from tests.unit.guest_script import Guest
from tests.unit.values import function, host, spec
from vfio_kit.apply.bundle import check_bundle, examine_bundle
from vfio_kit.errors import UsageError
from vfio_kit.model.vm import Software, UpPlan
from vfio_kit.plan import make_plan
from vfio_kit.render import render

KERNEL = "6.1.0-56-cloud-amd64"
DRIVER = (
    "nvidia-tesla-470-kernel-dkms",
    "nvidia-tesla-470-driver-bin",
    "nvidia-tesla-470-smi",
    "libnvidia-tesla-470-cuda1",
)
ARCHIVE = {
    # Package: what it depends on.
    "linux-image-cloud-amd64": f"linux-image-{KERNEL}",
    f"linux-image-{KERNEL}": "",
    f"linux-headers-{KERNEL}": "",
    "linux-headers-6.1.0-28-cloud-amd64": "",
    "gcc": "libc6",
    "make": "libc6",
    "libc6": "",
    **dict.fromkeys(DRIVER, "libc6"),
    "nvtop": "libc6",
    # Nobody asks for these.
    "nvidia-driver": "",
    "vim": "",
}


def control_of(name: str) -> str:
    depends = f"Depends: {ARCHIVE[name]}\n" if ARCHIVE[name] else ""
    return (
        f"Package: {name}\nVersion: 1:2~deb12u1+b1\nArchitecture: amd64\n"
        f"Maintainer: nobody <nobody@example.com>\nDescription: nothing\n{depends}"
    )


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A flat repository of packages with nothing in them."""
    folder = tmp_path_factory.mktemp("archive")
    index = []
    for name in ARCHIVE:
        control = folder / name / "DEBIAN" / "control"
        control.parent.mkdir(parents=True)
        text = control_of(name)
        control.write_text(text)
        deb = folder / f"{name}.deb"
        subprocess.run(
            ["dpkg-deb", "-Znone", "--root-owner-group", "-b", folder / name, deb],
            check=True,
            capture_output=True,
        )
        digest = hashlib.sha256(deb.read_bytes()).hexdigest()
        index.append(
            f"{text}Filename: ./{deb.name}\nSize: {deb.stat().st_size}\nSHA256: {digest}\n"
        )
    (folder / "Packages").write_text("\n".join(index))
    return folder


def plan_with(software: Software) -> UpPlan:
    plan = make_plan(
        host(function("01:00.0", M4000, 1)), spec("01:00.0", guest="debian-12", driver="none")
    )
    return replace(plan, software=software)


def make(
    archive: Path, folder: Path, *options: str, software: Software | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs the rendered script on the archive of the test, which is not signed."""
    (script,) = render("bundle", plan_with(software or Software("470", packages=("nvtop",))))
    ours = f"SOURCES=({shlex.quote(f'deb [trusted=yes] copy:{archive} ./')}); KEYRING=/etc/passwd"
    head, brace, body = script.text.partition("\n}\n")
    return subprocess.run(
        ["bash", "-c", f"{head}\n{ours}{brace}{body}", "make-bundle.sh", *options, folder],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def packages(folder: Path) -> set[str]:
    return {path.name.split("_")[0] for path in (folder / "apt").glob("*.deb")}


def test_all_that_the_guest_asks_for_comes_with_what_it_depends_on(
    archive: Path, tmp_path: Path
) -> None:
    done = make(archive, tmp_path / "b")
    assert done.returncode == 0, done.stderr
    assert packages(tmp_path / "b") == {
        *DRIVER,
        "linux-image-cloud-amd64",
        f"linux-image-{KERNEL}",
        f"linux-headers-{KERNEL}",
        "gcc",
        "make",
        "libc6",
        "nvtop",
    }
    # The host takes it, and so does the guest.
    check_bundle(examine_bundle(tmp_path / "b"))
    guest = Guest(tmp_path, software=Software("470", bundle="/b"))
    assert guest.run(f"export VFIO_KIT_BUNDLE={tmp_path}/b; step_bundle").returncode == 0


def test_what_the_image_has_stays_there_and_its_kernel_gets_its_headers(
    archive: Path, tmp_path: Path
) -> None:
    status = tmp_path / "status"
    installed = [f"{control_of(name)}Status: install ok installed\n" for name in ("libc6", "make")]
    status.write_text("\n".join(installed))
    options = ("--status", str(status), "--kernel", "6.1.0-28-cloud-amd64")
    done = make(archive, tmp_path / "b", *options)
    assert done.returncode == 0, done.stderr
    found = packages(tmp_path / "b")
    assert found == {*DRIVER, "linux-headers-6.1.0-28-cloud-amd64", "gcc", "nvtop"}


def test_made_again_it_holds_what_is_wanted_now(archive: Path, tmp_path: Path) -> None:
    assert make(archive, tmp_path / "b").returncode == 0
    done = make(archive, tmp_path / "b", software=Software("none", packages=("vim",)))
    assert done.returncode == 0, done.stderr
    assert packages(tmp_path / "b") == {"vim"}
    check_bundle(examine_bundle(tmp_path / "b"))


def test_a_package_that_the_archive_lacks_is_named(archive: Path, tmp_path: Path) -> None:
    done = make(archive, tmp_path / "b", software=Software("none", packages=("no-such",)))
    assert done.returncode == 1
    assert "no-such" in done.stderr and "cannot resolve" in done.stderr
    assert not (tmp_path / "b" / "SHA256SUMS").exists()


def test_a_package_that_is_pinned_away_is_not_fetched(archive: Path, tmp_path: Path) -> None:
    wanted = Software("470", packages=("nvidia-driver",))
    assert make(archive, tmp_path / "b", software=wanted).returncode == 1


def test_a_folder_with_something_else_in_it_is_left_alone(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "apt").mkdir()
    (tmp_path / "apt" / "mine").touch()
    done = make(archive, tmp_path)
    assert done.returncode == 1 and "has something else in it" in done.stderr
    assert (tmp_path / "apt" / "mine").exists()


@pytest.mark.parametrize("options", [(), ("--status",), ("--frobnicate", "x")])
def test_how_it_is_used_is_said(options: tuple[str, ...]) -> None:
    (script,) = render("bundle", plan_with(Software("470")))
    done = subprocess.run(
        ["bash", "-c", script.text, "make-bundle.sh", *options],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("usage: make-bundle.sh [--status FILE]")


def test_a_guest_that_installs_nothing_has_no_bundle() -> None:
    with pytest.raises(UsageError, match="nothing is installed in this guest"):
        render("bundle", plan_with(Software("none")))
