"""The lab's own parts, without booting anything: cards, recipes, faults, and what is repeated."""

import shutil
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import images
from .card_server import Command, Device, serve
from .cards import CONFIG_SIZE, M4000, M4000_AUDIO, MODELS, ConfigSpace, Function
from .faults import Evidence, LabFault, signs_of_fault
from .machine import LabError, Say
from .session import Attempt, Lab, Repeater
from .topologies import TOPOLOGIES

pytest_plugins = ["pytester"]

functions = pytest.mark.parametrize("function", MODELS.values(), ids=MODELS.keys())


def capabilities(config: ConfigSpace) -> Iterator[tuple[int, int]]:
    """Walks the list as a kernel does: (id, offset) of each capability."""
    offset = config.read(0x34, 1)
    while offset:
        yield config.read(offset, 1), offset
        offset = config.read(offset + 1, 1)


class TestConfigSpace:
    @functions
    def test_ids_and_class(self, function: Function) -> None:
        config = ConfigSpace(function, multifunction=False)
        assert config.read(0x00, 4) == function.device << 16 | 0x10DE
        assert config.read(0x08, 4) == function.class_code << 8 | 0xA1
        assert (config.read(0x2C, 2), config.read(0x2E, 2)) == function.subsystem

    def test_ids_are_those_of_the_real_cards(self) -> None:
        ids = {name: (f.device, f.class_code) for name, f in MODELS.items()}
        assert ids == {
            "m4000": (0x13F1, 0x030000),
            "m4000-audio": (0x0FBB, 0x040300),
            "k80": (0x102D, 0x030200),
        }

    @functions
    def test_capabilities_end_and_offer_no_function_level_reset(self, function: Function) -> None:
        config = ConfigSpace(function, multifunction=False)
        assert config.read(0x06, 2) & 0x10, "the status register announces the list"
        found = dict(capabilities(config))
        assert list(found) == [0x01, 0x10]
        assert config.read(found[0x01] + 4, 2) & 0x8, "D3hot is no reset"
        assert not config.read(found[0x10] + 4, 4) & 1 << 28, "no FLR"
        assert config.read(found[0x10] + 2, 2) >> 4 & 0xF == function.express_type

    @functions
    def test_bars_tell_their_size_when_all_ones_are_written(self, function: Function) -> None:
        config = ConfigSpace(function, multifunction=False)
        sizes = {}
        for index in range(6):
            config.write(0x10 + 4 * index, 4, 0xFFFFFFFF)
            if value := config.read(0x10 + 4 * index, 4):
                address = value & (0xFFFFFFFC if value & 1 else 0xFFFFFFF0)
                sizes[index] = (1 << 32) - address
        assert sizes == {bar.index: bar.size for bar in function.bars}

    def test_a_bar_keeps_its_address_until_reset(self) -> None:
        config = ConfigSpace(M4000, multifunction=True)
        bar = M4000.bars[0]
        config.write(0x10, 4, 0xFD000000)
        assert config.bar_address(bar) == 0xFD000000
        config.reset()
        assert config.bar_address(bar) == 0

    def test_what_is_read_only_stays(self) -> None:
        config = ConfigSpace(M4000_AUDIO, multifunction=False)
        before = [config.read(i, 1) for i in range(4)]
        config.write(0x00, 4, 0)
        assert [config.read(i, 1) for i in range(4)] == before

    def test_only_function_0_announces_more_functions(self) -> None:
        assert ConfigSpace(M4000, multifunction=True).read(0x0E, 1) == 0x80
        assert ConfigSpace(M4000_AUDIO, multifunction=False).read(0x0E, 1) == 0

    def test_beyond_the_end_all_ones(self) -> None:
        assert ConfigSpace(M4000, multifunction=True).read(CONFIG_SIZE, 4) == 0xFFFFFFFF


