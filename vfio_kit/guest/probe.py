"""What verification runs in a guest: fixed commands over one connection, judged elsewhere."""

from vfio_kit.guest.ssh import CommandTimeout, Connection
from vfio_kit.model.health import CommandResult

_FUNCTIONS = """for d in /sys/bus/pci/devices/*; do
  read -r v < "$d/vendor" && read -r i < "$d/device" && read -r c < "$d/class" || continue
  case "$v$c" in 0x10de*|*0x03????) echo "${d##*/} $v $i $c";; esac
done"""

_DEVICE_QUERY = """demo=/usr/local/cuda/extras/demo_suite/deviceQuery
for f in "$(command -v deviceQuery)" "$demo"; do
  [ ! -x "$f" ] || exec "$f"
done
echo "deviceQuery: command not found" >&2; exit 127"""

COMMANDS: dict[str, str] = {
    "pci-functions": _FUNCTIONS,
    "nvidia-smi": "nvidia-smi -q -x",
    "device-query": _DEVICE_QUERY,
}

TIMED_OUT = 124
"""Exit status, as of timeout(1), for a command that did not end: a GPU off the bus does that."""


def probe(connection: Connection, timeout: float = 60) -> dict[str, CommandResult]:
    """Runs every command of COMMANDS; `timeout` in seconds for each."""
    results: dict[str, CommandResult] = {}
    for code, command in COMMANDS.items():
        try:
            results[code] = connection.run(command, timeout)
        except CommandTimeout as error:
            results[code] = CommandResult(TIMED_OUT, "", error.message)
    return results


def wait_for_cloud_init(connection: Connection, timeout: float) -> CommandResult:
    """Waits in the guest, in one command, until cloud-init has ended; its status as JSON."""
    return connection.run("cloud-init status --wait --format json", timeout)
