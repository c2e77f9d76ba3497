"""`stop` and `start`: what a VM took goes and comes with it, and the journal knows."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.machines import M4000
from tests.unit.values import function, host
from tests.unit.whole_vm import (
    GPU,
    NOBODY,
    UUID,
    XML,
    forget,
    nothing_said,
    started,
    state,
    step,
    steps,
    the_test_driver,
    this_host,
    whole_vm,
)
from vfio_kit.analysis.leftovers import leftovers_of
from vfio_kit.apply import power
from vfio_kit.apply.boot import boot_id
from vfio_kit.apply.hypervisor import Hypervisor
from vfio_kit.apply.journal import VmFolder
from vfio_kit.cli import _cli
from vfio_kit.errors import HostError, HypervisorError, Refused, UsageError
from vfio_kit.model import Host
from vfio_kit.model.domain import DomainState
from vfio_kit.model.vm import StepKind

KEPT = [StepKind.STATE, StepKind.KEYS, StepKind.DISK, StepKind.SEED, StepKind.DEFINE, StepKind.WAIT]


@pytest.fixture
def libvirt() -> Iterator[Hypervisor]:
    with the_test_driver() as hypervisor:
        yield hypervisor


@pytest.fixture
def vm(tmp_path: Path, libvirt: Hypervisor) -> VmFolder:
    return whole_vm(tmp_path, libvirt)


def start(
    vm: VmFolder, libvirt: Hypervisor, read_host: Callable[[], Host] = this_host
) -> list[str]:
    said: list[str] = []
    power.start_again(vm, libvirt, read_host, lambda what, _seconds: said.append(what))
    return said


def off(vm: VmFolder, libvirt: Hypervisor) -> VmFolder:
    """The VM, stopped."""
    power.put_back(vm, libvirt, nothing_said)
    return vm


# stop


def test_a_vm_that_is_stopped_keeps_all_but_its_devices_and_its_memory(
    vm: VmFolder, libvirt: Hypervisor
) -> None:
    step(vm, StepKind.HUGEPAGES, size_kib=2048, boot=boot_id(), nodes={})
    assert power.is_up(power.look(vm, libvirt))
    assert power.shut_down(libvirt, "vm", 10)
    assert not power.is_off(power.look(vm, libvirt))
    power.put_back(vm, libvirt, nothing_said)
    assert (state(libvirt), steps(vm)) == ("shut off", KEPT)
    assert power.is_off(power.look(vm, libvirt))
    assert vm.domain_xml.exists() and Path(vm.record().disk).exists()


def test_stopping_may_be_repeated(vm: VmFolder, libvirt: Hypervisor) -> None:
    off(vm, libvirt)
    power.put_back(vm, libvirt, nothing_said)
    assert steps(vm) == KEPT


def test_a_guest_that_does_not_shut_down_is_told_of(vm: VmFolder) -> None:
    class Deaf:
        """A hypervisor whose guest takes no notice of its power button."""

        pressed = 0

        def domain(self, name: str) -> DomainState:
            return DomainState(name, UUID, "running")

        def shutdown(self, _name: str) -> None:
            self.pressed += 1

    deaf: Any = Deaf()
    assert not power.shut_down(deaf, "vm", 0.3)
    assert deaf.pressed == 1


def test_of_a_device_that_does_not_come_back_the_step_stays(
    vm: VmFolder, libvirt: Hypervisor
) -> None:
    data = {"domain": "vm", "uuid": UUID, "boot": boot_id()}
    vm.begin(StepKind.START, {**data, "drivers": {NOBODY: "nouveau"}, "ids": {NOBODY: None}})
    with pytest.raises(HostError, match="did not come back"):
        power.put_back(vm, libvirt, nothing_said)
    assert StepKind.START in steps(vm)


# start


def test_a_stopped_vm_is_started_and_written_down(vm: VmFolder, libvirt: Hypervisor) -> None:
    off(vm, libvirt)
    assert start(vm, libvirt) == ["started vm"]
    assert (state(libvirt), steps(vm)) == ("running", [*KEPT, StepKind.START])
    assert power.is_up(power.look(vm, libvirt))


def test_after_a_reboot_what_was_taken_on_the_other_boot_is_closed_first(
    vm: VmFolder, libvirt: Hypervisor
) -> None:
    libvirt.destroy("vm")
    started(vm, boot="another")
    step(vm, StepKind.HUGEPAGES, size_kib=2048, boot="another", nodes={"0": {}})
    said = start(vm, libvirt)
    assert said == [
        "VM stopped, devices back on their drivers",
        "hugepages given back",
        "started vm",
    ]
    (entry,) = [entry for entry in vm.outstanding() if entry.step is StepKind.START]
    assert (entry.data["boot"], entry.done) == (boot_id(), True)


def test_a_domain_that_libvirt_lost_is_defined_again(vm: VmFolder, libvirt: Hypervisor) -> None:
    off(vm, libvirt)
    forget(libvirt)
    assert start(vm, libvirt) == ["defined the libvirt domain vm again", "started vm"]
    found = libvirt.domain("vm")
    assert found is not None and found.uuid == UUID


def test_without_a_copy_of_the_domain_it_says_so(vm: VmFolder, libvirt: Hypervisor) -> None:
    off(vm, libvirt)
    forget(libvirt)
    vm.domain_xml.unlink()
    with pytest.raises(HostError, match="libvirt does not know 'vm' any more"):
        start(vm, libvirt)


@pytest.mark.parametrize("data", [b"", b"<domain", b"\xff"])
def test_a_damaged_copy_of_the_domain_stops_no_start(
    vm: VmFolder, libvirt: Hypervisor, data: bytes
) -> None:
    off(vm, libvirt)
    vm.domain_xml.write_bytes(data)
    assert start(vm, libvirt) == ["started vm"]


def test_another_domain_of_that_name_is_left_alone(vm: VmFolder, libvirt: Hypervisor) -> None:
    off(vm, libvirt)
    forget(libvirt)
    libvirt.define(XML.replace(UUID, "11111111-1111-4111-8111-111111111111"))
    with pytest.raises(HypervisorError, match="not the one that vfio-kit made"):
        start(vm, libvirt)
    assert (state(libvirt), steps(vm)) == ("shut off", KEPT)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (host(), "there is no 0000:fe:1e.0"),
        (host(function(NOBODY, M4000, 6)), "is another device now"),
        (
            host(function("0000:fd:1e.0", ("10de", "102d", "030200"), 6)),
            "is at 0000:fd:1e.0 now",
        ),
        (host(GPU, function("0000:fe:1f.0", M4000, 6)), "group 6 holds 0000:fe:1f.0"),
    ],
    ids=["gone", "another", "moved", "company"],
)
def test_other_devices_are_refused_and_nothing_is_taken(
    vm: VmFolder, libvirt: Hypervisor, changed: Host, words: str
) -> None:
    off(vm, libvirt)
    with pytest.raises(Refused) as caught:
        start(vm, libvirt, lambda: changed)
    assert words in caught.value.message
    assert (state(libvirt), steps(vm)) == ("shut off", KEPT)


def test_groups_may_be_numbered_anew_by_a_reboot(vm: VmFolder, libvirt: Hypervisor) -> None:
    off(vm, libvirt)
    start(vm, libvirt, lambda: host(function(NOBODY, ("10de", "102d", "030200"), 17)))
    assert state(libvirt) == "running"


@pytest.mark.parametrize("which", ["disk", "seed"])
def test_a_file_that_is_gone_is_named(vm: VmFolder, libvirt: Hypervisor, which: str) -> None:
    off(vm, libvirt)
    gone = Path(getattr(vm.record(), which))
    gone.unlink()
    with pytest.raises(HostError, match=f"are gone: {gone}"):
        start(vm, libvirt)
    assert steps(vm) == KEPT


def test_a_card_of_another_vm_of_ours_is_refused(
    vm: VmFolder, libvirt: Hypervisor, tmp_path: Path
) -> None:
    off(vm, libvirt)
    other = VmFolder(tmp_path / "state" / "other")
    other.create(replace(vm.record(), name="other"))
    other.begin(StepKind.STATE, {})
    with pytest.raises(Refused, match="belongs to the VM 'other'"):
        start(vm, libvirt)


def test_hugepages_that_cannot_be_had_leave_nothing_begun(
    tmp_path: Path, libvirt: Hypervisor
) -> None:
    vm = off(whole_vm(tmp_path, libvirt, page_kib=3, memory_mib=1), libvirt)
    with pytest.raises(HostError, match="no hugepages of 3 KiB"):
        start(vm, libvirt)
    assert (state(libvirt), steps(vm)) == ("shut off", KEPT)


def test_a_start_that_failed_is_put_back(vm: VmFolder, libvirt: Hypervisor) -> None:
    off(vm, libvirt)
    libvirt.start("vm")  # somebody was faster: libvirt refuses
    with pytest.raises(HypervisorError, match="could not start vm"):
        start(vm, libvirt)
    assert steps(vm) == [*KEPT, StepKind.START]
    power.put_back(vm, libvirt, nothing_said)
    assert (state(libvirt), steps(vm)) == ("shut off", KEPT)


# Whom it is for


def test_a_vm_that_is_half_up_or_down_is_sent_to_up_and_down(
    vm: VmFolder, libvirt: Hypervisor
) -> None:
    power.require_kept(power.look(vm, libvirt))
    vm.undone(StepKind.WAIT)
    vm.begin(StepKind.WAIT, {})
    power.require_kept(power.look(vm, libvirt))
    vm.save(replace(vm.record(), address=None))
    with pytest.raises(UsageError, match="has not ended") as caught:
        power.require_kept(power.look(vm, libvirt))
    assert "vfio-kit up vm" in caught.value.hint
    vm.begin_down()
    with pytest.raises(UsageError, match="is half down"):
        power.require_kept(power.look(vm, libvirt))
    for kind in steps(vm):
        vm.undone(kind)
    with pytest.raises(UsageError, match="is down"):
        power.require_kept(power.look(vm, libvirt))


def test_what_an_older_version_made_is_not_taken_for_one_that_can_be_started_again(
    vm: VmFolder, libvirt: Hypervisor
) -> None:
    vm.save(replace(vm.record(), devices=(), plan=""))
    with pytest.raises(UsageError, match="older vfio-kit") as caught:
        power.require_kept(power.look(vm, libvirt))
    assert caught.value.hint.startswith("vfio-kit down vm takes it away")
    libvirt.destroy("vm")
    (ended,) = leftovers_of(power.look(vm, libvirt))
    assert (ended.kind.word, ended.remedy) == ("ended", "vfio-kit repair vm")


@pytest.mark.parametrize("command", ["start", "stop", "repair"])
def test_a_name_that_no_vm_has_is_a_mistake(command: str) -> None:
    result = CliRunner().invoke(_cli, [command, "../etc"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "is no name for a VM" in result.stderr
