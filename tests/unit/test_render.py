"""A plan becomes files: goldens, each proven by its real consumer, and values that mean harm."""

import json
import os
import shlex
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import few
from tests.hosts.load import FOLDER as HOSTS
from tests.hosts.load import load
from tests.machines import M4000, Machine, k80_pair, m4000_isolated, write_machine
from tests.unit.cloud_init import schema_errors
from tests.unit.tools import accepts
from tests.unit.values import TEST_KEYS, function, host, public_key, spec
from vfio_kit.analysis.advice.fit import native_cuda
from vfio_kit.analysis.provisioning import provisioning_of
from vfio_kit.assets import asset_dir
from vfio_kit.errors import UsageError, VfioKitError
from vfio_kit.host.names import name_lookup
from vfio_kit.host.read import read_host
from vfio_kit.knowledge.guests import GUESTS
from vfio_kit.knowledge.provisioning import CUDA_ROWS, DRIVER_ROWS
from vfio_kit.model import Cpu, Platform
from vfio_kit.model.placement import CpuTopology, Placement
from vfio_kit.model.vm import BackingImage, CudaWay, Software, UpPlan
from vfio_kit.plan import make_plan
from vfio_kit.render import OUTPUTS, qemu_arguments, render
from vfio_kit.render.placement import cpu_list
from vfio_kit.render.qemu import MICROVM, Q35
from vfio_kit.render.seed import provision_script

GOLDEN = Path(__file__).parents[1] / "golden"
OPERATOR = public_key("operator@desk")


@dataclass(frozen=True)
class Case:
    """A folder of goldens: a spec on a machine, and the outputs whose files it holds."""

    machine: Callable[[], Machine]
    spec: dict[str, Any]
    outputs: tuple[str, ...] = ("libvirt", "qemu")
    gpus: tuple[str, ...] = ("01:00.0",)
    placement: Placement | None = None
    """Instead of that of the plan: what is printed does not hang on how it was decided."""


def tesla_k80() -> Machine:
    """Its halves have BARs of their real size."""
    return load(HOSTS / "tesla-k80.toml").machine


def epyc_with_p40s() -> Machine:
    """Two nodes, cores with two threads each, four cards on each node."""
    return load(HOSTS / "epyc-two-nodes-eight-p40.toml").machine


_PINNED = Placement(
    CpuTopology(1, 2, 2, topoext=True),
    nodes=(1,),
    pages=((1, 4096),),
    vcpus=((10,), (42,), (11,), (43,)),
    emulator=(8, 9, 40, 41),
)
_ACROSS = Placement(
    CpuTopology(1, 4, 1),
    nodes=(0, 1),
    pages=((0, 1024), (1, 3072)),
    vcpus=((2, 3, 12),) * 4,
    shared=True,
)
_K80_HALVES = ("05:00.0", "06:00.0")
_KERNEL = {"kernel": "/boot/vmlinuz-6.1.0-guest", "initrd": "/boot/initrd.img-6.1.0-guest"}
_IMAGE = "/var/lib/libvirt/images/jammy-server-cloudimg-amd64.img"

CASES: dict[str, Case] = {
    "m4000-direct": Case(m4000_isolated, {"image": _IMAGE, "boot": _KERNEL}),
    "m4000-bios": Case(m4000_isolated, {"image": _IMAGE, "cpus": 8, "memory": 16384}),
    "m4000-uefi": Case(m4000_isolated, {"image": _IMAGE, "boot": {"mode": "uefi"}}),
    "m4000-no-hugepages": Case(
        m4000_isolated, {"hugepages": "off", "memory": 3000, "network": {"name": "lab"}}
    ),
    "k80-pair-1G": Case(
        k80_pair,
        {"image": _IMAGE, "hugepages": "1G", "memory": 32768, "cpus": 32},
        gpus=("03:00.0", "04:00.0"),
    ),
    "m4000-rom": Case(m4000_isolated, {"image": _IMAGE, "roms": {"01:00.0": "/srv/M4000, 1.rom"}}),
    "m4000-pinned": Case(
        m4000_isolated, {"boot": _KERNEL}, ("libvirt", "qemu", "microvm"), placement=_PINNED
    ),
    "m4000-across-nodes": Case(m4000_isolated, {"image": _IMAGE}, placement=_ACROSS),
    "m4000-node-without-hugepages": Case(
        m4000_isolated,
        {"image": _IMAGE, "hugepages": "off"},
        placement=replace(_PINNED, pages=(), vcpus=(), emulator=()),
    ),
    "p40-on-its-node": Case(
        epyc_with_p40s,
        {"image": _IMAGE, "cpus": 8, "boot": {"mode": "uefi"}},
        gpus=("81:00.0",),
    ),
    "k80-bars-bios": Case(tesla_k80, {"image": _IMAGE, "memory": 24576}, gpus=_K80_HALVES),
    "k80-bars-uefi": Case(
        tesla_k80,
        {"image": _IMAGE, "memory": 24576, "boot": {"mode": "uefi"}},
        gpus=_K80_HALVES,
    ),
    "k80-bars-direct": Case(
        tesla_k80,
        {"boot": _KERNEL, "memory": 24576},
        ("libvirt", "qemu", "microvm"),
        gpus=_K80_HALVES,
    ),
    "ubuntu-22.04-470": Case(
        m4000_isolated, {"ssh": {"authorized_keys": [OPERATOR]}}, ("cloud-init",)
    ),
    "debian-12-470": Case(
        m4000_isolated,
        {"guest": "debian-12", "boot": _KERNEL, "disk": 40},
        ("libvirt", "qemu", "microvm", "cloud-init"),
    ),
    "debian-12-none": Case(
        m4000_isolated, {"guest": "debian-12", "driver": "none"}, ("cloud-init",)
    ),
    "ubuntu-22.04-bundle": Case(
        m4000_isolated,
        {"bundle": "/srv/bundle", "packages": ["nvtop", "htop=3.0.5-7build2"]},
        ("libvirt", "qemu", "bundle"),
    ),
    "debian-12-bundle": Case(
        m4000_isolated,
        {"guest": "debian-12", "bundle": "/srv/a bundle", "cuda": "none"},
        ("bundle",),
    ),
}


