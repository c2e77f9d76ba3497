"""The script that installs a driver in a guest: what it looks at, what it refuses, what it says.

It runs here below a root of its own, its functions one by one, with the tools' answers as data.
"""

import hashlib
import os
import stat
from pathlib import Path

import pytest

from tests.unit.guest_script import BOOT, RUNFILE, Guest
from tests.unit.tools import accepts
from vfio_kit.knowledge.guest_archives import GUEST_ARCHIVES
from vfio_kit.knowledge.guests import GUESTS
from vfio_kit.knowledge.provision_steps import PROVISION_STEPS, STATE_FILE
from vfio_kit.model.vm import Software
from vfio_kit.render.seed import provision_script

KERNEL = "6.1.0-56-cloud-amd64"
TARGET = f"TARGET={KERNEL}; VERSION=470.256.02"


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    return Guest(tmp_path)


def test_the_script_is_sound_shell() -> None:
    assert provision_script().startswith("#!/bin/bash\n# vfio-kit-provision: ")
    assert "\nset -Eeuo pipefail\n" in provision_script()
    accepts("bash", "-n", stdin=provision_script())
    accepts("shellcheck", "--shell=bash", "-", stdin=provision_script())


def test_every_step_is_a_function_of_the_script(guest: Guest) -> None:
    names = [f"step_{step.code.replace('-', '_')}" for step in PROVISION_STEPS]
    assert guest.run(f"declare -F {' '.join(names)}").stdout.split() == names


def test_every_guest_system_has_its_archive() -> None:
    assert GUEST_ARCHIVES.keys() == GUESTS.keys()


# The state file.


def test_the_state_says_where_the_script_is(guest: Guest) -> None:
    done = guest.run("OF=9; begin_step dkms")
    assert done.stdout == "vfio-kit: [1/9] see that DKMS has built the module\n"
    state = guest.state()
    assert state.pop("time").isdigit()
    assert state == {
        "state": "running",
        "step": "dkms",
        "title": "see that DKMS has built the module",
        "number": "1",
        "of": "9",
        "boot": BOOT,
        "mode": "guest",
        "reason": "",
        "log": "/var/log/vfio-kit-provision.log",
        "culprit": "",
    }
    file = guest.root / STATE_FILE.lstrip("/")
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_reason_is_one_line_whatever_a_tool_said(guest: Guest) -> None:
    guest.run("put_state failed $'E: one\\n\\tE: two\\rstate=done\\x1b[0m'")
    assert guest.state()["state"] == "failed"
    assert guest.state()["reason"] == "E: one E: two state=done [0m"


def test_what_fails_without_a_word_is_said_all_the_same(guest: Guest) -> None:
    reason = guest.failure("sources", quiet_apt="false")
    assert reason.startswith("quiet_apt (line ") or reason.startswith("false (line ")
    assert reason.endswith("ended with exit status 1")


def test_a_command_in_an_answer_that_fails_is_not_the_reason_of_a_later_failure(
    guest: Guest,
) -> None:
    found = guest.failure("sources", quiet_apt='local x; x=$(false) || x=; die "no $x mirror"')
    assert found == "no mirror"


def test_the_end_is_said_and_nothing_runs_at_the_next_boot(guest: Guest) -> None:
    hook = guest.write("var/lib/cloud/scripts/per-boot/vfio-kit-provision")
    done = guest.step("done")
    assert done.returncode == 0, done.stderr
    assert (guest.state()["state"], guest.state()["number"]) == ("done", "1")
    assert not hook.exists()


@pytest.mark.parametrize(
    ("fresh", "old", "culprit"),
    [
        (("nvidia/470.1/build/make.log",), (), "/var/lib/dkms/nvidia/470.1/build/make.log"),
        ((), ("nvidia/470.1/build/make.log",), "/var/log/apt/term.log"),
        (("a/1/build/make.log",), ("b/1/build/make.log",), "/var/lib/dkms/a/1/build/make.log"),
    ],
    ids=["of this run", "of another run", "the one of this run"],
)
def test_the_file_that_tells_why_is_one_of_this_run(
    guest: Guest, fresh: tuple[str, ...], old: tuple[str, ...], culprit: str
) -> None:
    for name in old:
        os.utime(guest.write(f"var/lib/dkms/{name}"), (1, 1))
    makes = "; ".join(
        f'mkdir -p "$R/var/lib/dkms/{name.rsplit("/", 1)[0]}"; touch -d "+1 second" '
        f'"$R/var/lib/dkms/{name}"'
        for name in fresh
    )
    apt = 'mkdir -p "$R/var/log/apt"; touch -d "+1 second" "$R/var/log/apt/term.log"'
    guest.failure(
        "driver", missing="echo x", refresh=f"{makes or ':'}; {apt}", apt_get="return 100"
    )
    assert guest.state()["culprit"] == culprit


