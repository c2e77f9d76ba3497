"""vfio-kit up"""

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vfio_kit.cli.common import (
    existing_file,
    image_dir_option,
    json_option,
    plan_from,
    print_json,
    require_root,
    sigterm_as_interrupt,
    spec_from,
    spec_options,
    state_dir_option,
    step,
)
from vfio_kit.errors import HypervisorError, Refused, UsageError, VfioKitError

if TYPE_CHECKING:
    from vfio_kit.apply.hypervisor import Hypervisor
    from vfio_kit.apply.journal import VmFolder
    from vfio_kit.model import SeedKeys, UpPlan


@click.command("up")
@click.argument("name")
@spec_options
@click.option(
    "--timeout",
    type=click.IntRange(min=1),
    default=1800,
    show_default=True,
    metavar="SECONDS",
    help="For the guest to answer over SSH and to end cloud-init.",
)
@json_option
@state_dir_option
@image_dir_option
def command(
    name: str,
    spec_file: Path | None,
    timeout: int,
    as_json: bool,
    state_dir: Path,
    image_dir: Path,
    **values: Any,
) -> None:
    """Take a GPU into a running VM that answers over SSH.

    A transaction: when it fails or is interrupted, the host is put back as it was. A guest whose
    cloud-init reports errors is left running, for you to look at (exit status 3).
    """
    from vfio_kit.apply.journal import VmFolder

    spec = spec_from(spec_file, name, values)
    plan = plan_from(Path("/"), spec, state_dir, image_dir)
    require_root("up")
    folder = VmFolder(Path(plan.state_dir))
    with sigterm_as_interrupt(), folder.locked():
        _bring_up(plan, folder, timeout, as_json)


def _bring_up(plan: "UpPlan", folder: "VmFolder", timeout: int, as_json: bool) -> None:
    from vfio_kit.apply.hypervisor import Hypervisor
    from vfio_kit.apply.images import examine_image
    from vfio_kit.apply.steps import Work
    from vfio_kit.apply.transaction import bring_up
    from vfio_kit.render import render

    begin = time.monotonic()
    times: list[tuple[str, float]] = []

    def progress(what: str, seconds: float) -> None:
        times.append((what, seconds))
        step(what, seconds)

    with Hypervisor() as hypervisor:
        _preflight(plan, folder, hypervisor)
        image = examine_image(Path(plan.image))
        progress("host examined, nothing in the way", time.monotonic() - begin)

        def render_seed(keys: "SeedKeys") -> Any:
            return render("cloud-init", plan, keys)

        # The libvirt output needs no keys.
        no_keys = _no_keys()
        domain = replace(plan.domain, backing=image)
        xml = render("libvirt", replace(plan, domain=domain), no_keys)[0].text
        work = Work(plan, folder, hypervisor, image, xml, render_seed)
        try:
            bring_up(work, progress)
            address = _wait(plan, folder, hypervisor, timeout, progress)
        except (_CloudInitFailed, SystemExit):
            raise
        except BaseException as error:
            _roll_back(folder, plan, error)
            raise
    total = time.monotonic() - begin
    step(f"{plan.domain.name} is up at {address}", total)
    if as_json:
        print_json(
            {
                "schema": "vfio-kit/up/1",
                "name": plan.domain.name,
                "address": address,
                "user": plan.user,
                "identity": str(folder.identity),
                "known_hosts": str(folder.known_hosts),
                "gpus": [str(gpu) for gpu in plan.gpus],
                "seconds": round(total, 1),
                "steps": [{"what": what, "seconds": round(s, 1)} for what, s in times],
            }
        )
    else:
        click.echo(
            f"ssh -i {folder.identity} -o UserKnownHostsFile={folder.known_hosts} "
            f"-o HostKeyAlias={plan.domain.name} {plan.user}@{address}"
        )
        click.echo(f"next: vfio-kit verify {plan.domain.name}", err=True)


class _CloudInitFailed(Refused):
    """The guest is up, its provisioning is not: it is left running."""