class TestCardServer:
    """Messages as QEMU's proxy device sends them."""

    @pytest.fixture
    def qemu(self, tmp_path: Path) -> Iterator[socket.socket]:
        qemu, ours = socket.socketpair()
        device = Device(M4000, multifunction=True, fault=tmp_path / "gpu.fault")
        thread = threading.Thread(target=serve, args=(ours, device))
        thread.start()
        yield qemu
        qemu.close()
        thread.join()
        ours.close()

    def ask(self, qemu: socket.socket, command: Command, body: bytes) -> int:
        qemu.sendall(struct.pack("<iiQ", command, 0, len(body)) + body)
        _, _, size, value = struct.unpack("<iiQQ", qemu.recv(24, socket.MSG_WAITALL))
        assert size == 8
        return int(value)

    def config_read(self, qemu: socket.socket, offset: int, size: int) -> int:
        return self.ask(qemu, Command.PCI_CFGREAD, struct.pack("<IIi", offset, 0, size))

    def test_config_and_bar(self, qemu: socket.socket) -> None:
        assert self.config_read(qemu, 0, 4) == 0x13F110DE
        self.ask(qemu, Command.PCI_CFGWRITE, struct.pack("<IIi", 0x10, 0xFD000000, 4))
        read = struct.pack("<QQI?", 0xFD000000, 0, 4, True)
        assert self.ask(qemu, Command.BAR_READ, read) == 0x124020A1, "PMC_BOOT_0 of a GM204"

    def test_a_card_that_fell_off_the_bus_reads_as_all_ones(
        self, qemu: socket.socket, tmp_path: Path
    ) -> None:
        (tmp_path / "gpu.fault").touch()
        assert self.config_read(qemu, 0, 4) == 0xFFFFFFFF
        (tmp_path / "gpu.fault").unlink()
        assert self.config_read(qemu, 0, 2) == 0x10DE


class TestTopologies:
    @pytest.mark.parametrize("name", TOPOLOGIES)
    def test_every_card_is_expected_to_be_seen(self, name: str) -> None:
        topology = TOPOLOGIES[name]
        assert len(topology.seen) >= len(topology.cards)
        for seen in topology.seen:
            without = topology.iommu is None or "intel_iommu=off" in topology.cmdline
            assert (seen.group is None) == without


class TestRecipeHash:
    @pytest.fixture
    def recipes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        folder = tmp_path / "recipes"
        shutil.copytree(images.RECIPES, folder)
        monkeypatch.setattr(images, "RECIPES", folder)
        return folder

    def test_same_files_same_hash(self, recipes: Path) -> None:
        assert images.recipe_hash(images.GUEST) == images.recipe_hash(images.GUEST)

    @pytest.mark.parametrize("file", ["guest.packages", "guest.late", "guest/etc/fstab"])
    def test_changes_with_a_file(self, recipes: Path, file: str) -> None:
        guest, host = images.recipe_hash(images.GUEST), images.recipe_hash(images.HOST)
        with (recipes / file).open("a") as f:
            f.write("\n")
        assert images.recipe_hash(images.GUEST) != guest
        assert images.recipe_hash(images.HOST) == host, "the other image is not built again"

    def test_changes_with_a_new_file_a_mode_and_a_dependency(self, recipes: Path) -> None:
        hashes = {images.recipe_hash(images.GUEST), images.recipe_hash(images.GUEST, ("key",))}
        (recipes / "guest/etc/motd").touch()
        hashes.add(images.recipe_hash(images.GUEST))
        (recipes / "guest/etc/motd").chmod(0o755)
        hashes.add(images.recipe_hash(images.GUEST))
        assert len(hashes) == 4

    def test_the_guest_with_the_driver_is_the_guest_and_more(self, recipes: Path) -> None:
        def now() -> list[str]:
            return [images.recipe_hash(recipe) for recipe in (images.GUEST, images.DRIVER)]

        assert set(images.GUEST.lines("packages")) < set(images.DRIVER.lines("packages"))
        first = now()
        with (recipes / "driver.packages").open("a") as f:
            f.write("hello\n")
        second = now()
        assert second[0] == first[0] and second[1] != first[1]
        (recipes / "guest/etc/motd").touch()
        assert all(one != other for one, other in zip(now(), second, strict=True))


BOOT = "[    0.000000] Linux version 6.12.48+deb13-amd64\nlab: sshd listens\n"


