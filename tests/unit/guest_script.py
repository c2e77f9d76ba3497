"""The script that runs in the guest, function by function, in a root of the test's own."""

import os
import subprocess
from pathlib import Path

from vfio_kit.analysis.provisioning import provisioning_of
from vfio_kit.model.vm import CudaWay, Software
from vfio_kit.render.seed import provision_script, shell_settings

BOOT = "6a1d9a46-5b1c-4b4f-8a4e-1c1f0e6d9b57"
DEBIAN_470 = Software("470", "11.4", capabilities=("5.2",))
RUNFILE = Software("470", "11.4", CudaWay.RUNFILE)


class Guest:
    """A guest's root below a folder, and what the script does in it."""

    def __init__(
        self, root: Path, *, guest: str = "debian-12", software: Software = DEBIAN_470
    ) -> None:
        self.root = root / "guest"
        system, _, version = guest.rpartition("-")
        self.write("etc/os-release", f'ID={system}\nVERSION_ID="{version}"\n')
        self.write("proc/sys/kernel/random/boot_id", f"{BOOT}\n")
        (self.root / "run/vfio-kit").mkdir(parents=True)
        wanted = provisioning_of(guest, software)
        assert wanted is not None
        self.write("etc/vfio-kit/provision.conf", shell_settings(wanted, has_gpu=True))
        self._script = root / "script"
        self._script.write_text(provision_script(), encoding="utf-8")

    def write(self, path: str, text: str | bytes = "", mode: int = 0o644) -> Path:
        """A file of the guest, by its path without the leading slash."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        file.chmod(mode)
        return file

    def run(self, code: str, **answers: str) -> subprocess.CompletedProcess[str]:
        """Runs shell code behind the script's functions; `answers`: tools, as shell.

        A name is a function of the script, or a tool, with `_` for its hyphens.
        """
        stubs = "".join(
            f"{self._name(name)}() {{ {body or ':'}\n}}\n" for name, body in answers.items()
        )
        whole = f'source {self._script}\nsource "$CONF"\n{stubs}{code}\n'
        return subprocess.run(
            ["bash", "-c", whole],
            check=False,
            capture_output=True,
            text=True,
            timeout=30,
            env={"PATH": os.environ["PATH"], "VFIO_KIT_ROOT": str(self.root)},
        )

    def _name(self, name: str) -> str:
        ours = f"\n{name}() {{" in self._script.read_text(encoding="utf-8")
        return name if ours else name.replace("_", "-")

    def step(self, code: str, before: str = "", **answers: str) -> subprocess.CompletedProcess[str]:
        """Runs one step, as the whole script does; `before` is what an earlier step has set."""
        steps = f"{before}\nSTEPS=({code}); OF=1; provision"
        return self.run(steps, **answers)

    def state(self) -> dict[str, str]:
        """The state file."""
        text = (self.root / "var/lib/vfio-kit/provision.state").read_text(encoding="utf-8")
        return dict(line.split("=", 1) for line in text.splitlines())

    def failure(self, code: str, before: str = "", **answers: str) -> str:
        """The reason for which a step fails; it must."""
        done = self.step(code, before, **answers)
        assert done.returncode == 1, done.stdout + done.stderr
        state = self.state()
        assert (state["state"], state["step"]) == ("failed", code)
        return state["reason"]