def _no_keys() -> "SeedKeys":
    from vfio_kit.model import SeedKeys

    return SeedKeys("", "", ())


_DISK_MIB = 256
"""What the overlay of a guest that boots and installs nothing grows to, with some to spare."""


def _preflight(plan: "UpPlan", folder: "VmFolder", hypervisor: "Hypervisor") -> None:
    from vfio_kit.apply.files import require_space

    name = plan.domain.name
    if folder.outstanding():
        raise UsageError(f"{name!r} is up, or half up, already", f"vfio-kit down {name}")
    if hypervisor.domain(name) is not None:
        raise UsageError(
            f"libvirt has a domain {name!r} already, and vfio-kit did not make it",
            "choose another name",
        )
    if not plan.image:
        raise UsageError("no image was given", "--image FILE, or image = … in the spec")
    for path, what in ((plan.domain.boot.kernel, "kernel"), (plan.domain.boot.initrd, "initrd")):
        if path:
            existing_file(path, what)
    require_space(Path(plan.domain.disk).parent, _DISK_MIB)
    hypervisor.require_network(plan.domain.network)


def _wait(
    plan: "UpPlan", folder: "VmFolder", hypervisor: "Hypervisor", timeout: int, progress: Any
) -> str:
    from vfio_kit.analysis.cloud_init import parse_status
    from vfio_kit.guest.probe import wait_for_cloud_init
    from vfio_kit.guest.ssh import Target, connect_when_ready, wait_for_banner

    domain = plan.domain
    deadline = time.monotonic() + timeout
    begin = time.monotonic()

    def still_there() -> None:
        found = hypervisor.domain(domain.name)
        if found is None or found.state not in ("running", "blocked", "paused"):
            state = "gone" if found is None else found.state
            raise HypervisorError(
                f"the VM stopped while it booted: it is {state}",
                f"its console: {domain.console_log}; QEMU's own words: "
                f"/var/log/libvirt/qemu/{domain.name}.log",
            )

    step(f"waiting for the guest, {timeout} s at most; its console: {domain.console_log}")
    address = wait_for_banner(
        lambda: hypervisor.lease(domain.network, domain.mac), 22, deadline, still_there
    )
    folder.save(replace(folder.record(), address=address))
    progress(f"SSH server greets at {address}", time.monotonic() - begin)
    begin = time.monotonic()
    target = Target(address, 22, plan.user, folder.identity, folder.known_hosts, domain.name)
    with connect_when_ready(target, deadline) as connection:
        progress("logged in; the host key is the one made above", time.monotonic() - begin)
        begin = time.monotonic()
        result = wait_for_cloud_init(connection, max(1.0, deadline - time.monotonic()))
    try:
        status = parse_status(result.stdout)
    except ValueError as error:
        raise _CloudInitFailed(f"cloud-init does not say how it went: {error}") from None
    if not status.ok:
        raise _CloudInitFailed(
            f"{domain.name} is up at {address}, but cloud-init ended with status "
            f"{status.status}: {'; '.join(status.errors) or 'no reason given'}",
            "in the guest: cloud-init status --long; less /var/log/cloud-init-output.log\n"
            f"it was left running; vfio-kit down {domain.name} takes it away",
        )
    progress("cloud-init is done, without errors", time.monotonic() - begin)
    return address


def _roll_back(folder: "VmFolder", plan: "UpPlan", error: BaseException) -> None:
    from vfio_kit.apply.transaction import take_down

    reason = error.message if isinstance(error, VfioKitError) else type(error).__name__
    step(f"failed: {reason}; putting the host back")
    try:
        take_down(folder, step)
        if not Path(plan.domain.console_log).exists():
            folder.purge()  # the guest never ran: there is nothing to read afterwards
    except VfioKitError as second:
        step(f"could not put everything back: {second.message}")
        step(f"what is left is written down; repeat: vfio-kit down {plan.domain.name}")
        return
    step("the host is as it was")
