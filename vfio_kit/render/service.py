"""PURE: the systemd units that start VMs when the host boots, and the words in them."""

from vfio_kit.errors import HostError
from vfio_kit.render.environment import environment

MARK = "# Written by vfio-kit."
"""The first line of every unit file of ours: a file without it is somebody else's."""
STOP_TIMEOUT = 120
"""Seconds for a guest to shut itself down, before it is destroyed, as `stop` has it."""
_STOP_MARGIN = 180
"""Seconds beyond those: devices go back to their drivers, hugepages to the kernel."""


def unit_template(program: tuple[str, ...]) -> str:
    """The text of vfio-kit@.service; `program` is the command that runs vfio-kit, an absolute path.

    Raises HostError for a path that no unit can run.
    """
    if "$" in program[0] or not all(word.isprintable() for word in program):
        raise HostError(
            f"a systemd unit cannot run {program[0]!r}: it holds a $ or a control character",
            "install vfio-kit elsewhere, or leave --autostart out",
        )
    return _text(
        "vfio-kit@.service.j2",
        program=" ".join(unit_word(word).replace("$", "$$") for word in program),
        stop_timeout=STOP_TIMEOUT,
        stop_margin=_STOP_MARGIN,
    )


def unit_of_vm(state_dir: str, folders: tuple[str, ...]) -> str:
    """The text of a VM's drop-in: where its record is, and the folders that must be mounted."""
    return _text(
        "vm.conf.j2",
        mounts=" ".join(map(unit_word, (state_dir, *folders))),
        state_dir=unit_word(f"VFIO_KIT_STATE_DIR={state_dir}"),
        writable=unit_word(f"-{state_dir}"),
    )


def unit_name(vm: str) -> str:
    """The unit of a VM, in full: a name may end in .mount, which would be another kind of unit.

    Every character of a VM's name may stand in a unit's; escaped it would be another name in `%i`.
    """
    return f"vfio-kit@{vm}.service"


def unit_word(text: str) -> str:
    """A word as systemd.syntax(7) quotes it, with no specifier in it (systemd.unit(5))."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    plain = escaped == text and not any(c.isspace() or c in "';#" for c in text)
    return text if plain else f'"{escaped}"'


def _text(name: str, **values: object) -> str:
    return environment("templates").get_template(f"systemd/{name}").render(mark=MARK, **values)
