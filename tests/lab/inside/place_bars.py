"""Runs on the lab's host: where firmware puts large BARs, on a machine as our script has it.

    python3 place_bars.py RUN.SH

The cards are stood in for by memory with one BAR of 16 GiB each (ivshmem-plain), as half a K80 has
it; nothing of it is touched. Prints the BARs' addresses as JSON, as soon as they have some.
"""

import json
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

LIMIT = 300.0
BAR = 16 << 30
_LEFT_OUT = ("-blockdev", "-netdev", "-kernel", "-initrd", "-append", "-serial", "-display")


def argv(script: str, variables: str) -> list[str]:
    """QEMU's command line of the script, with stand-ins for what this host has not."""
    words = shlex.split(script.split("qemu-system-x86_64 \\\n")[1].replace("\\\n", " "))
    rows: list[list[str]] = []
    for word in words:
        if word.startswith("-"):
            rows.append([word])
        elif word != "$@":
            rows[-1].append(word.replace("${VARS}", variables))
    made: list[str] = ["qemu-system-x86_64"]
    for row in rows:
        if row[0] in _LEFT_OUT:
            continue
        value = json.loads(row[1]) if row[1:] and row[1].startswith("{") else None
        if value is None:
            made += row
        elif row[0] == "-object" or value["driver"] in ("pcie-root-port", "vfio-pci"):
            made += _stand_in(row[0], value)
    return [*made, "-display", "none", "-qmp", "stdio"]


def _stand_in(option: str, value: dict[str, Any]) -> list[str]:
    if option == "-object":
        ram = {"qom-type": "memory-backend-ram", "reserve": False}
        return [option, json.dumps({**ram, "id": value["id"], "size": value["size"]})]
    if value["driver"] == "pcie-root-port":
        return [option, json.dumps(value)]
    memory = {"qom-type": "memory-backend-ram", "id": f"bar-{value['id']}", "size": BAR}
    memory |= {"reserve": False, "share": True}
    device = {"driver": "ivshmem-plain", "memdev": memory["id"]}
    device |= {key: value[key] for key in ("id", "bus", "addr")}
    return ["-object", json.dumps(memory), "-device", json.dumps(device)]


def large_bars(devices: list[dict[str, Any]]) -> list[int]:
    """The addresses of all BARs of that size, below bridges, too; -1 where one has none yet."""
    found = []
    for device in devices:
        found += [r["address"] for r in device["regions"] if r["size"] == BAR]
        found += large_bars(device.get("pci_bridge", {}).get("devices", []))
    return found


def main(script: Path) -> None:
    """Start the machine, ask until all of them have addresses, and end it."""
    variables = Path("/root/place-bars-vars.fd")
    variables.write_bytes(Path("/usr/share/OVMF/OVMF_VARS_4M.fd").read_bytes())
    command = argv(script.read_text(), str(variables))
    qemu = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert qemu.stdin and qemu.stdout
    print('{"execute": "qmp_capabilities"}', file=qemu.stdin, flush=True)
    end = time.monotonic() + LIMIT
    found: list[int] = []
    while time.monotonic() < end and (not found or -1 in found):
        time.sleep(1)
        print('{"execute": "query-pci"}', file=qemu.stdin, flush=True)
        for line in qemu.stdout:
            answer = json.loads(line).get("return")
            if isinstance(answer, list):
                found = [address for bus in answer for address in large_bars(bus["devices"])]
                break
        else:
            break
    qemu.kill()
    qemu.wait()
    variables.unlink()
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
