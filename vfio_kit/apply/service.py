"""systemd units that start VMs when the host boots: vfio-kit@NAME.service.

One template serves all VMs; each has a drop-in with what is its own. The functions that take `root`
write below it, and ask the running systemd for nothing where it is not this host's.
"""

import os
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

from vfio_kit.apply.command import ask
from vfio_kit.apply.files import cannot, make_folder, remove, write_file
from vfio_kit.errors import HostError, HypervisorError
from vfio_kit.model.vm import UpPlan
from vfio_kit.render.service import MARK, unit_name, unit_of_vm, unit_template, unit_word

Data = dict[str, Any]

_HOST = Path("/")
_UNITS = Path("etc/systemd/system")
_PACKAGED = ("usr/lib/systemd/system", "lib/systemd/system", "usr/local/lib/systemd/system")
_TEMPLATE = "vfio-kit@.service"
_DROP_IN = "50-vfio-kit.conf"


def program() -> tuple[str, ...]:
    """The command that runs this vfio-kit, in its virtual environment, from any folder."""
    called = Path(sys.argv[0]).resolve()
    if called.name != "__main__.py" and called.is_file() and os.access(called, os.X_OK):
        return (str(called),)
    return (sys.executable, "-m", "vfio_kit")


def prepare(
    name: str,
    state_dir: Path,
    folders: tuple[Path, ...],
    *,
    words: tuple[str, ...] = (),
    root: Path = _HOST,
) -> Data:
    """Looks, changes nothing: what enable and disable need of a VM; goes into the journal.

    folders must be mounted before the VM starts. words run vfio-kit; empty: this program.
    Raises HostError where no systemd runs, and for a program that a unit cannot run.
    """
    if not (root / "run/systemd/system").is_dir():
        raise HostError(
            "this host is not run by systemd, which would start the VM when it boots",
            f"leave --autostart out, and have `vfio-kit start {name} --no-wait` run at boot",
        )
    words = words or program()
    unit_template(words)
    return {
        "vm": name,
        "program": list(words),
        "state_dir": str(state_dir),
        "folders": [str(folder) for folder in folders],
    }


def prepare_for(plan: UpPlan, state_dir: Path) -> Data:
    """As prepare, for the VM of a plan."""
    return prepare(plan.domain.name, state_dir, folders_of(plan, state_dir))


def folders_of(plan: UpPlan, state_dir: Path) -> tuple[Path, ...]:
    """Where the files are that a VM starts with, each folder once, beside the state directory.

    Where a link leads counts as well: RequiresMountsFor= follows none (systemd issue 8907).
    """
    domain = plan.domain
    files = [domain.disk, plan.image, domain.boot.kernel, domain.boot.initrd]
    files += [device.rom or "" for device in domain.host_devices]
    paths = (path for file in files if file for path in (file, os.path.realpath(file)))
    found = (Path(os.path.realpath(state_dir)), *(Path(path).parent for path in paths))
    return tuple(folder for folder in dict.fromkeys(found) if folder != state_dir)


def enable(data: Data, root: Path = _HOST) -> None:
    """Has the host start the VM at its next boot; does not start it now. Raises HostError."""
    units = root / _UNITS
    make_folder(units, 0o755)
    if _is_ours_to_write(root):
        text = unit_template(tuple(data["program"]))
        write_file(units / _TEMPLATE, text.encode(), 0o644)
    make_folder(_drop_ins(root, data["vm"]), 0o755)
    text = unit_of_vm(data["state_dir"], tuple(data["folders"]))
    write_file(_drop_ins(root, data["vm"]) / _DROP_IN, text.encode(), 0o644)
    _systemctl(root, "enable", "--quiet", unit_name(data["vm"]))


def disable(data: Data, root: Path = _HOST) -> None:
    """Takes it back, with the template where no other VM needs it. Works where enable never ran."""
    name = data["vm"]
    if root == _HOST:
        _forget_running(name)
    for link in _links(root):
        if link.name == unit_name(name):
            remove(link)
    _remove_drop_in(root, name)
    template = root / _UNITS / _TEMPLATE
    if not _instances(root) and _is_ours(template):
        remove(template)
    if root == _HOST:
        _reload()


def enabled(state_dir: Path | None = None, root: Path = _HOST) -> frozenset[str]:
    """Names of the VMs that the host starts at boot; with state_dir: of those of that one."""
    names = _instances(root)
    if state_dir is None:
        return names
    line = f"Environment={unit_word(f'VFIO_KIT_STATE_DIR={state_dir}')}"
    return frozenset(name for name in names if line in _drop_in_lines(root, name))


