"""The unit that starts a VM when the host boots: its text, and where it is put and taken from.

systemctl enables below a root of the test's; systemd-analyze reads what was written.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.machines import M4000
from tests.unit.values import function, host, spec
from vfio_kit.apply import service
from vfio_kit.errors import HostError
from vfio_kit.model.vm import UpPlan
from vfio_kit.plan import make_plan
from vfio_kit.render.service import MARK, unit_name, unit_of_vm, unit_template, unit_word

PROGRAM = ("/opt/vfio-kit/bin/vfio-kit",)
STATE = Path("/var/lib/vfio-kit")
IMAGES = Path("/var/lib/libvirt/images")
TEMPLATE = "etc/systemd/system/vfio-kit@.service"
needs_systemctl = pytest.mark.skipif(shutil.which("systemctl") is None, reason="no systemctl")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A host that systemd runs, with nothing of ours."""
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    return tmp_path


def enable(name: str, root: Path, words: tuple[str, ...] = PROGRAM) -> service.Data:
    data = service.prepare(name, STATE, (IMAGES,), words=words, root=root)
    service.enable(data, root)
    return data


def files(root: Path) -> set[str]:
    units = root / "etc/systemd/system"
    return {str(p.relative_to(units)) for p in units.rglob("*") if p.is_symlink() or p.is_file()}


# The text


def test_the_template_starts_and_stops_the_vm_of_its_instance() -> None:
    lines = unit_template(PROGRAM).splitlines()
    assert lines[0] == MARK
    assert "ExecStart=/opt/vfio-kit/bin/vfio-kit start --no-wait %i" in lines
    assert "ExecStop=/opt/vfio-kit/bin/vfio-kit stop --timeout 120 %i" in lines
    assert {"Type=oneshot", "RemainAfterExit=yes", "WantedBy=multi-user.target"} <= set(lines)


def test_a_python_module_can_be_the_program() -> None:
    text = unit_template(("/usr/bin/python3", "-m", "vfio_kit"))
    assert "ExecStart=/usr/bin/python3 -m vfio_kit start --no-wait %i\n" in text


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("/opt/vfio-kit/bin/vfio-kit", "/opt/vfio-kit/bin/vfio-kit"),
        ("/home/a b/vfio-kit", '"/home/a b/vfio-kit"'),
        ("/opt/100%/vfio-kit", '"/opt/100%%/vfio-kit"'),
        ('/opt/"x"\\y', '"/opt/\\"x\\"\\\\y"'),
        ("/opt/a;b", '"/opt/a;b"'),
    ],
)
def test_words_of_a_unit_are_quoted_as_systemd_reads_them(path: str, word: str) -> None:
    assert unit_word(path) == word


@pytest.mark.parametrize("path", ["/opt/$HOME/vfio-kit", "/opt/a\nExecStart=/bin/sh"])
def test_a_program_that_no_unit_can_run_is_refused(path: str) -> None:
    with pytest.raises(HostError, match="a systemd unit cannot run"):
        unit_template((path,))


def test_the_drop_in_of_a_vm_has_its_state_and_its_mounts() -> None:
    assert unit_of_vm("/srv/a b", ("/data/images",)).splitlines() == [
        MARK,
        "[Unit]",
        'RequiresMountsFor="/srv/a b" /data/images',
        "",
        "[Service]",
        'Environment="VFIO_KIT_STATE_DIR=/srv/a b"',
        'ReadWritePaths="-/srv/a b"',
    ]


@pytest.mark.parametrize("vm", ["m4000", "gpu-node.example.org", "a.mount", "0"])
def test_a_unit_is_always_a_service(vm: str) -> None:
    assert unit_name(vm) == f"vfio-kit@{vm}.service"