def _softwares() -> Iterator[tuple[str, str, Software]]:
    """Name of its goldens, guest and software: every driver with every CUDA that it runs."""
    for guest, driver in DRIVER_ROWS:
        prefix = f"{guest}-{driver}"
        yield f"{prefix}-no-cuda", guest, Software(driver)
        for row in CUDA_ROWS.values():
            # Within a major version a toolkit may be newer than what the driver speaks.
            major = native_cuda(DRIVER_ROWS[guest, driver].branch).major
            if row.guest != guest or row.version.major > major:
                continue
            for way in row.ways:
                software = Software(driver, row.name, way, ("3.7", "5.2"))
                yield f"{prefix}-{row.name}-{way}", guest, software
    for guest in GUESTS:
        yield f"{guest}-packages", guest, Software("none", packages=("nvtop", "jq=1.6-2"))


SOFTWARES = {name: (guest, software) for name, guest, software in _softwares()}
"""What is installed, and how: a folder of goldens each, in tests/golden/provision."""


def plan_of(case: Case, root: Path) -> UpPlan:
    host = read_host(write_machine(root, case.machine()), name_lookup(root))
    plan = make_plan(host, spec(*case.gpus, **case.spec))
    if case.placement is None:
        return plan
    return replace(plan, domain=replace(plan.domain, placement=case.placement))


@cache
def user_data_of(name: str) -> str:
    """The user-data of a row of SOFTWARES."""
    guest, software = SOFTWARES[name]
    return user_data_with(guest, software)


def user_data_with(guest: str, software: Software) -> str:
    plan = make_plan(host(function("01:00.0", M4000, 1)), spec("01:00.0", guest=guest))
    files = render("cloud-init", replace(plan, software=software), TEST_KEYS)
    return next(file.text for file in files if file.path == "user-data")


def files_of(user_data: str) -> dict[str, str]:
    """Path -> content of what a seed writes into the guest."""
    data = yaml.load(user_data, yaml.CSafeLoader)
    return {file["path"]: file["content"] for file in data.get("write_files", ())}


def rendered(case: Case, root: Path) -> dict[str, str]:
    plan = plan_of(case, root)
    keys = replace(TEST_KEYS, authorized=(*TEST_KEYS.authorized, *plan.authorized_keys))
    return {file.path: file.text for output in case.outputs for file in render(output, plan, keys)}


def goldens(output: str, *names: str) -> list[Path]:
    """These files of an output, in every case that has it."""
    return [
        GOLDEN / name / file
        for name, case in CASES.items()
        if output in case.outputs
        for file in names
    ]


