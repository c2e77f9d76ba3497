"""PURE: what has become of a guest's first boot, from what the guest says while it boots.

A guest under observation (guest/observe.FOLLOW) prints a record whenever something has changed: a
line `NAME COUNT`, then COUNT lines. The names are

    boot-id     /proc/sys/kernel/random/boot_id, once, at the beginning
    cloud-init  /run/cloud-init/status.json
    provision   /var/lib/vfio-kit/provision.state (docs/guest.md has its format)
    without     why there is no status.json: absent, disabled or silent
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from vfio_kit.analysis.guest.cloud_init import CloudInitRun, parse_run
from vfio_kit.analysis.guest.printable import printable

MOST_REBOOTS = 2
"""A provisioning reboots once, for its kernel; a third reboot comes of a loop."""

_MOST_LINES, _MOST_CHARACTERS = 10_000, 4 << 20
"""Of a record; a guest is not trusted with our memory."""


@dataclass(frozen=True, slots=True)
class Record:
    """A thing that the guest said."""

    name: str
    text: str


class RecordReader:
    """Puts records together from the lines that the guest prints."""

    def __init__(self) -> None:
        self._name = ""
        self._missing = self._size = 0
        self._lines: list[str] = []

    def feed(self, line: str) -> Record | None:
        """The record that ends with this line; None where none does.

        Raises ValueError for a line in the place of a record's head that is none, and for a record
        that is too large.
        """
        if self._missing:
            self._lines.append(line)
            self._missing -= 1
            self._size += len(line)
            if self._size > _MOST_CHARACTERS:
                raise ValueError(
                    f"not a record: {self._name} has more than {self._size} characters"
                )
        else:
            self._name, _, count = line.rpartition(" ")
            if not (self._name and count.isdecimal() and int(count) <= _MOST_LINES):
                raise ValueError(f"not the head of a record: {printable(line, 80)!r}")
            self._missing, self._size = int(count), 0
        if self._missing:
            return None
        record = Record(self._name, "\n".join(self._lines))
        self._lines = []
        return record


@dataclass(frozen=True, slots=True)
class Provision:
    """The state file of vfio-kit-provision; texts that it leaves out are empty, numbers 0."""

    state: str
    step: str = ""
    title: str = ""
    number: int = 0
    of: int = 0
    boot: str = ""
    mode: str = ""
    reason: str = ""
    log: str = ""
    culprit: str = ""


def parse_provision(text: str) -> Provision:
    """Reads the state file; raises ValueError where it has no `state`."""
    values = {key: printable(value) for key, _, value in _pairs(text)}
    if not values.get("state"):
        raise ValueError(f"not a state of vfio-kit-provision: {printable(text, 80)!r}")
    numbers = {key: int(v) for key in ("number", "of") if (v := values.pop(key, "")).isdecimal()}
    known = Provision.__dataclass_fields__
    # What mypy cannot see: the two fields that are numbers were taken out of the texts.
    return Provision(**{k: v for k, v in values.items() if k in known}, **numbers)  # type: ignore[arg-type]


def _pairs(text: str) -> list[tuple[str, str, str]]:
    return [line.partition("=") for line in text.splitlines() if "=" in line]


@dataclass(frozen=True, slots=True)
class Activity:
    """What the guest does now; `number` of `of` steps, 0 where it has no number.

    stage: it is one of cloud-init's, which times itself.
    """

    what: str
    number: int = 0
    of: int = 0
    stage: bool = False

    def __str__(self) -> str:
        return f"[{self.number}/{self.of}] {self.what}" if self.number else self.what


class Ending(StrEnum):
    """How a first boot ends."""

    DONE = "done"
    DEGRADED = "degraded"
    """cloud-init has ended, and has recoverable errors."""
    FAILED = "failed"
    """cloud-init has errors."""
    PROVISION_FAILED = "provision-failed"
    NOT_PROVISIONED = "not-provisioned"
    """cloud-init has ended without an error, and the script has not come to its end."""
    REBOOT_LOOP = "reboot-loop"
    ABSENT = "absent"
    """cloud-init is not installed."""
    DISABLED = "disabled"
    SILENT = "silent"
    """cloud-init is there and enabled, and does not run."""


@dataclass(frozen=True, slots=True)
class FirstBoot:
    """What is known so far.

    mode   the mode in which the provisioning has to run: guest or bake; None where the seed
           installs nothing.
    boots  ids of the boots that were seen, in their order.
    """

    mode: str | None
    boots: tuple[str, ...] = ()
    connected: bool = False
    cloud_init: CloudInitRun | None = None
    provision: Provision | None = None
    errors: tuple[str, ...] = ()
    """Of cloud-init in earlier boots."""
    recoverable: tuple[str, ...] = ()
    without: str = ""

    def after(self, record: Record) -> "FirstBoot":
        """What is known when the guest has said this; ValueError where it makes no sense."""
        if record.name == "boot-id":
            return self._booted(printable(record.text))
        if record.name == "cloud-init":
            # The file is gone where the guest is about to.
            return replace(self, cloud_init=parse_run(record.text)) if record.text else self
        if record.name == "provision":
            found = parse_provision(record.text) if record.text else None
            # What was left by the baking of the image is no news of this boot.
            return replace(self, provision=found if found and found.mode == self.mode else None)
        if record.name == "without":
            return replace(self, without=record.text)
        raise ValueError(f"not a record of a first boot: {printable(record.name, 80)!r}")

    def lost(self) -> "FirstBoot":
        """What is known when the connection has broken."""
        return replace(self, connected=False)

    def _booted(self, boot: str) -> "FirstBoot":
        if self.boots and boot == self.boots[-1]:
            return replace(self, connected=True)
        run = self.cloud_init
        return replace(
            self,
            boots=(*self.boots, boot),
            connected=True,
            cloud_init=None,
            errors=self.errors + (run.errors if run else ()),
            recoverable=self.recoverable + (run.recoverable if run else ()),
        )

    @property
    def rebooting(self) -> bool:
        """The guest has said that it reboots, and this is still the boot in which it said so."""
        found = self.provision
        return found is not None and found.state == "reboot" and found.boot in self.boots[-1:]

    @property
    def all_errors(self) -> tuple[str, ...]:
        """Of cloud-init, fatal ones first, each once."""
        run = self.cloud_init
        fatal = self.errors + (run.errors if run else ())
        return tuple(dict.fromkeys(fatal + self.recoverable + (run.recoverable if run else ())))

    @property
    def activity(self) -> Activity | None:
        """What the guest does now; None between two things, and at the end."""
        found, run = self.provision, self.cloud_init
        if self.rebooting:
            reason = f": {found.reason}" if found and found.reason else ""
            return Activity(f"the guest reboots{reason}")
        if not self.connected:
            return Activity("waiting for the guest to answer again") if self.boots else None
        if found is not None and found.state == "running" and found.boot in self.boots[-1:]:
            return Activity(found.title or found.step, found.number, found.of)
        if run is None or run.running is None:
            return None
        return Activity(f"cloud-init: {run.running}", stage=True)

    @property
    def ending(self) -> Ending | None:
        """How it ended; None as long as it has not."""
        found, run = self.provision, self.cloud_init
        if len(self.boots) > 1 + MOST_REBOOTS:
            return Ending.REBOOT_LOOP
        if found is not None and found.state == "failed":
            return Ending.PROVISION_FAILED
        if run is None:
            return Ending(self.without) if self.without else None
        if self.rebooting or not run.ended:
            return None
        if self.errors or run.errors:
            return Ending.FAILED
        if self.recoverable or run.recoverable:
            return Ending.DEGRADED
        if self.mode is not None and (found is None or found.state != "done"):
            return Ending.NOT_PROVISIONED
        return Ending.DONE

    @property
    def story(self) -> str:
        """The ending in words, to stand behind `NAME is up, but `; empty without an ending."""
        found, errors = self.provision, "; ".join(map(printable, self.all_errors))
        ending = self.ending
        if ending is None:
            return ""
        if ending is Ending.PROVISION_FAILED and found is not None:
            step = Activity(found.title or found.step, found.number, found.of)
            return f"its provisioning failed: {step}: {found.reason or 'no reason given'}"
        return _STORIES[ending].format(boots=len(self.boots), errors=errors or "no reason given")


_STORIES: dict[Ending, str] = {
    Ending.DONE: "its first boot is done",
    Ending.DEGRADED: "cloud-init ended degraded: {errors}",
    Ending.FAILED: "cloud-init ended with errors: {errors}",
    Ending.PROVISION_FAILED: "its provisioning failed",
    Ending.NOT_PROVISIONED: "cloud-init has ended and vfio-kit-provision has not come to its end",
    Ending.REBOOT_LOOP: "it reboots again and again: {boots} boots were seen",
    Ending.ABSENT: "cloud-init is not installed in its image",
    Ending.DISABLED: "cloud-init is disabled in its image",
    Ending.SILENT: "cloud-init is enabled in its image, and was not run",
}