@pytest.mark.edge
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")
@pytest.mark.parametrize("state", ["/var/lib/vfio-kit", '/srv/a b/100%/"c"'])
def test_systemd_reads_it_without_a_complaint(tmp_path: Path, state: str) -> None:
    program = tmp_path / "the program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    units = tmp_path / "units"
    drop_ins = units / "vfio-kit@gpu-node.example.org.service.d"
    drop_ins.mkdir(parents=True)
    (units / "vfio-kit@.service").write_text(unit_template((str(program),)))
    folders = ("/var/lib/libvirt/images", "/mnt/a b/50%", "/srv/kernels")
    (drop_ins / "50-vfio-kit.conf").write_text(unit_of_vm(state, folders))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "vfio-kit@gpu-node.example.org.service"],
        env=os.environ | {"SYSTEMD_UNIT_PATH": f"{units}:", "SYSTEMD_LOG_LEVEL": "notice"},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    said = [line for line in done.stderr.splitlines() if "vfio-kit" in line or str(units) in line]
    assert (done.returncode, said) == (0, [])


# The program


def test_the_program_is_this_one_by_its_real_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = tmp_path / "venv/bin/vfio-kit"
    real.parent.mkdir(parents=True)
    real.write_text("#!/bin/sh\n")
    real.chmod(0o755)
    (tmp_path / "vfio-kit").symlink_to(real)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["./vfio-kit", "up"])
    assert service.program() == (str(real),)


def test_a_module_is_run_by_its_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/x/vfio_kit/__main__.py", "up"])
    assert service.program() == (sys.executable, "-m", "vfio_kit")


# What must be mounted


def planned(image: Path, **fields: Any) -> UpPlan:
    card = function("01:00.0", M4000, 6)
    asked = spec("01:00.0", image=str(image), memory=1024, driver="none", **fields)
    return make_plan(host(card), asked, image_dir=str(IMAGES))


def test_the_folders_of_all_files_that_the_vm_starts_with(tmp_path: Path) -> None:
    boot = {"kernel": "/kernels/vmlinuz", "initrd": "/initrds/initrd.img"}
    plan = planned(Path("/nfs/base.qcow2"), boot=boot, roms={"0000:01:00.0": "/roms/m4000.rom"})
    wanted = (IMAGES, Path("/nfs"), Path("/kernels"), Path("/initrds"), Path("/roms"))
    assert service.folders_of(plan, STATE) == wanted


def test_each_folder_is_named_once() -> None:
    assert service.folders_of(planned(IMAGES / "base.qcow2"), STATE) == (IMAGES,)


def test_a_link_is_named_with_the_place_that_it_leads_to(tmp_path: Path) -> None:
    disk, shelf = tmp_path / "disk", tmp_path / "shelf"
    disk.mkdir()
    shelf.mkdir()
    (disk / "base.qcow2").touch()
    (shelf / "base.qcow2").symlink_to(disk / "base.qcow2")
    (tmp_path / "state").symlink_to(disk)
    assert service.folders_of(planned(shelf / "base.qcow2"), STATE) == (IMAGES, shelf, disk)
    assert service.folders_of(planned(IMAGES / "x"), tmp_path / "state") == (disk, IMAGES)


# Where it is put, and taken from


def test_a_host_without_systemd_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="not run by systemd") as caught:
        service.prepare("vm", STATE, (), words=PROGRAM, root=tmp_path)
    assert "vfio-kit start vm" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.edge