def label(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


@pytest.mark.parametrize("name", CASES)
def test_what_is_rendered_is_the_golden(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    compare(GOLDEN / name, rendered(CASES[name], tmp_path), request)


@pytest.mark.parametrize("name", SOFTWARES)
def test_what_is_installed_is_the_golden(name: str, request: pytest.FixtureRequest) -> None:
    """All that differs from one choice to another; the rest of user-data is in other goldens."""
    written = files_of(user_data_of(name))
    files = {"provision.conf": written["/etc/vfio-kit/provision.conf"]}
    if "/etc/apt/preferences.d/90vfio-kit" in written:
        files["preferences"] = written["/etc/apt/preferences.d/90vfio-kit"]
    compare(GOLDEN / "provision" / name, files, request)


def compare(folder: Path, files: dict[str, str], request: pytest.FixtureRequest) -> None:
    name = folder.name
    if request.config.getoption("--update-goldens"):
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        for path, text in files.items():
            (folder / path).write_text(text, encoding="utf-8")
    written = {path.name: path.read_text("utf-8") for path in folder.glob("*")}
    assert written.keys() == files.keys(), "pytest --update-goldens writes them anew"
    for path, text in files.items():
        assert text == written[path], f"{name}/{path}: pytest --update-goldens writes it anew"


def test_every_output_has_a_golden_for_every_guest() -> None:
    covered = {
        (output, case.spec.get("guest", "ubuntu-22.04"))
        for case in CASES.values()
        for output in case.outputs
    }
    assert covered == {(output, guest) for output in OUTPUTS for guest in GUESTS}


def test_every_driver_and_every_toolkit_has_a_golden() -> None:
    assert {(guest, software.driver) for guest, software in SOFTWARES.values()} >= set(DRIVER_ROWS)
    installed = {(guest, software.cuda) for guest, software in SOFTWARES.values()}
    assert installed >= CUDA_ROWS.keys()
    assert {software.cuda_way for _, software in SOFTWARES.values()} == set(CudaWay)


def test_every_golden_has_its_case() -> None:
    others = {"scan", "provision"}  # test_scan.py's own; SOFTWARES
    assert {path.name for path in GOLDEN.iterdir()} == CASES.keys() | others
    assert {path.name for path in (GOLDEN / "provision").iterdir()} == SOFTWARES.keys()


@pytest.mark.parametrize("guest", GUESTS)
def test_a_guest_system_has_its_folder_of_templates(guest: str) -> None:
    assert (asset_dir("cloud-init") / guest / "user-data.j2").is_file()


def test_rendering_twice_gives_the_same(tmp_path: Path) -> None:
    case = CASES["debian-12-470"]
    assert rendered(case, tmp_path / "one") == rendered(case, tmp_path / "two")


def test_an_output_that_is_not_in_the_table(tmp_path: Path) -> None:
    plan = plan_of(CASES["m4000-bios"], tmp_path)
    with pytest.raises(KeyError):
        render("vmware", plan, TEST_KEYS)


def test_missing_templates_mean_a_damaged_installation() -> None:
    with pytest.raises(VfioKitError) as caught:
        asset_dir("no-such-folder")
    assert "no-such-folder/ is missing" in caught.value.message


# Proven by the real consumers.


@pytest.mark.parametrize("path", goldens("libvirt", "domain.xml"), ids=label)
def test_libvirt_takes_its_golden(path: Path) -> None:
    accepts("virt-xml-validate", path, "domain")


@pytest.mark.parametrize(
    "path", [*goldens("qemu", "run.sh"), *goldens("microvm", "microvm.sh")], ids=label
)
def test_the_shell_takes_the_script(path: Path) -> None:
    accepts("bash", "-n", path)
    accepts("shellcheck", path)


@pytest.mark.parametrize("path", goldens("bundle", "make-bundle.sh"), ids=label)
def test_the_shell_takes_the_script_that_makes_a_bundle(path: Path) -> None:
    accepts("bash", "-n", path)
    accepts("shellcheck", path)


@pytest.mark.parametrize("name", SOFTWARES)
def test_cloud_init_takes_what_installs_a_driver(name: str) -> None:
    text = user_data_of(name)
    assert text.startswith("#cloud-config\n")
    assert schema_errors(text) == []


@pytest.mark.parametrize("path", goldens("cloud-init", "user-data"), ids=label)
def test_cloud_init_takes_its_golden(path: Path) -> None:
    assert schema_errors(path.read_text("utf-8")) == []


def test_cloud_init_would_refuse_another() -> None:
    assert schema_errors("#cloud-config\nssh_genkeytypes: []\n")
    assert schema_errors("#cloud-config\nwrite_files: [{content: x}]\n")


@pytest.mark.parametrize("path", goldens("cloud-init", "user-data"), ids=label)
def test_user_data_gives_the_guest_its_identity(path: Path) -> None:
    text = path.read_text("utf-8")
    assert text.startswith("#cloud-config\n")
    data = yaml.load(text, yaml.CSafeLoader)
    case = CASES[path.parent.name]
    assert data["hostname"] == "gpu-vm"
    assert data["locale"] == "C.UTF-8"
    assert data["ssh_keys"] == {
        "ed25519_private": TEST_KEYS.host_private,
        "ed25519_public": TEST_KEYS.host_public,
    }
    assert (data["ssh_pwauth"], data["ssh_deletekeys"], data["disable_root"]) == (False, True, True)
    (user,) = data["users"]
    guest = GUESTS[case.spec.get("guest", "ubuntu-22.04")]
    assert user["name"] == guest.user
    assert user["lock_passwd"] is True
    extra = case.spec.get("ssh", {}).get("authorized_keys", [])
    assert user["ssh_authorized_keys"] == [*TEST_KEYS.authorized, *extra]
    # An overlay of the image's own size has nothing to grow; a driver would not fit into one.
    own_size = case.spec.get("driver") == "none" and "disk" not in case.spec
    assert ("growpart" in data) == own_size


HOOK = "/var/lib/cloud/scripts/per-boot/vfio-kit-provision"
SCRIPT = "/usr/local/sbin/vfio-kit-provision"


def test_without_a_driver_the_seed_installs_nothing() -> None:
    data = yaml.load((GOLDEN / "debian-12-none" / "user-data").read_text("utf-8"), yaml.CSafeLoader)
    assert "runcmd" not in data and "write_files" not in data


@pytest.mark.parametrize("guest", GUESTS)
def test_a_baked_image_installs_nothing(guest: str) -> None:
    software = Software("470", "11.4", baked=True)
    assert files_of(user_data_with(guest, software)) == {}


@pytest.mark.parametrize("name", SOFTWARES)
def test_what_was_asked_for_is_what_the_script_reads(name: str) -> None:
    guest, software = SOFTWARES[name]
    files = files_of(user_data_of(name))
    assert files[HOOK] == f"#!/bin/sh\nexec {SCRIPT} --boot\n"
    assert files[SCRIPT] == provision_script()
    wanted = provisioning_of(guest, software)
    assert wanted is not None
    asked = "; ".join(
        f'printf "%s\\n" "${{{name}[@]}}"; echo --'
        for name in ("DRIVER_PACKAGES", "HOLD", "CUDA_PACKAGES", "PACKAGES", "SMS", "STEPS")
    )
    done = subprocess.run(
        ["bash", "-uc", f"{files['/etc/vfio-kit/provision.conf']}\n{asked}"],
        check=True,
        capture_output=True,
        text=True,
    )
    found = [part.split() for part in done.stdout.split("--\n")]
    driver = wanted.driver
    assert found[:5] == [
        list(driver.packages if driver else ()),
        list(driver.hold if driver else ()),
        list(wanted.cuda_packages),
        list(wanted.packages),
        ["37", "52"] if wanted.cuda else [],
    ]
    steps = found[5]
    assert steps[0] == "preflight" and steps[-1] == "done"
    assert ("load" in steps) == (driver is not None)
    assert ("cuda" in steps) == ("device-query" in steps) == (wanted.cuda is not None)


@pytest.mark.parametrize("name", SOFTWARES)
def test_nothing_that_is_installed_is_pinned_away(name: str) -> None:
    guest, software = SOFTWARES[name]
    wanted = provisioning_of(guest, software)
    assert wanted is not None
    if wanted.driver is None:
        return
    files = files_of(user_data_of(name))
    pins = files["/etc/apt/preferences.d/90vfio-kit"].split("\n\n")
    never = [
        line[9:].split() for pin in pins for line in pin.splitlines() if line[:9] == "Package: "
    ]
    everywhere = [
        pattern
        for pin, names in zip(pins, never, strict=True)
        for pattern in names
        if "Pin: release *" in pin
    ]
    asked = (*wanted.driver.packages, *wanted.driver.hold, *wanted.cuda_packages)
    assert not [p for p in asked for pattern in everywhere if fnmatchcase(p, pattern)]
    assert all(pin.rstrip().endswith("Pin-Priority: -1") for pin in pins)
    if wanted.cuda_repository:
        from_there = [n for pin, n in zip(pins, never, strict=True) if "Pin: origin" in pin]
        assert len(from_there) == 1
        for replaces in ("nvidia-driver-535", "libnvidia-compute-470", "cuda-drivers"):
            assert any(fnmatchcase(replaces, pattern) for pattern in from_there[0])
        assert not [p for p in wanted.cuda_packages for n in from_there[0] if fnmatchcase(p, n)]
    assert "blacklist nouveau\n" in files["/etc/modprobe.d/90vfio-kit.conf"]


@pytest.mark.parametrize("name", SOFTWARES)
def test_a_repository_has_its_key_in_the_seed(name: str) -> None:
    guest, software = SOFTWARES[name]
    wanted = provisioning_of(guest, software)
    assert wanted is not None
    keys = [
        text
        for path, text in files_of(user_data_of(name)).items()
        if path.startswith("/etc/apt/keyrings/")
    ]
    if wanted.cuda_repository is None:
        assert keys == []
        return
    (key,) = keys
    assert key.startswith("-----BEGIN PGP PUBLIC KEY BLOCK-----\n")


@pytest.mark.parametrize("path", goldens("cloud-init", "meta-data", "network-config"), ids=label)
def test_the_rest_of_the_seed_names_the_same_machine(path: Path, tmp_path: Path) -> None:
    domain = plan_of(CASES[path.parent.name], tmp_path).domain
    data = yaml.load(path.read_text("utf-8"), yaml.CSafeLoader)
    if path.name == "meta-data":
        assert data == {"instance-id": "vfio-kit-gpu-vm", "local-hostname": "gpu-vm"}
    else:
        primary = data["ethernets"]["primary"]
        assert (data["version"], primary["match"]) == (2, {"macaddress": domain.mac})
        assert (primary["dhcp4"], primary["dhcp-identifier"]) == (True, "mac")


def test_only_the_owner_reads_what_holds_a_secret(tmp_path: Path) -> None:
    plan = plan_of(CASES["debian-12-470"], tmp_path)
    modes = {file.path: file.mode for output in OUTPUTS for file in render(output, plan, TEST_KEYS)}
    assert modes == {
        "domain.xml": 0o644,
        "run.sh": 0o755,
        "microvm.sh": 0o755,
        "make-bundle.sh": 0o755,
        "user-data": 0o600,
        "meta-data": 0o600,
        "network-config": 0o600,
    }


def test_the_host_key_is_in_the_seed_alone(tmp_path: Path) -> None:
    plan = plan_of(CASES["debian-12-470"], tmp_path)
    holders = {
        file.path
        for output in OUTPUTS
        for file in render(output, plan, TEST_KEYS)
        if "PRIVATE KEY" in file.text
    }
    assert holders == {"user-data"}


@pytest.mark.parametrize("output", ["libvirt", "qemu"])
def test_a_machine_is_rendered_without_keys(output: str, tmp_path: Path) -> None:
    plan = plan_of(CASES["debian-12-470"], tmp_path)
    assert render(output, plan) == render(output, plan, TEST_KEYS)


# Both machines are one machine.


def options(plan: UpPlan, name: str) -> list[dict[str, Any]]:
    """The JSON values of one of QEMU's options."""
    return [json.loads(value) for option, value in _pairs(plan) if option == name]


def _pairs(plan: UpPlan) -> Iterator[tuple[str, str]]:
    for row in qemu_arguments(plan.domain):
        if len(row) == 2 and row[1].startswith("{"):
            yield row[0], row[1]


def xml_of(plan: UpPlan) -> ElementTree.Element:
    return ElementTree.fromstring(render("libvirt", plan, TEST_KEYS)[0].text)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if "qemu" in case.outputs])