# What can be said at once.


def test_another_system_than_was_planned(guest: Guest) -> None:
    guest.write("etc/os-release", 'ID=ubuntu\nVERSION_ID="22.04"\n')
    assert guest.failure("preflight") == "this system is ubuntu-22.04; the plan is for debian-12"


EFI = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"


@pytest.mark.parametrize(
    ("path", "content", "refused"),
    [
        (EFI, b"\6\0\0\0\1", True),
        (EFI, b"\6\0\0\0\0", False),
        ("sys/kernel/security/lockdown", b"none [integrity] confidentiality\n", True),
        ("sys/kernel/security/lockdown", b"[none] integrity confidentiality\n", False),
        ("sys/nothing", b"", False),
    ],
    ids=["on", "off", "lockdown", "no lockdown", "no EFI"],
)
def test_secure_boot_is_said_at_once(
    guest: Guest, path: str, content: bytes, refused: bool
) -> None:
    guest.write(path, content)
    done = guest.step("preflight", missing="", uname="echo x86_64")
    assert done.returncode == (1 if refused else 0), done.stderr
    assert ("Secure Boot is on" in guest.state()["reason"]) == refused


def test_a_disk_without_room_is_said_before_anything_is_fetched(guest: Guest) -> None:
    df = "printf ' Avail\\n  900M\\n'"
    found = guest.failure("preflight", missing="echo x", uname="echo x86_64", df=df)
    assert found == "900 MiB are free on the guest's disk; the driver, with its module, wants 2048"
    assert guest.step("preflight", missing="", uname="echo x86_64", df=df).returncode == 0


# Packages and their sources.


@pytest.mark.parametrize(
    ("answer", "asked", "missing"),
    [
        ("ii  1.2-3", "make", False),
        ("hi  1.2-3", "make", False),
        ("rc  1.2-3", "make", True),
        ("un ", "make", True),
        ("iF  1.2-3", "make", True),
        ("ii  1.2-3", "make=1.2-3", False),
        ("ii  1.2-3", "make=1.2-4", True),
        ("", "make", True),
    ],
)
def test_only_what_is_missing_is_installed(
    guest: Guest, answer: str, asked: str, missing: bool
) -> None:
    tool = f"[ $4 = make ] && [ -n '{answer}' ] && echo '{answer}'"
    done = guest.run(f"missing {asked}", dpkg_query=tool)
    assert done.stdout.split() == ([asked] if missing else [])


def test_apt_is_left_alone_where_all_is_there(guest: Guest) -> None:
    done = guest.run("install_packages make gcc", missing="", apt_get="echo called; false")
    assert (done.returncode, done.stdout) == (0, "")


def test_apt_waits_for_others_and_never_asks(guest: Guest) -> None:
    done = guest.run("install_packages make", missing="echo make", apt_get='echo "$@"')
    update, install = done.stdout.splitlines()
    assert update.endswith(" update") and install.endswith(" install make")
    for option in (
        "DPkg::Lock::Timeout=900",
        "Acquire::Retries=5",
        "Dpkg::Options::=--force-confold",
    ):
        assert f" -o {option} " in install
    assert " -y " in install and " --no-install-recommends " in install
    assert " APT::Update::Error-Mode=any " in update


def test_sources_that_do_not_answer_are_asked_three_times(guest: Guest) -> None:
    done = guest.run("refresh", apt_get="echo update; return 100", sleep="")
    assert (done.returncode, done.stdout) == (1, "update\n" * 3)
    assert "cannot read its sources" in guest.state()["reason"]


LIST = (
    "deb http://deb.debian.org/debian bookworm main\ndeb-src http://deb.debian.org/debian x main\n"
)
SOURCES = "Types: deb\nURIs: http://x\nSuites: bookworm\nComponents: main\nSigned-By: /x.gpg\n"


