"""What verification runs on a machine: fixed commands over one connection, judged elsewhere.

Plain POSIX shell, for any distribution and without root; a tool that is missing is part of the
answer. Each command has a time limit of its own, so that one that hangs costs the others nothing.
"""

from collections.abc import Mapping

from vfio_kit.guest.runner import CommandTimeout, Runner
from vfio_kit.knowledge.provision_steps import STATE_FILE
from vfio_kit.model.health import CommandResult

_CLOUD_INIT = """if command -v cloud-init >/dev/null; then
  out=$(cloud-init status --format json 2>/dev/null)
  case $out in *'{'*) ;; *) out=$(cloud-init status --long 2>&1) ;; esac
  printf '%s\\n' "$out"
else
  echo absent
fi
state=@STATE@
if [ -r $state ]; then echo '--- provision'; cat $state; fi""".replace("@STATE@", STATE_FILE)
"""Before 22.4 `cloud-init status` knows no JSON."""

_PCI = """root=/sys/bus/pci/devices
cd $root || exit 1
show() { v=''; read -r v 2>/dev/null <"$2" && echo "$1 $v"; }
links() {
  for f in current_link_speed current_link_width max_link_speed max_link_width; do
    show "$1$f" "$2/$f"
  done
}
for d in *; do
  v='' c=''
  read -r v 2>/dev/null <"$d/vendor" && read -r c <"$d/class" || continue
  echo "function $d"
  for f in vendor device class; do show $f "$d/$f"; done
  case $v$c in 0x10de*|*0x03????) ;; *) continue ;; esac
  for f in enable driver_override; do show $f "$d/$f"; done
  driver=$(cd -P "$root/$d/driver" 2>/dev/null && pwd) && echo "driver ${driver##*/}"
  echo "config $(od -An -v -tx1 -j8 -N4 "$d/config" 2>/dev/null)"
  state=''
  read -r state 2>/dev/null <"$d/power/runtime_status"
  [ "$state" = suspended ] || links '' "$d"
  n=0
  while [ $n -lt 6 ] && read -r start end flags; do
    echo "bar $start $end $flags"; n=$((n + 1))
  done <"$d/resource"
  up=$(cd -P "$root/$d/.." && pwd) && up=${up##*/}
  case $up in *:*:*.*) ;; *) continue ;; esac
  echo "port $up"
  for f in vendor device; do show port_$f "$up/$f"; done
  links port_ "$up"
done 2>/dev/null
:"""
"""All functions by their ids; more of NVIDIA's ones, of display controllers, and of the port above.

Revision and class are read anew from config space: those of a device that has fallen off the bus
are ff. The ids in front of them say nothing: VFIO keeps a copy of these. Reading config space wakes
a device, reading its link may not: that is all ones as well where the kernel has put it to sleep.
"""

_MODULE = """PATH=$PATH:/usr/sbin:/sbin
echo "kernel $(uname -r)"
while read -r line; do echo "proc $line"; done 2>/dev/null </proc/driver/nvidia/version
for m in nvidia nvidia_uvm nouveau nova_core vfio_pci pci_stub; do
  [ ! -d /sys/module/$m ] || echo "loaded $m"
done
read -r v 2>/dev/null </sys/module/nvidia/version && echo "version $v"
files=$(grep -ho '^[^:]*/nvidia[^/:]*[.]ko[^:]*' /lib/modules/*/modules.dep 2>/dev/null | sort -u)
for f in $files; do
  case ${f##*/} in
    nvidia.ko*|nvidia-current.ko*|nvidia-tesla-[0-9]*[0-9].ko*|nvidia-legacy-[0-9]*xx.ko*) ;;
    *) continue ;;
  esac
  for k in /lib/modules/*; do [ ! -e "$k/$f" ] || echo "built ${k##*/} $f"; done
  k=/lib/modules/$(uname -r)/$f
  [ ! -e "$k" ] || echo "file $f $(modinfo -F version "$k" 2>/dev/null)"
done
for s in /sys/firmware/efi/efivars/SecureBoot-*; do
  [ ! -r "$s" ] || echo "secure-boot $(od -An -tu1 -j4 -N1 "$s" 2>/dev/null)"
done
read -r v 2>/dev/null </sys/kernel/security/lockdown && echo "lockdown $v"
:"""
"""The module of Debian's packages is called after its branch: nvidia-tesla-470.ko."""

