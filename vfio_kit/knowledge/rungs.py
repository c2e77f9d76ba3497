"""The rungs of `verify`, from the ground up. Their codes are a contract: docs/verify.md."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rung:
    """A row: `needs` are the rungs below without which this one cannot hold."""

    code: str
    title: str
    needs: tuple[str, ...] = ()


SSH = "ssh"

RUNGS: tuple[Rung, ...] = (
    Rung(SSH, "the host key is the known one, and we are let in"),
    Rung("cloud-init", "cloud-init has ended without an error", (SSH,)),
    Rung("pci", "the GPU's functions are there, with the right ids", (SSH,)),
    Rung("link", "the PCIe link has the width and speed that card and port can", ("pci",)),
    Rung("bar1", "every GPU has its BARs, BAR 1 among them", ("pci",)),
    Rung("module", "the nvidia module is loaded, and no other driver holds a card", ("pci",)),
    Rung("nvidia-smi", "nvidia-smi answers, and lists every GPU", ("bar1", "module")),
    Rung("gpu-state", "ECC, page retirement, temperature, throttling", ("nvidia-smi",)),
    Rung("kernel-log", "no Xid, RmInitAdapter or AER errors since boot", (SSH,)),
    Rung("device-query", "deviceQuery passes for every GPU", ("nvidia-smi",)),
    Rung("burn", "every GPU computes, and computes right", ("device-query",)),
    Rung("expect", "what --expect asks for holds", (SSH,)),
)