def test_components_are_switched_on_once_in_both_kinds_of_files(guest: Guest) -> None:
    old = guest.write("etc/apt/sources.list", LIST)
    new = guest.write("etc/apt/sources.list.d/debian.sources", SOURCES)
    other = guest.write("etc/apt/sources.list.d/other.list", "deb http://x /\n")
    for _ in range(2):
        assert guest.step("sources", quiet_apt="", missing="").returncode == 0
        components = "main contrib non-free non-free-firmware"
        assert old.read_text().splitlines()[0].endswith(f" bookworm {components}")
        assert old.read_text().splitlines()[1].endswith(" x main")
        assert f"\nComponents: {components}\n" in new.read_text()
        assert other.read_text() == "deb http://x /\n"


def test_an_archive_that_does_not_answer_is_told_before_its_packages_are_missed(
    guest: Guest,
) -> None:
    answers = {"quiet_apt": "", "missing": "echo make", "apt_get": "return 100", "sleep": ""}
    assert "cannot read its sources" in guest.failure("sources", **answers)


def test_the_timers_of_apt_stand_still_and_start_again(guest: Guest) -> None:
    (guest.root / "run/systemd/system").mkdir(parents=True)
    systemctl = 'case $1 in is-active) return 0 ;; show) echo inactive ;; *) echo "$@" ;; esac'
    done = guest.run("quiet_apt; leave", systemctl=systemctl, mountpoint="false")
    assert done.stdout.splitlines() == [
        "stop apt-daily.timer",
        "stop apt-daily-upgrade.timer",
        "start apt-daily.timer apt-daily-upgrade.timer",
    ]


# The bundle.


@pytest.fixture
def bundled(tmp_path: Path) -> Guest:
    made = Guest(tmp_path, software=Software("470", None, bundle="/srv/bundle"))
    packages = made.write("bundle/apt/Packages", "Package: x\n")
    digest = hashlib.sha256(packages.read_bytes()).hexdigest()
    made.write("bundle/SHA256SUMS", f"{digest}  apt/Packages\n")
    return made


BUNDLE = 'export VFIO_KIT_BUNDLE="$R/bundle"'


def test_a_bundle_is_the_only_source(bundled: Guest) -> None:
    old = bundled.write("etc/apt/sources.list", LIST)
    shown = 'printf "%s\\n" "${APT[@]}"'
    done = bundled.run(f"{BUNDLE}; step_bundle; {shown}; step_sources", missing="")
    assert done.returncode == 0, done.stderr
    assert "Dir::Etc::sourceparts=/dev/null" in done.stdout.split()
    assert f"Dir::State::lists={bundled.root}/run/vfio-kit/lists" in done.stdout.split()
    found = (bundled.root / "run/vfio-kit/bundle.list").read_text()
    assert found == f"deb [trusted=yes] file:{bundled.root}/bundle/apt ./\n"
    assert old.read_text() == LIST


def test_a_damaged_file_of_the_bundle_is_named(bundled: Guest) -> None:
    bundled.write("bundle/apt/Packages", "Package: y\n")
    found = bundled.failure("bundle", BUNDLE)
    assert found.startswith("the bundle is damaged: apt/Packages: FAILED")


def test_a_missing_file_of_the_bundle_is_named(bundled: Guest) -> None:
    with (bundled.root / "bundle/SHA256SUMS").open("a") as stream:
        stream.write(f"{'0' * 64}  apt/make.deb\n")
    assert "apt/make.deb" in bundled.failure("bundle", BUNDLE)


def test_a_bundle_whose_list_leaves_out_the_packages(bundled: Guest) -> None:
    bundled.write("bundle/SHA256SUMS", "")
    assert "does not list apt/Packages" in bundled.failure("bundle", BUNDLE)


# The kernel.


def kernel_answers(metapackage: str) -> dict[str, str]:
    return {
        "install_packages": 'echo "install $*"',
        "has_headers": 'echo "headers? $1"; [ "$1" != 6.1.0-28-cloud-amd64 ]',
        "dpkg_query": f"echo '{metapackage}'",
        "boot_by_default": 'echo "boot $1"',
    }


DEPENDS = f"linux-image-{KERNEL} (= 6.1.192-2)"


def test_the_kernel_that_runs_stays_where_it_will_do(guest: Guest) -> None:
    (guest.root / f"lib/modules/{KERNEL}").mkdir(parents=True)
    answers = kernel_answers(DEPENDS)
    done = guest.run('step_kernel; echo "$TARGET"', uname=f"echo {KERNEL}", **answers)
    assert done.stdout == f"headers? {KERNEL}\n{KERNEL}\n"