class TestFaults:
    @pytest.mark.parametrize(
        ("evidence", "sign"),
        [
            (Evidence("", BOOT, 1, True), None),
            (Evidence("warning: TCG doesn't support rdseed\n", BOOT, 1, True), None),
            (Evidence("", BOOT + BOOT, 2, True), None),
            (Evidence("", BOOT, 1, False), "QEMU is not running"),
            (Evidence("", BOOT, 1, True, answers=False), "does not answer"),
            (Evidence("", BOOT, 1, True, greets=False), "greets nobody any more"),
            (Evidence("", BOOT + BOOT, 1, True), "booted 2 times, expected were 1"),
            (
                Evidence("ERROR:tcg.c:1:f: assertion failed: (x)\nBail out!\n", BOOT, 1, False),
                "assertion failed",
            ),
            (Evidence("", BOOT + "[   9.1] Oops: int3: 0000 [#1] SMP\n", 1, True), "Oops: int3"),
            (
                Evidence("", BOOT + "[   9.1] Kernel panic - not syncing: Fatal\n", 1, True),
                "Kernel panic",
            ),
            (
                Evidence("", BOOT + "[ 99.0] watchdog: BUG: soft lockup - CPU#1\n", 1, True),
                "soft lockup",
            ),
        ],
    )
    def test_signs(self, evidence: Evidence, sign: str | None) -> None:
        found = signs_of_fault(evidence)
        assert any(sign in line for line in found) if sign else found == ()

    def test_at_most_three_lines(self) -> None:
        assert len(signs_of_fault(Evidence("Aborted\n" * 9, BOOT, 1, False))) == 3


class FakeEmulator:
    """Remembers what was asked of it.  `faults`: reasons to be found, one a boot."""

    def __init__(self, *faults: str) -> None:
        self.log: list[str] = []
        self.faults = list(faults)
        self.found: str | None = None
        self.up = False

    def start(self, name: str, say: Say) -> None:
        self.log.append(f"start {name}")
        self.up, self.found = True, None

    def stop(self) -> None:
        self.log.append("stop")
        self.up = False

    def running(self) -> bool:
        return self.up

    def signs(self) -> tuple[str, ...]:
        return (self.found,) if self.found else ()

    def break_down(self) -> None:
        """What a test does here that meets a fault, as long as there are faults."""
        if self.faults:
            self.found = self.faults.pop(0)


def lab(emulator: FakeEmulator, folder: Path) -> Lab:
    return Lab(emulator, lambda say: None, lambda line: None, folder / "lock")


class TestLab:
    def test_a_topology_is_booted_once(self, tmp_path: Path) -> None:
        emulator = FakeEmulator()
        one = lab(emulator, tmp_path)
        for name in ("a", "a", "b"):
            one.bring_up(name)
        one.close()
        starts = [line for line in emulator.log if line != "stop"]
        assert starts == ["start a", "start b"]
        assert emulator.log[-1] == "stop"
        assert [what for what, _ in one.times] == ["images", "boot of a", "boot of b"]

    def test_a_fault_is_found_when_the_host_is_asked_for(self, tmp_path: Path) -> None:
        emulator = FakeEmulator("Oops")
        one = lab(emulator, tmp_path)
        one.bring_up("a")
        emulator.break_down()
        with pytest.raises(LabFault, match="Oops"):
            one.bring_up("a")
        one.stop()
        one.bring_up("a")
        assert emulator.log.count("start a") == 2
        one.close()

    def test_nothing_is_stopped_that_was_not_started(self, tmp_path: Path) -> None:
        emulator = FakeEmulator()
        lab(emulator, tmp_path).close()
        assert emulator.log == []

    def test_two_sessions_do_not_collide(self, tmp_path: Path) -> None:
        first, second = lab(FakeEmulator(), tmp_path), lab(FakeEmulator(), tmp_path)
        first.bring_up("a")
        with pytest.raises(LabError, match="another session"):
            second.bring_up("a")
        first.close()
        second.bring_up("a")
        second.close()

    def test_a_host_started_by_hand_is_left_alone(self, tmp_path: Path) -> None:
        emulator = FakeEmulator()
        emulator.up = True
        one = lab(emulator, tmp_path)
        with pytest.raises(LabError, match=r"tests\.lab down"):
            one.bring_up("a")
        one.close()
        assert emulator.log == []