def test_qemu_and_libvirt_put_every_device_at_the_same_address(name: str, tmp_path: Path) -> None:
    plan = plan_of(CASES[name], tmp_path)
    devices = {(d["bus"], d["addr"]): d["driver"] for d in options(plan, "-device") if "bus" in d}
    root = xml_of(plan)
    kinds = {
        "controller": "pcie-root-port",
        "disk": "virtio-blk-pci",
        "interface": "virtio-net-pci",
        "hostdev": "vfio-pci",
    }
    expected = {}
    for element in root.findall("devices/*"):
        address = element.find("address")
        if element.tag not in kinds or address is None:
            continue
        bus, slot, number = (int(address.get(key, ""), 16) for key in ("bus", "slot", "function"))
        place = f"0x{slot:x}.0x{number:x}" if number else f"0x{slot:x}"
        expected[(f"pci.{bus}" if bus else "pcie.0", place)] = kinds[element.tag]
    assert devices == expected
    assert len([d for d in options(plan, "-device") if d["driver"] == "vfio-pci"]) == len(
        plan.devices
    )


def test_all_memory_is_in_hugepages(tmp_path: Path) -> None:
    plan = plan_of(CASES["k80-pair-1G"], tmp_path)
    (memory,) = options(plan, "-object")
    assert (memory["size"], memory["hugetlbsize"]) == (32768 << 20, 1 << 30)
    assert (memory["hugetlb"], memory["prealloc"], memory["prealloc-threads"]) == (True, True, 16)
    page = xml_of(plan).find("memoryBacking/hugepages/page")
    assert page is not None and page.attrib == {"size": "1048576", "unit": "KiB"}