@pytest.mark.parametrize(
    "running",
    ["6.12.9-cloud-amd64", "6.1.0-28-cloud-amd64", "6.1.0-57-cloud-amd64"],
    ids=["another series", "no headers", "not of this system"],
)
def test_another_kernel_gives_way_to_the_systems_own(guest: Guest, running: str) -> None:
    for name in ("6.12.9-cloud-amd64", "6.1.0-28-cloud-amd64"):
        (guest.root / "lib/modules" / name).mkdir(parents=True)
    answers = kernel_answers(DEPENDS)
    done = guest.run('step_kernel; echo "$TARGET"', uname=f"echo {running}", **answers)
    assert done.returncode == 0, done.stderr
    tail = done.stdout.splitlines()[-3:]
    assert tail == ["install linux-image-cloud-amd64", f"boot {KERNEL}", KERNEL]


def test_a_kernel_of_the_right_series_with_parts_left_out(tmp_path: Path) -> None:
    ubuntu = Guest(tmp_path, guest="ubuntu-22.04")
    (ubuntu.root / "lib/modules/5.15.0-1080-kvm").mkdir(parents=True)
    depends = "linux-image-5.15.0-164-generic | linux-image-unsigned-5.15.0-164-generic, x"
    done = ubuntu.run(
        'step_kernel; echo "$TARGET"', uname="echo 5.15.0-1080-kvm", **kernel_answers(depends)
    )
    assert done.stdout.splitlines()[-3:] == [
        "install linux-image-virtual",
        "boot 5.15.0-164-generic",
        "5.15.0-164-generic",
    ]


ADVANCED = "gnulinux-5.15.0-164-generic-advanced-aa"
GRUB = f"""\
menuentry 'Ubuntu' --class ubuntu $menuentry_id_option 'gnulinux-simple-aa' {{
submenu 'Advanced options for Ubuntu' $menuentry_id_option 'gnulinux-advanced-aa' {{
\tmenuentry 'Linux 6.8.0-40' $menuentry_id_option 'gnulinux-6.8.0-40-generic-advanced-aa' {{
\tmenuentry 'Linux 5.15.0-164-generic' $menuentry_id_option '{ADVANCED}' {{
\tmenuentry 'recovery' $menuentry_id_option 'gnulinux-5.15.0-164-generic-recovery-aa' {{
"""


def test_grub_boots_that_kernel_and_not_the_newest(guest: Guest) -> None:
    guest.write("boot/grub/grub.cfg", GRUB)
    done = guest.run("boot_by_default 5.15.0-164-generic", update_grub="echo update-grub")
    assert done.stdout == "update-grub\nupdate-grub\n"
    assert (guest.root / "etc/default/grub.d/90-vfio-kit.cfg").read_text() == (
        f"GRUB_DEFAULT='gnulinux-advanced-aa>{ADVANCED}'\n"
    )


@pytest.mark.parametrize(
    ("text", "compiler"),
    [
        ('CONFIG_CC_VERSION_TEXT="gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0"', "gcc-12"),
        ('CONFIG_CC_VERSION_TEXT="x86_64-linux-gnu-gcc-12 (Ubuntu 12.3.0-1) 12.3.0"', "gcc-12"),
        ('CONFIG_CC_VERSION_TEXT="gcc (Ubuntu 11.4.0-1ubuntu1~22.04) 11.4.0"', "gcc"),
        ("CONFIG_X86=y", ""),
    ],
)
def test_the_compiler_of_the_kernel(guest: Guest, text: str, compiler: str) -> None:
    guest.write(f"lib/modules/{KERNEL}/build/.config", f"CONFIG_64BIT=y\n{text}\n")
    assert guest.run(f"compiler_of {KERNEL}").stdout.strip() == compiler


# DKMS: what it says differs from release to release.


@pytest.mark.parametrize(
    ("status", "built"),
    [
        (f"nvidia-tesla-470/470.256.02, {KERNEL}, x86_64: installed", True),
        (f"nvidia-srv/470.256.02, {KERNEL}, x86_64: installed", True),
        (f"nvidia, 470.256.02, {KERNEL}, x86_64: installed", True),
        (f"nvidia-tesla-470/470.256.02, {KERNEL}, x86_64: built", False),
        ("nvidia-tesla-470/470.256.02: added", False),
        (f"nvidia-srv/535.183.01, {KERNEL}, x86_64: installed", False),
        (f"nvidia-srv/4700.1, {KERNEL}, x86_64: installed", False),
        ("", False),
    ],
)
def test_what_dkms_says_of_the_module(guest: Guest, status: str, built: bool) -> None:
    dkms = f"[ -z '{status}' ] || echo '{status}'"
    tools = {"dkms": dkms, "depmod": "", "without_nouveau": ""}
    done = guest.step("dkms", TARGET, **tools)
    assert done.returncode == (0 if built else 1), done.stderr
    if not built:
        assert guest.state()["reason"] == f"DKMS has no module of driver 470. for kernel {KERNEL}"