@needs_systemctl
class TestBelowARoot:
    def test_enabled_and_disabled_leaves_nothing(self, root: Path) -> None:
        data = enable("gpu-node.example.org", root)
        unit = "vfio-kit@gpu-node.example.org.service"
        assert files(root) == {
            "vfio-kit@.service",
            f"{unit}.d/50-vfio-kit.conf",
            f"multi-user.target.wants/{unit}",
        }
        assert service.enabled(root=root) == {"gpu-node.example.org"}
        service.disable(data, root)
        assert (files(root), service.enabled(root=root)) == (set(), frozenset())

    def test_the_template_goes_with_the_last_vm(self, root: Path) -> None:
        first, second = enable("a", root), enable("a-b", root)
        service.disable(first, root)
        assert (root / TEMPLATE).exists()
        assert service.enabled(root=root) == {"a-b"}
        service.disable(second, root)
        assert files(root) == set()

    def test_a_vm_of_another_state_directory_is_not_ours(self, root: Path) -> None:
        enable("vm", root)
        assert service.enabled(STATE, root) == {"vm"}
        assert service.enabled(Path("/srv/other"), root) == frozenset()

    def test_a_name_that_ends_like_another_kind_of_unit(self, root: Path) -> None:
        data = enable("a.mount", root)
        assert "multi-user.target.wants/vfio-kit@a.mount.service" in files(root)
        service.disable(data, root)
        assert files(root) == set()

    def test_again_is_the_same(self, root: Path) -> None:
        enable("vm", root)
        before = files(root)
        data = enable("vm", root)
        assert files(root) == before
        service.disable(data, root)
        service.disable(data, root)
        assert files(root) == set()

    @pytest.mark.parametrize("where", ["usr/lib/systemd/system", "etc/systemd/system"])
    def test_a_template_of_somebody_elses_is_used_and_stays(self, root: Path, where: str) -> None:
        theirs = root / where / "vfio-kit@.service"
        theirs.parent.mkdir(parents=True, exist_ok=True)
        text = "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=graphical.target\n"
        theirs.write_text(text)
        data = enable("vm", root)
        assert "graphical.target.wants/vfio-kit@vm.service" in files(root)
        service.disable(data, root)
        assert theirs.read_text() == text
        assert files(root) - {"vfio-kit@.service"} == set()

    def test_a_newer_program_takes_the_place_of_an_older(self, root: Path) -> None:
        enable("vm", root)
        enable("vm2", root, ("/new/vfio-kit",))
        assert "ExecStart=/new/vfio-kit start" in (root / TEMPLATE).read_text()

    def test_an_operators_drop_in_stays(self, root: Path) -> None:
        data = enable("vm", root)
        own = root / "etc/systemd/system/vfio-kit@vm.service.d/10-own.conf"
        own.write_text("[Service]\nNice=5\n")
        service.disable(data, root)
        assert files(root) == {"vfio-kit@vm.service.d/10-own.conf"}


@pytest.mark.parametrize("left", ["drop-in", "link", "template"])
def test_what_a_crash_in_the_middle_left_is_taken_away(root: Path, left: str) -> None:
    units = root / "etc/systemd/system"
    data = service.prepare("vm", STATE, (), words=PROGRAM, root=root)
    if left == "drop-in":
        (units / "vfio-kit@vm.service.d").mkdir()
        (units / "vfio-kit@vm.service.d/50-vfio-kit.conf").write_text(MARK)
    elif left == "link":
        (units / "multi-user.target.wants").mkdir()
        link = units / "multi-user.target.wants/vfio-kit@vm.service"
        link.symlink_to("/etc/systemd/system/vfio-kit@.service")
    else:
        (units / "vfio-kit@.service").write_text(MARK)
        (units / ".vfio-kit@.service.tmp").write_text("half")
    service.disable(data, root)
    assert files(root) == set()


# What systemd says, in the form of systemctl(1), show

SHOW = """\
case "$*" in
"show --property=Id,ActiveState vfio-kit@a.service vfio-kit@b.service vfio-kit@c.service")
    printf 'Id=vfio-kit@a.service\\nActiveState=failed\\n\\n'
    printf 'Id=vfio-kit@b.service\\nActiveState=active\\n\\n'
    printf 'Id=vfio-kit@c.service\\nActiveState=failed\\n' ;;
*) echo "Failed to connect to bus: Host is down" >&2; exit 1 ;;
esac
"""


def test_all_vms_that_could_not_be_started_are_asked_for_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in = tmp_path / "bin/systemctl"
    stand_in.parent.mkdir()
    stand_in.write_text(f"#!/bin/sh\n{SHOW}")
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert service.failed({"c", "a", "b"}) == {"a", "c"}
    assert service.failed({"other"}) == frozenset()  # systemd cannot be asked
    stand_in.unlink()
    assert service.failed({"a"}) == frozenset()
    assert service.failed(frozenset()) == frozenset()
