"""vfio-kit bake"""

import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vfio_kit.cli import console
from vfio_kit.cli.common import (
    image_dir_option,
    json_option,
    log_file_option,
    print_findings,
    print_json,
    require_root,
    sigterm_as_interrupt,
    state_dir_option,
    uninterrupted,
)
from vfio_kit.cli.first_boot import FirstBootWatch
from vfio_kit.cli.first_boot_report import FirstBootReport
from vfio_kit.cli.preflight import prepare, require_down, require_files
from vfio_kit.cli.spec_options import (
    bake_options,
    bake_spec_from,
    require_printable,
    with_fetched_image,
)
from vfio_kit.errors import UsageError, VfioKitError

if TYPE_CHECKING:
    from vfio_kit.analysis.guest.inventory import Inventory
    from vfio_kit.apply.hypervisor import Hypervisor
    from vfio_kit.apply.journal import VmFolder
    from vfio_kit.apply.manifest import FileIdentity, Manifest
    from vfio_kit.guest.runner import Runner
    from vfio_kit.model.vm import UpPlan
    from vfio_kit.spec import BakeSpec

_SEAL = 600
"""Seconds for the sealing, and for the VM to switch itself off."""


@click.command("bake")
@click.argument("out", metavar="OUT.qcow2", type=click.Path(path_type=Path, dir_okay=False))
@bake_options
@click.option("--name", help="Name of the VM that is used.  [default: bake-OUT]")
@click.option("--compress", is_flag=True, help="A smaller image, which takes longer to make.")
@click.option(
    "--check", is_flag=True, help="Make nothing: compare all of OUT.qcow2 with its manifest."
)
@click.option(
    "--timeout",
    type=click.IntRange(min=1),
    default=3600,
    show_default=True,
    metavar="SECONDS",
    help="For the guest to answer over SSH and to install everything.",
)
@json_option
@state_dir_option
@image_dir_option
@log_file_option
def command(
    out: Path,
    spec_file: Path | None,
    name: str | None,
    compress: bool,
    check: bool,
    timeout: int,
    as_json: bool,
    state_dir: Path,
    image_dir: Path,
    **values: Any,
) -> None:
    """Make an image that has driver, CUDA and packages in it: `up` from it installs nothing.

    The base image is booted once, in a VM without a GPU; everything is installed and held, the
    guest is sealed, and its disk becomes OUT.qcow2, with OUT.manifest.json beside it. The VM is
    taken away, whatever happens. What needs the GPU is left for `up` and `verify`.
    """
    out = out.absolute()
    if check:
        _check(out, as_json)
        return
    from vfio_kit.apply.bake import require_new
    from vfio_kit.apply.journal import VmFolder

    require_new(out)
    plan = _plan(bake_spec_from(spec_file, name or default_name(out), values), state_dir, image_dir)
    require_root("bake")
    folder = VmFolder(state_dir.absolute() / plan.domain.name)
    require_down(folder)
    require_files(plan)
    print_findings(plan.findings, err=True)
    baking = _Baking(plan, folder, out, compress, timeout)
    with sigterm_as_interrupt(), folder.locked():
        manifest = baking.bake()
    if as_json:
        print_json({**baking.report.times_json(), **_json(out, manifest)})
    else:
        click.echo(out)
        console.say(
            f"next: vfio-kit up NAME --image {console.without_control(str(out))} --gpu ADDR"
        )


def default_name(out: Path) -> str:
    """A VM's name from that of the image."""
    words = re.sub(r"[^a-z0-9]+", "-", out.stem.lower()).strip("-")
    return f"bake-{words}"[:63].rstrip("-")


def _check(out: Path, as_json: bool) -> None:
    from vfio_kit.apply.manifest import check_image

    manifest = check_image(out)
    if as_json:
        print_json(_json(out, manifest))
    else:
        click.echo(f"{out} is what was baked on {manifest.made_at}: SHA-256 as in its manifest")


def _plan(spec: "BakeSpec", state_dir: Path, image_dir: Path) -> "UpPlan":
    from vfio_kit.analysis.provisioning import provisioning_of
    from vfio_kit.plan import make_bake_plan

    require_printable(state_dir, image_dir)
    spec = with_fetched_image(spec, image_dir)
    plan = make_bake_plan(
        spec, state_dir=str(state_dir.absolute()), image_dir=str(image_dir.absolute())
    )
    if provisioning_of(plan.guest, plan.software) is None:
        raise UsageError(
            "there is nothing to install: no driver and no package",
            "--driver 470, or --package NAME",
        )
    return plan


def _json(out: Path, manifest: "Manifest") -> dict[str, Any]:
    from vfio_kit.apply.manifest import manifest_of

    return {
        "schema": "vfio-kit/bake/1",
        "image": str(out),
        "manifest": str(manifest_of(out)),
        "size": manifest.image.size,
        "sha256": manifest.image.sha256,
        "guest": manifest.guest,
        "driver": manifest.driver,
        "driver_version": manifest.driver_version,
        "cuda": manifest.cuda,
        "packages": len(manifest.packages),
        "seconds": manifest.seconds,
    }