def test_a_module_that_dkms_has_forgotten_is_built_from_its_sources(guest: Guest) -> None:
    guest.write("usr/src/nvidia-tesla-470-470.256.02/dkms.conf")
    guest.write("usr/src/nvidia-current-535.309.01/dkms.conf")
    dkms = """
      case $1 in
        install) echo "dkms $*"; touch "$R/built" ;;
        *) [ ! -e "$R/built" ] || echo "nvidia-tesla-470/470.256.02, $TARGET, x86_64: installed" ;;
      esac"""
    done = guest.step("dkms", TARGET, dkms=dkms, depmod="", without_nouveau="")
    assert done.returncode == 0, done.stderr
    assert f"\ndkms install nvidia-tesla-470/470.256.02 -k {KERNEL}\n" in done.stdout
    assert "535" not in done.stdout


@pytest.mark.parametrize(
    ("files", "updates"),
    [
        ("usr/lib/modules/6.1.0/kernel/drivers/gpu/drm/nouveau/nouveau.ko", 1),
        ("x/nouveau.ko.zst", 1),
        ("x/nouveau.ko\netc/modprobe.d/90vfio-kit.conf", 0),
        ("x/virtio_blk.ko", 0),
    ],
)
def test_an_initrd_that_would_load_nouveau_is_made_anew(
    guest: Guest, files: str, updates: int
) -> None:
    guest.write(f"boot/initrd.img-{KERNEL}")
    done = guest.run(
        f"{TARGET}; without_nouveau", lsinitramfs=f"echo '{files}'", update_initramfs='echo "$@"'
    )
    assert done.stdout.splitlines() == [f"-u -k {KERNEL}"] * updates


# All of the driver is of one version, and of the branch that was asked for.


def tools_of(guest: Guest, **versions: str) -> dict[str, str]:
    """The answers of a driver whose parts have these versions: module, libcuda, ml, smi."""
    of = {"module": "470.256.02", "libcuda": "470.256.02", "ml": "470.256.02", "smi": "470.256.02"}
    of |= versions
    lines = ["\tlibc.so.6 (libc6,x86-64) => /lib/libc.so.6"]
    for name, part in (("libcuda", "libcuda"), ("libnvidia-ml", "ml")):
        if of[part]:
            # As Debian's alternatives have it: the name that programs ask for is a link.
            file = guest.write(f"usr/lib/nvidia/{name}.so.{of[part]}")
            link = guest.root / f"usr/lib/{name}.so.1"
            link.symlink_to(file)
            lines.append(f"\t{name}.so.1 (libc6,x86-64) => {link}")
            lines.append(f"\t{name}.so.1 (libc6) => /usr/lib/i386-linux-gnu/{name}.so.1")
    banner = f"NVIDIA System Management Interface -- v{of['smi']}"
    return {
        "modinfo": f"echo '{of['module']}'" if of["module"] else "return 1",
        "ldconfig": "printf '%s\\n' " + " ".join(f"'{line}'" for line in lines),
        "nvidia_smi": f"printf '%s\\n' '{banner}' '' 'more'" if of["smi"] else "return 127",
    }


def test_a_driver_of_one_version_throughout_is_taken(guest: Guest) -> None:
    done = guest.step("assert-driver", TARGET, **tools_of(guest))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({"module": "535.183.01"}, "driver 535.183.01 was installed, 470.x was asked for"),
        ({"module": "4700.1"}, "driver 4700.1 was installed, 470.x was asked for"),
        ({"module": ""}, f"kernel {KERNEL} has no module nvidia-tesla-470"),
        ({"libcuda": ""}, "the module is of driver 470.256.02, and libcuda.so.1 is missing"),
        ({"ml": ""}, "the module is of driver 470.256.02, and libnvidia-ml.so.1 is missing"),
        ({"smi": ""}, "the module is of driver 470.256.02, and nvidia-smi is missing"),
        ({"smi": "470.199.02"}, "the module is of driver 470.256.02, and nvidia-smi is 470.199.02"),
    ],
)
def test_a_driver_of_several_versions_is_refused(
    guest: Guest, parts: dict[str, str], reason: str
) -> None:
    assert guest.failure("assert-driver", TARGET, **tools_of(guest, **parts)) == reason


