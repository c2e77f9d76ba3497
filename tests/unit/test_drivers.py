"""Drivers go back to what they were, on a bus of plain files; a thread acts as the kernel."""

import os
import re
import threading
import time
from pathlib import Path

import pytest

from tests.machines import K80, Function, Machine, write_machine
from vfio_kit.apply.command import write_elsewhere
from vfio_kit.apply.drivers import driver_of, ids_of, restore
from vfio_kit.errors import HostError

GPU = "0000:01:00.0"


def bus(root: Path, driver: str | None) -> Path:
    return write_machine(root, Machine((Function(GPU, K80, driver=driver),))) / "sys/bus/pci"


def bind(bus: Path, driver: str) -> None:
    """What the kernel does when a driver takes a function."""
    (bus / "drivers" / driver).mkdir(exist_ok=True, parents=True)
    link = bus / "devices" / GPU / "driver"
    link.unlink(missing_ok=True)
    link.symlink_to(bus / "drivers" / driver)


@pytest.mark.parametrize("driver", ["vfio-pci", "nouveau", None])
def test_the_driver_of_a_function(tmp_path: Path, driver: str | None) -> None:
    assert driver_of(GPU, bus(tmp_path, driver)) == driver


def test_a_function_that_is_not_there_has_no_driver(tmp_path: Path) -> None:
    tree = bus(tmp_path, "nouveau")
    assert driver_of("0000:09:00.0", tree) is None
    assert restore("0000:09:00.0", "nouveau", tree) is None


@pytest.mark.parametrize("driver", ["nouveau", None])
def test_a_driver_that_is_right_is_left_alone(tmp_path: Path, driver: str | None) -> None:
    tree = bus(tmp_path, driver)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert restore(GPU, driver, tree) == driver
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == files


def test_another_driver_is_unbound_and_the_right_one_asked_for_by_address(tmp_path: Path) -> None:
    tree = bus(tmp_path, "vfio-pci")
    assert restore(GPU, "nouveau", tree, patience=0.05) == "vfio-pci"
    assert (tree / "drivers/vfio-pci/unbind").read_text() == GPU
    assert (tree / "drivers_probe").read_text() == GPU
    # The override is taken away again, or the next probe would follow it.
    assert (tree / "devices" / GPU / "driver_override").read_text() == "\n"


def test_a_function_that_had_no_driver_is_unbound(tmp_path: Path) -> None:
    tree = bus(tmp_path, "nouveau")
    assert restore(GPU, None, tree, patience=0.05) == "nouveau"
    assert (tree / "drivers/nouveau/unbind").read_text() == GPU
    assert not (tree / "drivers_probe").exists()


def test_a_kernel_that_takes_its_time_is_waited_for(tmp_path: Path) -> None:
    tree = bus(tmp_path, "vfio-pci")

    def kernel() -> None:
        while not (tree / "drivers_probe").exists():
            time.sleep(0.01)
        bind(tree, "nouveau")

    thread = threading.Thread(target=kernel, daemon=True)
    thread.start()
    assert restore(GPU, "nouveau", tree) == "nouveau"
    thread.join(10)


def test_a_function_without_a_driver_gets_the_one_it_had(tmp_path: Path) -> None:
    tree = bus(tmp_path, None)
    assert restore(GPU, "nouveau", tree, patience=0.05) is None
    assert (tree / "drivers_probe").read_text() == GPU


def test_the_card_at_an_address_is_known_by_its_ids(tmp_path: Path) -> None:
    tree = bus(tmp_path, None)
    assert ids_of(GPU, tree) == "10de:102d"
    assert ids_of("0000:09:00.0", tree) is None


def test_an_override_is_taken_away_again_where_the_probe_fails(tmp_path: Path) -> None:
    tree = bus(tmp_path, "vfio-pci")
    (tree / "drivers_probe").symlink_to("/dev/full")
    with pytest.raises(HostError, match="drivers_probe"):
        restore(GPU, "nouveau", tree)
    assert (tree / "devices" / GPU / "driver_override").read_text() == "\n"


def test_a_kernel_that_refuses_is_named(tmp_path: Path) -> None:
    tree = bus(tmp_path, "vfio-pci")
    (tree / "drivers/vfio-pci/unbind").symlink_to("/dev/full")
    with pytest.raises(HostError) as caught:
        restore(GPU, "nouveau", tree)
    assert f"cannot write {GPU!r} to {tree / 'devices' / GPU}" in caught.value.message
    assert "No space left on device" in caught.value.message


def test_a_driver_that_does_not_let_go_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    """A pipe that nobody reads holds its writer, as the kernel does."""
    os.mkfifo(tmp_path / "unbind")
    begin = time.monotonic()
    wrong = write_elsewhere(tmp_path / "unbind", GPU, 0.5)
    assert time.monotonic() - begin < 5
    assert wrong is not None
    assert re.fullmatch(r"it has not ended within 0 s \(process \d+ hangs in the kernel\)", wrong)
    assert (tmp_path / "unbind").read_text() == GPU  # it goes on by itself when it can