def test_without_hugepages_nothing_is_backed(tmp_path: Path) -> None:
    plan = plan_of(CASES["m4000-no-hugepages"], tmp_path)
    assert [memory["qom-type"] for memory in options(plan, "-object")] == ["memory-backend-ram"]
    assert xml_of(plan).find("memoryBacking") is None


def test_libvirt_rebinds_the_drivers_and_no_option_rom_is_run(tmp_path: Path) -> None:
    hostdevs = xml_of(plan_of(CASES["m4000-bios"], tmp_path)).findall("devices/hostdev")
    assert [device.get("managed") for device in hostdevs] == ["yes", "yes"]
    assert [rom.get("bar") for device in hostdevs for rom in device.findall("rom")] == [
        "off",
        "off",
    ]


def test_an_option_rom_is_shown_where_there_is_a_file(tmp_path: Path) -> None:
    plan = plan_of(CASES["m4000-rom"], tmp_path)
    roms = [rom.attrib for rom in xml_of(plan).findall("devices/hostdev/rom")]
    assert roms == [{"bar": "on", "file": "/srv/M4000, 1.rom"}, {"bar": "off"}]
    card, audio = (d for d in options(plan, "-device") if d["driver"] == "vfio-pci")
    assert (card["rombar"], card["romfile"]) == (1, "/srv/M4000, 1.rom")
    assert audio["rombar"] == 0 and "romfile" not in audio


# Where a VM runs.


def told(plan: UpPlan, name: str) -> list[str]:
    """The values of one of QEMU's options."""
    return [row[1] for row in qemu_arguments(plan.domain) if row[0] == name]


def test_libvirt_pins_what_is_to_be_pinned(tmp_path: Path) -> None:
    root = xml_of(plan_of(CASES["m4000-pinned"], tmp_path))
    assert [pin.attrib for pin in root.findall("cputune/vcpupin")] == [
        {"vcpu": "0", "cpuset": "10"},
        {"vcpu": "1", "cpuset": "42"},
        {"vcpu": "2", "cpuset": "11"},
        {"vcpu": "3", "cpuset": "43"},
    ]
    pin = root.find("cputune/iothreadpin")
    assert pin is not None and pin.get("cpuset") == "8-9,40-41"
    # Preallocation would have these CPUs alone; it is pinned once the guest runs.
    assert root.find("cputune/emulatorpin") is None
    memory = root.find("numatune/memory")
    assert memory is not None and memory.attrib == {"mode": "strict", "nodeset": "1"}
    assert root.findtext("iothreads") == "1"
    disks = root.findall("devices/disk/driver")
    assert [disk.get("iothread") for disk in disks] == ["1", None]