def test_a_library_of_another_version_is_named_with_its_file(guest: Guest) -> None:
    reason = guest.failure("assert-driver", TARGET, **tools_of(guest, libcuda="535.183.01"))
    assert reason.endswith("libcuda.so.535.183.01")


INSTALLED = """\
ii linux-image-6.1.0-56-cloud-amd64
ii linux-image-cloud-amd64
rc linux-image-6.1.0-27-cloud-amd64
un linux-image-generic
hi linux-headers-generic
ii linux-headers-cloud-amd64
ii nvidia-tesla-470-smi
ii nvidia-tesla-470-smi
rc nvidia-driver"""


def test_the_driver_and_all_of_the_kernel_are_held(guest: Guest) -> None:
    done = guest.step(
        "hold",
        TARGET,
        dpkg_query=f"cat <<'EOF'\n{INSTALLED}\nEOF\nreturn 1",
        apt_mark='printf "%s\\n" "$@"',
        step_assert_driver="",
    )
    assert done.returncode == 0, done.stderr
    # The metapackages as well: they would bring a kernel for which there is no module.
    assert done.stdout.split("hold driver and kernel\n")[1].split()[:-4] == [
        "hold",
        "linux-headers-cloud-amd64",
        "linux-headers-generic",
        "linux-image-6.1.0-56-cloud-amd64",
        "linux-image-cloud-amd64",
        "nvidia-tesla-470-smi",
    ]


# CUDA.


def test_a_repository_with_another_key_is_not_believed(guest: Guest) -> None:
    guest.write("etc/apt/keyrings/cuda-ubuntu2004.asc", "a key")
    gpg = "echo 'fpr:::::::::0123456789ABCDEF0123456789ABCDEF01234567:'"
    reason = guest.failure("cuda", TARGET, install_packages="", gpg=gpg)
    assert reason == (
        "the key of cuda-ubuntu2004 has the fingerprint 0123456789ABCDEF0123456789ABCDEF01234567, "
        "not EB693B3035CD5710E231E123A4B469963BF863CC"
    )
    assert not (guest.root / "etc/apt/sources.list.d/cuda-ubuntu2004.list").exists()


def test_a_repository_is_there_once_its_key_is_the_known_one(guest: Guest) -> None:
    key = guest.write("etc/apt/keyrings/cuda-ubuntu2004.asc", "a key")
    (guest.root / "etc/apt/sources.list.d").mkdir()
    gpg = "printf 'fpr:::::::::%s:\\n' EB693B3035CD5710E231E123A4B469963BF863CC SUBKEY"
    done = guest.run("REFRESHED=1; add_repository; echo $REFRESHED", install_packages="", gpg=gpg)
    assert (done.returncode, done.stdout) == (0, "0\n")
    line = (guest.root / "etc/apt/sources.list.d/cuda-ubuntu2004.list").read_text()
    assert line.startswith(f"deb [signed-by={key}] https://developer.download.nvidia.com/")


def test_shells_find_the_toolkit_its_compiler_and_the_cards(tmp_path: Path) -> None:
    ubuntu = Guest(tmp_path, guest="ubuntu-22.04")
    for folder in ("etc/profile.d", "etc/ld.so.conf.d"):
        (ubuntu.root / folder).mkdir(parents=True)
    assert ubuntu.run("tell_shells", ldconfig="").returncode == 0
    asked = (
        "PATH=/usr/bin; . $R/etc/profile.d/cuda.sh; echo $PATH; echo $SMS; echo $NVCC_PREPEND_FLAGS"
    )
    assert ubuntu.run(f"unset SMS; {asked}").stdout.splitlines() == [
        "/usr/local/cuda-11.4/bin:/usr/bin",
        "52",
        "-ccbin g++-10",
    ]


@pytest.fixture
def with_runfile(tmp_path: Path) -> Guest:
    made = Guest(tmp_path, software=RUNFILE)
    for folder in ("var/tmp", "var/lib/vfio-kit"):
        (made.root / folder).mkdir(parents=True)
    return made


INSTALLER = 'echo "$TMPDIR" "$@" >> "$VFIO_KIT_ROOT/ran"\n'
SUM = f"RUNFILE_SHA256={hashlib.sha256(INSTALLER.encode()).hexdigest()}"
ROOM = "printf ' Avail\\n 99999M\\n'"