class _Baking:
    """One run: the VM, and what is made of its disk."""

    def __init__(
        self, plan: "UpPlan", folder: "VmFolder", out: Path, compress: bool, timeout: int
    ) -> None:
        self._plan, self._folder, self._out = plan, folder, out
        self._compress, self._timeout = compress, timeout
        self.report = FirstBootReport()
        self._inventory: Inventory | None = None

    def bake(self) -> "Manifest":
        """Makes the image; takes the VM away in any case."""
        from vfio_kit.apply.hypervisor import Hypervisor
        from vfio_kit.apply.locks import host_lock
        from vfio_kit.apply.manifest import identify
        from vfio_kit.apply.transaction import bring_up

        work = None
        with Hypervisor() as hypervisor:
            with self.report.timed("checksum of the base image", "checking the base image"):
                source = identify(Path(self._plan.image))
            try:
                with host_lock(self.report.note):
                    with self.report.timed(
                        "host examined, nothing in the way", "looking for what is in the way"
                    ):
                        work = prepare(self._plan, self._folder, hypervisor)
                        self._require_room()
                    bring_up(work, self.report.progress, self.report.begins)
                self._install_and_seal(hypervisor)
                manifest = self._export(source)
            except BaseException as error:
                if work is None:
                    raise
                with uninterrupted():
                    self._take_away(error)
                raise
            with uninterrupted():
                self._take_away(None)
        self.report.finish(f"{self._out} is baked, {manifest.image.size >> 20} MiB", bars=True)
        return manifest

    def _install_and_seal(self, hypervisor: "Hypervisor") -> None:
        from vfio_kit.apply.bake import wait_until_off

        plan = self._plan
        console = plan.domain.console_log
        self.report.note(
            f"waiting for the guest, {self._timeout} s at most; its console: {console}"
        )
        watch = FirstBootWatch(
            plan,
            self._folder,
            hypervisor,
            time.monotonic() + self._timeout,
            self.report,
            mode="bake",
            stays=False,
        )
        watch.wait(self._seal)
        with self.report.timed("the VM has switched itself off", "the VM switches itself off"):
            wait_until_off(hypervisor, plan.domain.name, time.monotonic() + _SEAL)

    def _seal(self, connection: "Runner") -> None:
        from vfio_kit.assets import asset_dir
        from vfio_kit.guest.seal import seal, take_inventory

        with self.report.timed("packages listed", "listing the packages"):
            self._inventory = take_inventory(connection, _SEAL)
        script = (asset_dir("templates") / "guest/seal.sh").read_text("utf-8")
        sealed = "sealed: cloud-init, machine-id, host keys, user, logs, caches"
        with self.report.timed(sealed, "sealing the guest"):
            seal(connection, script, self._plan.user, _SEAL)

    def _export(self, source: "FileIdentity") -> "Manifest":
        from vfio_kit.apply.bake import export_image

        def describe(image: "FileIdentity", changed: int) -> "Manifest":
            return self._manifest(source, image, changed)

        with self.report.timed(
            f"{self._out.name} made of its disk", "making the image of its disk"
        ):
            return export_image(
                self._folder,
                Path(self._plan.domain.disk),
                self._out,
                compress=self._compress,
                describe=describe,
            )

    def _manifest(self, source: "FileIdentity", image: "FileIdentity", changed: int) -> "Manifest":
        from vfio_kit import __version__
        from vfio_kit.apply.manifest import Manifest

        software, found = self._plan.software, self._inventory
        assert found is not None  # the seal comes behind it
        return Manifest(
            image=image,
            changed=changed,
            source=source,
            guest=self._plan.guest,
            system=found.system,
            kernel=found.kernel,
            driver=software.driver,
            driver_version=found.driver_version,
            cuda=software.cuda,
            cuda_way=software.cuda_way,
            capabilities=software.capabilities,
            asked_for=software.packages,
            packages=found.packages,
            made_at=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=round(self.report.total(), 1),
            vfio_kit=__version__,
        )

    def _require_room(self) -> None:
        from vfio_kit.apply.files import require_space, require_trusted

        require_trusted(self._out.parent, "folder of the image")
        require_space(self._out.parent, (Path(self._plan.image).stat().st_size >> 20) + 256)

    def _take_away(self, error: BaseException | None) -> None:
        """The VM, its disk and its record; after a failure its console log stays to be read."""
        from vfio_kit.apply.files import remove
        from vfio_kit.apply.transaction import take_down

        if error is not None:
            reason = error.message if isinstance(error, VfioKitError) else type(error).__name__
            self.report.failed(f"failed: {reason}; taking the VM away")
        try:
            report = self.report
            take_down(self._folder, report.progress, report.note, begins=report.begins)
            self._folder.purge()
            if error is None:
                remove(Path(self._plan.domain.console_log))
        except VfioKitError as second:
            self.report.failed(f"could not take everything away: {second.message}")
            self.report.note(
                f"what is left is written down; repeat: vfio-kit down {self._plan.domain.name}"
            )