class TestRepeater:
    """Three tests of one group; `fates` says how each run of each test ends."""

    def play(self, **fates: str) -> list[str]:
        log: list[str] = []
        left = {name: list(fate) for name, fate in fates.items()}

        def run(test: str) -> Attempt:
            fate = left[test].pop(0)
            log.append(f"run {test}")
            fault = "Oops" if fate == "L" else None
            return Attempt(fate != ".", fault, lambda: log.append(f"{test} {fate}"))

        def recover(test: str, reason: str) -> None:
            log.append("recover")

        repeater = Repeater(run, recover)
        for index, test in enumerate(fates):
            repeater.perform(test, list(fates)[:index])
        return log

    def test_without_a_fault(self) -> None:
        assert self.play(a=".", b="F") == ["run a", "a .", "run b", "b F"]

    def test_a_fault_repeats_the_group_from_its_first_test(self) -> None:
        assert self.play(a="..", b="L.", c=".") == [
            *("run a", "a ."),
            *("run b", "recover", "run a", "run b", "b ."),
            *("run c", "c ."),
        ]

    def test_a_failure_in_the_repetition_is_shown(self) -> None:
        log = self.play(a=".F", b="L.")
        assert log[-3:] == ["a F", "run b", "b ."]

    def test_a_second_fault_repeats_it_again(self) -> None:
        log = self.play(a="...", b="LL.")
        again = ("recover", "run a", "run b")
        assert log[2:] == ["run b", *again, *again, "b ."]

    def test_one_fault_too_many_fails(self) -> None:
        log = self.play(a="....", b="LLLL", c=".")
        again = ("recover", "run a", "run b")
        assert log[2:] == ["run b", *again * 3, "recover", "b L", "run c", "c ."]

    def test_a_fault_in_an_earlier_test_of_the_repetition(self) -> None:
        log = self.play(a=".L.", b="L.")
        assert log[2:] == ["run b", "recover", "run a", "recover", "run a", "run b", "b ."]

    def test_one_too_many_in_an_earlier_test_fails_both(self) -> None:
        log = self.play(a=".LLL", b="L")
        assert log[2:] == ["run b", "recover", *("run a", "recover") * 3, "a L", "b L"]

    def test_so_often_a_group(self) -> None:
        log = self.play(a="....", b="LLL.", c="L")
        assert log[-3:] == ["run c", "recover", "c L"]


CONFTEST = """
from pathlib import Path
import pytest
from tests.lab.conftest import *
from tests.lab.conftest import use
from tests.lab.test_lab_itself import FakeEmulator

emulator = FakeEmulator(*{faults!r})

def pytest_configure(config):
    config.addinivalue_line("markers", "topology(name): what a test needs")
    use(config, emulator, lambda say: say("built"), Path("lock").resolve())

@pytest.fixture
def fake():
    return emulator
"""
STORY = """
import pytest

@pytest.mark.topology("k80-pair")
def test_other(host):
    assert host.topology.name == "k80-pair"

@pytest.mark.topology("m4000-isolated")
class TestStory:
    @pytest.fixture(scope="class")
    @classmethod
    def story(cls):
        return []

    def test_one(self, host, story):
        story.append(1)

    def test_two(self, host, story, fake):
        assert story == [1]
        fake.break_down()
        story.append(2)
        assert not fake.found

    def test_three(self, host, story):
        assert story == [1, 2]

def test_needs_no_host():
    pass
"""


class TestPytestHooks:
    """A session of pytest with an emulator that breaks down as often as it is told to."""

    def play(self, pytester: pytest.Pytester, *faults: str) -> tuple[dict[str, int], str]:
        pytester.makeconftest(CONFTEST.format(faults=faults))
        pytester.makepyfile(STORY)
        result = pytester.runpytest_inprocess("-v", "-p", "no:hypothesispytest", "-p", "no:cov")
        return result.parseoutcomes(), result.stdout.str()

    def test_sorted_by_topology(self, pytester: pytest.Pytester) -> None:
        outcomes, text = self.play(pytester)
        assert outcomes == {"passed": 5}
        places = [text.index(f"::{n}") for n in ("test_needs_no_host", "TestStory", "test_other")]
        assert places == sorted(places)
        assert text.count("boot of m4000-isolated") == 1
        assert "lab fault" not in text

    def test_a_fault_repeats_the_class_with_new_fixtures(self, pytester: pytest.Pytester) -> None:
        outcomes, text = self.play(pytester, "Oops: int3")
        assert outcomes == {"passed": 5}
        assert text.count("boot of m4000-isolated") == 2
        assert "lab fault, repeated: " in text
        assert "::TestStory::test_two: Oops: int3" in text

    def test_one_fault_too_many_fails(self, pytester: pytest.Pytester) -> None:
        outcomes, text = self.play(pytester, *["Oops: int3"] * 3, "Oops: again")
        assert outcomes["failed"] >= 1
        assert "test_two: Oops: again" in text