def test_only_the_toolkit_of_the_runfile_is_installed(with_runfile: Guest) -> None:
    guest = with_runfile
    curl = f"cat > ${{@: -2:1}} <<'EOF'\n{INSTALLER}EOF"
    done = guest.run(f"{SUM}; run_runfile", install_packages="", curl=curl, df=ROOM)
    assert done.returncode == 0, done.stderr
    assert (guest.root / "ran").read_text().split() == [
        f"{guest.root}/var/tmp/vfio-kit-cuda",
        "--silent",
        "--toolkit",
        "--override",
    ]
    # Its gigabytes do not stay.
    left = [
        p for p in guest.root.rglob("*") if p.name.startswith("cuda_") and p.suffix != ".installed"
    ]
    assert left == [] and not (guest.root / "var/tmp/vfio-kit-cuda").exists()


def test_a_runfile_of_another_checksum_is_not_run(with_runfile: Guest) -> None:
    guest = with_runfile
    curl = "echo 'touch $VFIO_KIT_ROOT/ran' > ${@: -2:1}"
    done = guest.run(f"{SUM}; run_runfile", install_packages="", curl=curl, df=ROOM)
    assert done.returncode == 1
    assert "its checksum is another one" in guest.state()["reason"]
    assert not (guest.root / "ran").exists()
    # Nor is it there for the next try to go on from.
    assert [path.name for path in (guest.root / "var/cache/vfio-kit").iterdir()] == []


def test_a_download_that_broke_goes_on(with_runfile: Guest) -> None:
    guest = with_runfile
    done = guest.run(
        f"{SUM}; run_runfile", install_packages="", curl='echo "$@"; return 18', df=ROOM
    )
    assert done.returncode == 1
    assert " --continue-at - " in done.stdout and "cannot be had" in guest.state()["reason"]


def test_a_disk_that_is_too_small_for_the_runfile(with_runfile: Guest) -> None:
    done = with_runfile.run("run_runfile", install_packages="", df="printf ' Avail\\n 4000M\\n'")
    assert done.returncode == 1
    assert "4000 MiB are free" in with_runfile.state()["reason"]


# deviceQuery.


@pytest.mark.parametrize(
    ("status", "version", "kept"),
    [
        (0, None, True),
        (1, None, True),
        (127, None, False),
        (0, "cuda-samples v11.4.1, CUDA 11.4", True),
        (0, "cuda-samples v11.4.1, CUDA 12.2", False),
        (None, None, False),
    ],
    ids=["runs", "no device", "lacks a library", "the same", "another CUDA", "not there"],
)
def test_a_device_query_that_starts_is_kept(
    guest: Guest, status: int | None, version: str | None, kept: bool
) -> None:
    if status is not None:
        guest.write("usr/local/bin/deviceQuery", f"#!/bin/sh\nexit {status}\n", 0o755)
    if version is not None:
        guest.write("var/lib/vfio-kit/deviceQuery.version", f"{version}\n")
    done = guest.step("device-query", fetch_samples='die "it is built"')
    assert done.returncode == (0 if kept else 1), done.stderr
    if not kept:
        assert guest.state()["reason"] == "it is built"


@pytest.mark.parametrize("folder", ["Samples/deviceQuery", "Samples/1_Utilities/deviceQuery"])
def test_device_query_is_built_from_either_layout(guest: Guest, folder: str) -> None:
    """With a compiler for real; the runtime of CUDA is one that the test makes."""
    guest.write("cuda/include/cuda_runtime.h", "static const int runtime = 0;\n")
    code = "#include <cuda_runtime.h>\n#include <helper_cuda.h>\n"
    code += "int main() { return runtime + helper; }\n"
    samples = f"""
      mkdir -p "$1/x/{folder}" "$1/x/Common"
      printf '%s' '{code}' > "$1/x/{folder}/deviceQuery.cpp"
      echo 'static const int helper = 0;' > "$1/x/Common/helper_cuda.h\""""
    conf = 'CUDA_INCLUDE=$R/cuda/include; CUDA_LIB=$R/cuda/lib; mkdir -p "$CUDA_LIB"; '
    conf += 'ar rc "$CUDA_LIB/libcudart_static.a"'
    done = guest.step("device-query", conf, fetch_samples=samples)
    assert done.returncode == 0, done.stderr
    again = guest.step("device-query", fetch_samples="false")
    assert "deviceQuery is there already" in again.stdout


# Loading.


@pytest.fixture
def with_card(guest: Guest) -> Guest:
    guest.write("sys/bus/pci/devices/0000:01:00.0/vendor", "0x10de\n")
    guest.write("sys/bus/pci/devices/0000:01:00.0/class", "0x030000\n")
    guest.write("sys/module/nvidia/version", "470.256.02\n")
    (guest.root / "var/log").mkdir(parents=True)
    return guest