_DEVICE_QUERY = """name=deviceQuery
for f in "$(command -v $name)" /usr/local/cuda/extras/demo_suite/$name \\
  /usr/local/cuda/samples/bin/*/linux/release/$name \\
  /usr/local/cuda/samples/1_Utilities/$name/$name \\
  "$HOME"/*[Cc][Uu][Dd][Aa]*[Ss]amples/bin/*/linux/release/$name \\
  "$HOME"/*[Cc][Uu][Dd][Aa]*[Ss]amples/1_Utilities/$name/$name \\
  "$HOME"/*[Cc][Uu][Dd][Aa]*[Ss]amples/Samples/1_Utilities/$name/$name \\
  "$HOME"/*[Cc][Uu][Dd][Aa]*[Ss]amples/build/Samples/1_Utilities/$name/$name
do
  if [ -f "$f" ] && [ -x "$f" ]; then exec "$f"; fi
done
echo "deviceQuery: command not found" >&2; exit 127"""
"""Where NVIDIA's packages, their runfile and those who build the samples by hand leave it."""

_KERNEL_LOG = """words='NVRM|nvidia|nouveau|PCIe Bus Error|DMAR: .DMA|AMD-Vi: Event|nobody cared'
words=$words'|module verification|Key was rejected|of module with|of unsigned module'
words=$words'|module loading is restricted'
for from in 'journalctl -k -b -q -o short-monotonic --no-pager' dmesg 'sudo -n dmesg'; do
  log=$($from 2>/dev/null) || continue
  case $log in ''|'-- No entries --') continue ;; esac
  echo "from $from"
  printf '%s\\n' "$log" | grep -aiE "$words" | tail -n 3000
  exit 0
done
echo 'from nothing'"""
"""The journal has this boot from its first line; dmesg what is left of it, and often for root only.

Asked last, so that what the other probes set off is heard as well.
"""

COMMANDS: Mapping[str, str] = {
    "cloud-init": _CLOUD_INIT,
    "pci": _PCI,
    "module": _MODULE,
    "nvidia-smi": "nvidia-smi -q -x",
    "device-query": _DEVICE_QUERY,
    "kernel-log": _KERNEL_LOG,
}

BURN = "burn"
_BURN_COMMAND = (
    "command -v python3 >/dev/null && exec python3 - {seconds}; "
    "echo 'python3: not found' >&2; exit 127"
)
_BURN_STARTUP = 60
"""Seconds; the program ends itself 45 s after the time that it was given."""

TIMED_OUT = 124
"""Exit status, as of timeout(1), for a command that did not end: a GPU off the bus does that."""


def probe(
    runner: Runner, timeout: float = 60, *, burn: str | None = None, burn_seconds: int = 0
) -> Mapping[str, CommandResult]:
    """Runs every command of COMMANDS, by whose keys the results go; `timeout` in seconds for each.

    burn  a Python program, which computes on every GPU for `burn_seconds`; its result is BURN's.
    """
    results: dict[str, CommandResult] = {}
    for code, command in COMMANDS.items():
        if code == "kernel-log" and burn is not None:
            results[BURN] = _run(
                runner,
                _BURN_COMMAND.format(seconds=burn_seconds),
                max(timeout, _BURN_STARTUP) + burn_seconds,
                burn,
            )
        results[code] = _run(runner, command, timeout)
    return results


def _run(runner: Runner, command: str, timeout: float, stdin: str = "") -> CommandResult:
    try:
        return runner.run(command, timeout, stdin=stdin)
    except CommandTimeout as error:
        return CommandResult(TIMED_OUT, "", error.message)