def test_both_machines_show_the_guest_the_same_cpus(tmp_path: Path) -> None:
    plan = plan_of(CASES["m4000-pinned"], tmp_path)
    assert told(plan, "-smp") == ["4,sockets=1,cores=2,threads=2"]
    topology = xml_of(plan).find("cpu/topology")
    assert topology is not None
    assert {key: topology.get(key) for key in ("sockets", "cores", "threads")} == {
        "sockets": "1",
        "cores": "2",
        "threads": "2",
    }
    assert told(plan, "-cpu") == ["host,topoext=on"]
    feature = xml_of(plan).find("cpu/feature")
    assert feature is not None and feature.attrib == {"policy": "require", "name": "topoext"}


@pytest.mark.parametrize(
    ("vendor", "threads", "topoext"),
    [("AuthenticAMD", 2, True), ("GenuineIntel", 2, False), ("AuthenticAMD", 1, False)],
)
def test_amd_guests_alone_are_told_of_threads_by_a_feature(
    vendor: str, threads: int, topoext: bool
) -> None:
    cpus = tuple(
        Cpu(n, siblings=tuple(range(n - n % threads, n - n % threads + threads))) for n in range(8)
    )
    machine = host(function("01:00.0", M4000, 1), platform=Platform(cpus=cpus), cpu_vendor=vendor)
    topology = make_plan(machine, spec("01:00.0", cpus=2)).domain.topology
    assert (topology.threads, topology.topoext) == (threads, topoext)


def test_memory_is_bound_to_its_nodes_and_filled_by_threads_there(tmp_path: Path) -> None:
    context, memory, _ = options(plan_of(CASES["m4000-pinned"], tmp_path), "-object")
    assert (context["qom-type"], context["node-affinity"]) == ("thread-context", [1])
    assert memory["prealloc-context"] == context["id"]
    assert (memory["host-nodes"], memory["policy"]) == ([1], "bind")
    (plain,) = options(plan_of(CASES["m4000-node-without-hugepages"], tmp_path / "2"), "-object")
    assert (plain["qom-type"], plain["host-nodes"]) == ("memory-backend-ram", [1])


def test_without_a_place_nothing_of_it_is_printed(tmp_path: Path) -> None:
    root = xml_of(plan_of(CASES["m4000-bios"], tmp_path))
    assert [root.find(name) for name in ("cputune", "numatune", "iothreads")] == [None] * 3


@given(st.sets(st.integers(0, 40)))
@settings(max_examples=few(20))
def test_a_list_of_cpus_is_read_as_it_was_meant(numbers: set[int]) -> None:
    text = cpu_list(numbers)
    read = [part.split("-") for part in text.split(",") if part]
    assert [n for a, *b in read for n in range(int(a), int((b or [a])[0]) + 1)] == sorted(numbers)
    assert all(len(part) == 1 or int(part[0]) < int(part[1]) for part in read)


_STAND_IN = """#!/usr/bin/python3
import os, threading, time
def vcpu(number):
    with open(f"/proc/self/task/{threading.get_native_id()}/comm", "w") as comm:
        comm.write(f"CPU {number}/KVM")
    for _ in range(200):
        if os.sched_getaffinity(0) != first:
            break
        time.sleep(0.05)
    moved[number] = sorted(os.sched_getaffinity(0))
    all_moved.wait()
    time.sleep(0.5)  # taskset asks once more what it has set
first, moved, all_moved = os.sched_getaffinity(0), {}, threading.Barrier(2)
threads = [threading.Thread(target=vcpu, args=[n]) for n in range(2)]
for thread in threads:
    thread.start()
    time.sleep(0.2)  # QEMU makes one after the other, behind its memory
for thread in threads:
    thread.join()
print(sorted(first), moved[0], moved[1], sorted(os.sched_getaffinity(0)))
"""


def test_the_script_pins_each_vcpu_and_leaves_the_rest_where_it_is(tmp_path: Path) -> None:
    """Real threads of a stand-in for QEMU, named as QEMU names them."""
    here = sorted(os.sched_getaffinity(0))
    one, all_of_them = here[0], tuple(here)
    placement = Placement(CpuTopology(1, 2, 1), vcpus=((one,), (one,)), emulator=all_of_them)
    plan = plan_of(CASES["m4000-bios"], tmp_path)
    domain = replace(plan.domain, host_devices=(), cpus=2, placement=placement)
    script = tmp_path / "run.sh"
    script.write_text(render("qemu", replace(plan, domain=domain))[0].text)
    program = tmp_path / "bin" / "qemu-system-x86_64"
    program.parent.mkdir()
    program.write_text(_STAND_IN)
    program.chmod(0o755)
    done = subprocess.run(
        ["bash", script],
        check=True,
        capture_output=True,
        text=True,
        env={"PATH": f"{program.parent}:/usr/bin:/bin"},
    )
    assert done.stderr == ""
    assert done.stdout == f"{here} {[one]} {[one]} {here}\n"