def failed(names: Collection[str]) -> frozenset[str]:
    """Those of the VMs that the host tried to start, and could not."""
    units = {unit_name(name): name for name in sorted(names)}
    said = _said("show", "--property=Id,ActiveState", *units) if units else ""
    shown = (dict(line.split("=", 1) for line in text.splitlines()) for text in said.split("\n\n"))
    ids = (unit["Id"] for unit in shown if unit.get("ActiveState") == "failed" and "Id" in unit)
    return frozenset(units[unit] for unit in ids if unit in units)


def activate(name: str) -> None:
    """Tells systemd that the VM runs, so that the host's shutdown stops it in good order.

    Its unit finds the VM up. Does not wait, and is no failure where it could not be told.
    """
    _tell("start", name)


def deactivate(name: str) -> None:
    """Tells systemd that the VM was stopped; its unit finds it off. As activate."""
    _tell("stop", name)


def _tell(verb: str, name: str) -> None:
    if os.environ.get("VFIO_KIT_UNIT") == unit_name(name) or name not in enabled():
        return  # it is this unit that asks
    _try("--no-block", verb, unit_name(name))


def _forget_running(name: str) -> None:
    """Ends the unit without its ExecStop: its VM is off, and this process has the VM's lock."""
    unit = unit_name(name)
    if _try("is-active", "--quiet", unit):
        drop_in = _drop_ins(_HOST, name) / _DROP_IN
        make_folder(drop_in.parent, 0o755)
        write_file(drop_in, f"{MARK}\n[Service]\nExecStop=\n".encode(), 0o644)
        _reload()
        _systemctl(_HOST, "stop", unit)
    _try("reset-failed", unit)


def _is_ours_to_write(root: Path) -> bool:
    """Not where a package has the template, nor where the operator wrote one."""
    if any((root / folder / _TEMPLATE).exists() for folder in _PACKAGED):
        return False
    template = root / _UNITS / _TEMPLATE
    return not os.path.lexists(template) or _is_ours(template)


def _drop_in_lines(root: Path, name: str) -> list[str]:
    try:
        return (_drop_ins(root, name) / _DROP_IN).read_text(errors="replace").splitlines()
    except OSError:
        return []  # a link that somebody else made


def _is_ours(path: Path) -> bool:
    try:
        return path.read_text(errors="replace").startswith(MARK)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise cannot("read", path, error) from None


def _drop_ins(root: Path, name: str) -> Path:
    return root / _UNITS / f"{unit_name(name)}.d"


def _links(root: Path) -> list[Path]:
    """What starts VMs at boot. By a wildcard: glob misses a dangling link named in full."""
    return [
        path
        for kind in ("wants", "requires")
        for path in (root / _UNITS).glob(f"*.{kind}/vfio-kit@?*.service")
    ]


def _instances(root: Path) -> frozenset[str]:
    folders = [path.parent for path in (root / _UNITS).glob(f"vfio-kit@?*.service.d/{_DROP_IN}")]
    units = [path.name for path in _links(root)]
    units += [folder.name.removesuffix(".d") for folder in folders]
    return frozenset(unit.removeprefix("vfio-kit@").removesuffix(".service") for unit in units)


def _remove_drop_in(root: Path, name: str) -> None:
    folder = _drop_ins(root, name)
    remove(folder / _DROP_IN)
    try:
        folder.rmdir()
    except FileNotFoundError:
        return
    except OSError as error:
        if not any(folder.iterdir()):
            raise cannot("remove", folder, error) from None  # with more in it, it is the operator's


def _systemctl(root: Path, *words: str) -> None:
    where = [] if root == _HOST else [f"--root={root}"]
    argv = ["systemctl", *where, *words]
    try:
        done = ask(argv)
    except HypervisorError as error:
        raise HostError(error.message, "is systemd there?") from None
    if done.status:
        said = (done.stderr or done.stdout).strip()
        raise HostError(f"{' '.join(argv)} failed (exit {done.status}): {said}")


def _try(*words: str) -> bool:
    """Whether systemctl says yes; no is an answer."""
    try:
        return ask(["systemctl", *words]).status == 0
    except HypervisorError:
        return False


def _said(*words: str) -> str:
    """What systemctl prints; nothing where there is none."""
    try:
        return ask(["systemctl", *words]).stdout
    except HypervisorError:
        return ""


def _reload() -> None:
    if (_HOST / "run/systemd/system").is_dir():
        _systemctl(_HOST, "daemon-reload")
