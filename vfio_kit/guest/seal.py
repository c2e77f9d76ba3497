"""The last words with a guest whose disk becomes an image: what is in it, and its sealing."""

import shlex

from vfio_kit.analysis.guest.inventory import Inventory, parse_inventory
from vfio_kit.errors import GuestError
from vfio_kit.guest.runner import CommandTimeout, Runner
from vfio_kit.model.health import CommandResult

INVENTORY = r"""
PATH=$PATH:/usr/sbin:/sbin # modinfo, for an ordinary user of Debian
record() { # NAME: the lines of stdin, as a record
  text=$(cat; echo .)
  printf '%s %d\n%s' "$1" "$(printf %s "$text" | wc -l)" "${text%.}"
}
versions() { # of the NVIDIA module, for each kernel, the newest last
  for kernel in $(ls /lib/modules | sort -V); do
    for module in nvidia nvidia-current $(cd /var/lib/dkms 2>/dev/null && ls -d nvidia*); do
      modinfo -k "$kernel" -F version "$module" 2>/dev/null && break
    done
  done
}
(. /etc/os-release && echo "$PRETTY_NAME") | record system
uname -r | record kernel
versions | record module
dpkg-query -W -f '${db:Status-Abbrev}${Package} ${Version} ${Architecture}\n' \
  | sed -n 's/^.i. *//p' | record packages
"""
"""Prints what is installed as records (analysis/guest/inventory)."""


class NotSealed(GuestError):
    """The guest, whose first boot is done, cannot be made an image of."""

    exit_code = 3


def take_inventory(runner: Runner, timeout: float) -> Inventory:
    """What is installed; raises NotSealed where the guest does not say."""
    result = _run(runner, INVENTORY, timeout, "")
    try:
        return parse_inventory(result.stdout)
    except ValueError as error:
        said = result.stderr.strip().splitlines()
        raise NotSealed(f"{error}{': ' + said[-1] if said else ''}") from None


def seal(runner: Runner, script: str, user: str, timeout: float) -> None:
    """Runs the sealing script (templates/guest/seal.sh); then the guest powers off by itself.

    Raises NotSealed where a step of it failed: the disk is no image then.
    """
    result = _run(runner, f"sudo -n bash -s {shlex.quote(user)}", timeout, script)
    if result.exit_status != 0 or result.stdout.split()[-1:] != ["sealed"]:
        said = (result.stderr.strip() or result.stdout.strip()).splitlines()
        reason = said[-1] if said else f"exit {result.exit_status}"
        raise NotSealed(f"the guest could not be sealed: {reason}")


def _run(runner: Runner, command: str, timeout: float, stdin: str) -> CommandResult:
    try:
        return runner.run(command, timeout, stdin=stdin)
    except CommandTimeout as error:
        raise NotSealed(error.message) from None