@pytest.mark.parametrize("boot", ["bios", "uefi", "direct"])
def test_large_bars_get_their_window(boot: str, tmp_path: Path) -> None:
    plan = plan_of(CASES[f"k80-bars-{boot}"], tmp_path)
    root = xml_of(plan)
    hole = root.find("devices/controller[@model='pcie-root']/pcihole64")
    assert hole is not None and (hole.text, hole.get("unit")) == (str(128 << 20), "KiB")
    assert told(plan, "-global") == [f"q35-pcihost.pci-hole64-size={128 << 20}K"]
    named = "name=opt/ovmf/X-PciMmio64Mb,string=131072"
    in_xml = [arg.get("value") for arg in root.iter(f"{{{QEMU_NAMESPACE}}}arg")]
    assert in_xml == (["-fw_cfg", named] if boot == "uefi" else [])
    assert told(plan, "-fw_cfg") == in_xml[1:]


QEMU_NAMESPACE = "http://libvirt.org/schemas/domain/qemu/1.0"


def test_a_window_that_ovmf_opens_by_itself_taints_no_domain(tmp_path: Path) -> None:
    plan = plan_of(CASES["k80-bars-uefi"], tmp_path)
    plan = replace(plan, domain=replace(plan.domain, mmio_window=32 << 30))
    assert QEMU_NAMESPACE not in render("libvirt", plan)[0].text
    assert told(plan, "-global") and not told(plan, "-fw_cfg")


# QEMU's smallest machine.


@pytest.mark.parametrize("name", ["m4000-bios", "m4000-uefi"])
def test_a_microvm_without_a_kernel_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        render("microvm", plan_of(CASES[name], tmp_path))
    assert "has no firmware that boots a disk" in caught.value.message
    assert "--kernel and --initrd" in caught.value.hint


@pytest.mark.parametrize("name", [name for name, c in CASES.items() if "microvm" in c.outputs])
def test_a_microvm_has_the_devices_of_the_other_machine(name: str, tmp_path: Path) -> None:
    domain = plan_of(CASES[name], tmp_path).domain
    small, usual = (qemu_arguments(domain, machine) for machine in (MICROVM, Q35))
    differs = ("-machine", "-global")
    assert [row for row in small if row[0] not in differs] == [
        row for row in usual if row[0] not in differs
    ]
    assert not [row for row in small if row[0] == "-global"]


def test_the_chain_of_images_ends_with_the_one_that_was_examined(tmp_path: Path) -> None:
    plan = plan_of(CASES["m4000-bios"], tmp_path)
    backing = BackingImage(_IMAGE, "qcow2", 2 << 30)
    plan = replace(plan, domain=replace(plan.domain, backing=backing))
    path = tmp_path / "domain.xml"
    path.write_text(render("libvirt", plan)[0].text)
    accepts("virt-xml-validate", path, "domain")
    store = xml_of(plan).find("devices/disk/backingStore")
    assert store is not None and store.attrib == {"type": "file"}
    end = store.find("backingStore")
    assert end is not None and not end.attrib and not list(end)
    label = store.find("source/seclabel")
    assert label is not None and label.attrib == {"model": "dac", "relabel": "no"}


def test_a_domain_above_ffff_is_written_whole() -> None:
    machine = host(function("10000:01:00.0", M4000, 1))
    plan = make_plan(machine, spec("10000:01:00.0"))
    address = xml_of(plan).find("devices/hostdev/source/address")
    assert address is not None and address.get("domain") == "0x10000"
    (card,) = [d for d in options(plan, "-device") if d["driver"] == "vfio-pci"]
    assert card["host"] == "10000:01:00.0"


def test_the_script_will_not_start_on_a_card_that_is_not_bound_to_vfio(tmp_path: Path) -> None:
    # No machine has a PCI function at this address.
    machine = host(function("fffffffe:fe:1e.0", M4000, 1))
    plan = make_plan(machine, spec("fffffffe:fe:1e.0"))
    script = tmp_path / "run.sh"
    script.write_text(render("qemu", plan, TEST_KEYS)[0].text)
    done = subprocess.run(["bash", script], check=False, capture_output=True, text=True)
    assert done.returncode == 4
    assert "fffffffe:fe:1e.0 is bound to no driver, not to vfio-pci" in done.stderr
    assert "driverctl --nosave set-override fffffffe:fe:1e.0 vfio-pci" in done.stderr


# Values that mean harm: whatever the spec lets through comes back unchanged from XML, YAML and
# shell. The spec refuses control characters, so no value has a newline.

