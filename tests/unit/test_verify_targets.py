"""Whom `verify` checks: what the operator typed, each machine once."""

import io
from dataclasses import replace
from pathlib import Path

import pytest

from vfio_kit.apply.journal import VmFolder, VmRecord
from vfio_kit.cli.verify_targets import Guest, SshWords, guests_of, hosts_in
from vfio_kit.errors import HostError, UsageError
from vfio_kit.model.health import Planned
from vfio_kit.model.vm import StepKind

RECORD = VmRecord(
    name="vm",
    uuid="86a4cc5a-31b4-55f7-b0f4-8fd81f88ec9f",
    guest="ubuntu-22.04",
    user="ubuntu",
    gpus=("0000:01:00.0",),
    network="default",
    mac="52:54:00:52:71:3a",
    console_log="/nowhere/vm.console",
    address="192.0.2.9",
    functions=("10de:13f1", "10de:0fbb"),
    driver="470",
    cuda="11.4",
)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory in which `vm` is up."""
    folder = VmFolder(tmp_path / "state" / "vm")
    folder.create(RECORD)
    folder.begin(StepKind.START, {})
    return folder.path.parent


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "config"
    file.write_text(
        "Host gpu\n  HostName 192.0.2.7\n  User ops\n  Port 2222\nHost far\n  ProxyJump gate\n"
    )
    return file


def guests(
    *hosts: str, names: tuple[str, ...] = (), local: bool = False, state: Path, config: Path
) -> tuple[Guest, ...]:
    return guests_of(names, hosts, local, SshWords(config=config), state)


def test_a_vm_is_logged_in_to_as_it_was_made(state: Path, config: Path) -> None:
    (guest,) = guests(names=("vm",), state=state, config=config)
    assert guest.target
    assert (guest.label, str(guest.target)) == ("vm", "ubuntu@192.0.2.9")
    assert (guest.target.identity, guest.target.known_hosts, guest.target.alias) == (
        state / "vm/id_ed25519",
        state / "vm/known_hosts",
        "vm",
    )
    assert guest.planned == Planned(("10de:13f1", "10de:0fbb"), 1, "470")


def test_a_vm_that_is_down_again_is_not_up(state: Path, config: Path) -> None:
    VmFolder(state / "vm").undone(StepKind.START)
    with pytest.raises(UsageError, match="'vm' is not up"):
        guests(names=("vm",), state=state, config=config)


def test_a_vm_that_has_no_address_yet_is_not_up(state: Path, config: Path) -> None:
    VmFolder(state / "vm").save(replace(RECORD, address=None))
    with pytest.raises(UsageError, match="'vm' is not up"):
        guests(names=("vm",), state=state, config=config)


def test_a_host_is_told_as_it_was_typed_and_means_what_ssh_config_says(
    state: Path, config: Path
) -> None:
    found = guests("gpu", "root@192.0.2.8:22", "[2001:db8::1]:2022", state=state, config=config)
    assert [guest.label for guest in found] == ["gpu", "root@192.0.2.8:22", "[2001:db8::1]:2022"]
    assert str(found[0].target) == "ops@192.0.2.7:2222"
    assert all(guest.planned == Planned() for guest in found)


def test_options_win_over_ssh_config(state: Path, config: Path) -> None:
    words = SshWords(user="root", port=22, config=config, identity=Path("/k"))
    (guest,) = guests_of((), ("gpu",), False, words, state)
    assert guest.target
    assert (str(guest.target), guest.target.identity) == ("root@192.0.2.7", Path("/k"))


def test_names_come_first_then_hosts_then_this_machine(state: Path, config: Path) -> None:
    found = guests("gpu", names=("vm",), local=True, state=state, config=config)
    assert [guest.label for guest in found[:2]] == ["vm", "gpu"]
    assert found[2].target is None


@pytest.mark.parametrize(
    "hosts",
    [
        ("gpu", "gpu"),
        ("gpu", "ops@192.0.2.7:2222"),
        ("gpu", "root@192.0.2.7:2222"),
        ("GPU.example", "gpu.example"),
    ],
)
def test_the_same_guest_twice_is_told_once(
    state: Path, config: Path, hosts: tuple[str, ...]
) -> None:
    found = guests(*hosts, state=state, config=config)
    assert [guest.label for guest in found] == [hosts[0]]


@pytest.mark.parametrize("hosts", [("192.0.2.7", "192.0.2.7:2222"), ("gate", "far")])
def test_another_port_or_another_network_is_another_guest(
    state: Path, config: Path, hosts: tuple[str, ...]
) -> None:
    assert len(guests(*hosts, state=state, config=config)) == 2


def test_a_vm_by_its_address_is_the_same(state: Path, config: Path) -> None:
    (guest,) = guests("192.0.2.9", names=("vm",), state=state, config=config)
    assert guest.label == "vm"


def test_two_machines_of_one_label_are_told_apart(state: Path, config: Path) -> None:
    config.write_text("Host vm\n  HostName 192.0.2.10\n  User ops\n")
    found = guests("vm", names=("vm",), state=state, config=config)
    assert [guest.label for guest in found] == ["vm", "vm (ops@192.0.2.10)"]


def test_a_host_that_cannot_be_meant(state: Path, config: Path) -> None:
    with pytest.raises(UsageError, match="'-oProxyCommand=x' "):
        guests("-oProxyCommand=x", state=state, config=config)


def test_a_file_of_hosts(tmp_path: Path) -> None:
    file = tmp_path / "hosts"
    file.write_text("# the rack\n\n  gpu-01\nroot@gpu-02:2222   # the K80\n#gpu-03\n")
    assert hosts_in(file) == ("gpu-01", "root@gpu-02:2222")


def test_hosts_from_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("gpu-01\ngpu-02\n"))
    assert hosts_in(Path("-")) == ("gpu-01", "gpu-02")


def test_a_file_of_hosts_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"cannot read the hosts in .*: No such file"):
        hosts_in(tmp_path / "none")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(HostError, match=r"cannot read the hosts in .*binary"):
        hosts_in(tmp_path / "binary")