def load_answers(**others: str) -> dict[str, str]:
    answers = {
        "uname": f"echo {KERNEL}",
        "modprobe": 'echo "modprobe $*"',
        "timeout": 'shift; "$@"',
        "nvidia_modprobe": 'echo "nodes $*"',
        "dmesg": "echo '[ 1.0] NVRM: The NVIDIA probe routine failed for 1 device(s).'",
        "systemd_run": 'echo "systemd-run $*"',
    }
    return answers | others


def test_the_driver_is_loaded_with_its_device_nodes(with_card: Guest) -> None:
    done = with_card.step("load", TARGET, **load_answers())
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-4:-1] == ["modprobe nvidia", "modprobe nvidia-uvm", "nodes -c 0 -u"]


@pytest.mark.parametrize("kind", [("0x1002", "0x030000"), ("0x10de", "0x040300")])
def test_a_guest_without_a_gpu(guest: Guest, kind: tuple[str, str]) -> None:
    guest.write("sys/bus/pci/devices/0000:01:00.0/vendor", f"{kind[0]}\n")
    guest.write("sys/bus/pci/devices/0000:01:00.0/class", f"{kind[1]}\n")
    assert guest.failure("load", TARGET, **load_answers()) == "this guest has no NVIDIA GPU"


def test_a_module_that_does_not_load_tells_why_and_keeps_the_kernels_log(with_card: Guest) -> None:
    before = f'{TARGET}; touch -d "-2 seconds" "$RUN/began"'
    reason = with_card.failure("load", before, **load_answers(modprobe="return 1"))
    assert reason.startswith("nvidia 470.256.02 does not load: ")
    assert reason.endswith("NVRM: The NVIDIA probe routine failed for 1 device(s).")
    assert "NVRM" in (with_card.root / "var/log/vfio-kit-kernel.log").read_text()


@pytest.mark.parametrize(
    ("answers", "folder", "reason"),
    [
        (
            {"uname": "echo 6.12.9-cloud-amd64"},
            "",
            f"the kernel 6.12.9-cloud-amd64 runs, and the driver is built for {KERNEL}",
        ),
        (
            {"modprobe": '[ "$1" != -r ]'},
            "sys/module/nouveau",
            "nouveau holds the card",
        ),
    ],
    ids=["another kernel", "nouveau"],
)
def test_it_reboots_once_and_only_once(
    with_card: Guest, answers: dict[str, str], folder: str, reason: str
) -> None:
    guest = with_card
    (guest.root / folder).mkdir(parents=True, exist_ok=True)
    done = guest.step("load", TARGET, **load_answers(**answers))
    assert done.returncode == 0, done.stderr
    assert (guest.state()["state"], guest.state()["reason"]) == ("reboot", reason)
    # By hand it says so and does not do it; as cloud-init runs it, when cloud-init has ended.
    assert "systemd-run" not in done.stdout
    done = guest.step("load", f"{TARGET}; FROM_BOOT=1", **load_answers(**answers))
    assert "--property After=cloud-final.service systemctl reboot" in done.stdout
    guest.write("proc/sys/kernel/random/boot_id", "another\n")
    assert guest.failure("load", TARGET, **load_answers(**answers)).startswith(
        f"after a reboot still: {reason}"
    )


def test_nouveau_that_lets_go_costs_no_reboot(with_card: Guest) -> None:
    (with_card.root / "sys/module/nouveau").mkdir(parents=True)
    done = with_card.step("load", TARGET, **load_answers())
    assert done.returncode == 0
    assert "modprobe -r nouveau\nmodprobe nvidia\n" in done.stdout


def test_a_baked_image_loads_nothing(tmp_path: Path) -> None:
    guest = Guest(tmp_path)
    done = guest.run(
        "VFIO_KIT_LOCKED=1; main --bake",
        id="echo 0",
        provision='echo "$MODE ${STEPS[*]} $OF"',
    )
    mode, *steps, count = done.stdout.split()
    assert (mode, int(count)) == ("bake", len(steps))
    assert "load" not in steps and "hold" in steps


def test_two_runs_at_once_are_one_too_many(guest: Guest) -> None:
    done = guest.run("main", id="echo 0", flock='echo "$*"; return 75')
    assert done.returncode == 75
    assert done.stderr == "vfio-kit-provision: another run of it is at work\n"
    # What a package starts does not keep the lock.
    assert " -o " in done.stdout