_LETTERS = list("<>&'\"`$,;\\{}%#:*!?|~-= é€漢")
_WORDS = ["$(id)", "${SSH_PORT}", "$@", "{{ x }}", "{% x %}", "]]>", "<!--", "&lt;", " # ", ": "]
_BAD = st.sampled_from([*_LETTERS, *_WORDS, "hostfwd=tcp:127.0.0.1:${SSH_PORT}-:22"])
_PRINTABLE = st.text(st.characters().filter(str.isprintable), min_size=1, max_size=6)
hostile = st.lists(_BAD | _PRINTABLE, min_size=1, max_size=5).map("".join)
paths = hostile.map("/{}".format)
names = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,8}[a-z0-9])?", fullmatch=True)
MACHINE = host(function("01:00.0", M4000, 6))


@given(
    name=names,
    image=paths,
    kernel=paths,
    initrd=paths,
    network=hostile.map(lambda text: text[:100]),
    images=hostile,
    guest=st.sampled_from(sorted(GUESTS)),
)
@settings(max_examples=few(10))
def test_xml_gives_back_every_value(
    name: str, image: str, kernel: str, initrd: str, network: str, images: str, guest: str
) -> None:
    wanted = spec(
        "01:00.0",
        name=name,
        guest=guest,
        image=image,
        boot={"kernel": kernel, "initrd": initrd},
        network={"name": network},
    )
    plan = make_plan(MACHINE, wanted, image_dir=f"/srv/{images}")
    root = xml_of(plan)
    assert root.findtext("name") == name
    assert root.findtext("os/kernel") == kernel
    assert root.findtext("os/initrd") == initrd
    assert root.findtext("os/cmdline") == plan.domain.boot.cmdline
    sources = [source.get("file") for source in root.findall("devices/disk/source")]
    assert sources == [plan.domain.disk, plan.domain.seed]
    source = root.find("devices/interface/source")
    assert source is not None and source.get("network") == network


@given(
    name=names,
    keys=st.lists(hostile.map(public_key), max_size=3),
    private=st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20),
    driver=st.sampled_from(["470", "none"]),
    guest=st.sampled_from(sorted(GUESTS)),
    image=paths,
)
@settings(max_examples=few(10))
def test_yaml_gives_back_every_value(
    name: str, keys: list[str], private: str, driver: str, guest: str, image: str
) -> None:
    wanted = spec(
        "01:00.0",
        name=name,
        guest=guest,
        driver=driver,
        image=image,
        ssh={"authorized_keys": keys},
    )
    plan = make_plan(MACHINE, wanted)
    seed_keys = replace(TEST_KEYS, host_private=private + "\n", authorized=plan.authorized_keys)
    files = {file.path: file.text for file in render("cloud-init", plan, seed_keys)}
    data = yaml.load(files["user-data"], yaml.CSafeLoader)
    assert data["hostname"] == name
    assert data["ssh_keys"]["ed25519_private"] == private + "\n"
    assert (data["users"][0]["ssh_authorized_keys"] or []) == keys
    assert yaml.load(files["meta-data"], yaml.CSafeLoader)["local-hostname"] == name
    assert ("write_files" in data) == (driver == "470")


_SCRIPT_ENVIRONMENT = "SSH_PORT=2222\nVARS=/tmp/vars.fd\n"
_STUB = 'qemu-system-x86_64() { printf "%s\\0" "$@"; }\n'


@given(name=names, image=paths, kernel=paths, initrd=paths, images=hostile, direct=st.booleans())
@settings(max_examples=few(10))
def test_the_shell_gives_qemu_every_value(
    name: str, image: str, kernel: str, initrd: str, images: str, direct: bool
) -> None:
    boot = {"kernel": kernel, "initrd": initrd} if direct else {"mode": "uefi"}
    wanted = spec("01:00.0", name=name, image=image, boot=boot)
    plan = make_plan(MACHINE, wanted, image_dir=f"/srv/{images}")
    text = render("qemu", plan, TEST_KEYS)[0].text
    arguments = [word for row in qemu_arguments(plan.domain) for word in row]
    begin = text.index("qemu-system-x86_64 \\\n")

    words = shlex.split(text[begin:].replace(" \\\n", " "))
    assert words == ["qemu-system-x86_64", *arguments, "$@"]

    ours = {
        "user,id=hostnet0,hostfwd=tcp:127.0.0.1:${SSH_PORT}-:22": (
            "user,id=hostnet0,hostfwd=tcp:127.0.0.1:2222-:22"
        ),
        "if=pflash,format=raw,file=${VARS}": "if=pflash,format=raw,file=/tmp/vars.fd",
    }
    done = subprocess.run(
        ["bash", "-c", f"{_SCRIPT_ENVIRONMENT}{_STUB}{text[begin:]}"],
        check=True,
        capture_output=True,
    )
    received = done.stdout.decode().split("\0")[:-1]
    assert received == [ours.get(word, word) for word in arguments]

    disk, seed = (blockdev["file"]["filename"] for blockdev in options(plan, "-blockdev"))
    assert (disk, seed) == (plan.domain.disk, plan.domain.seed)
    # What comes before the command is ours but for comments: nothing of a value is run.
    before = text[:begin]
    assert all(
        line.startswith("#") for line in before.splitlines() if image in line and len(image) > 2
    )
