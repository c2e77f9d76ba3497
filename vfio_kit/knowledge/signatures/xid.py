"""Xid events: what the NVIDIA driver writes into the kernel log when a GPU misbehaves.

Source: NVIDIA, "GPU Deployment and Management: XID Errors" (https://docs.nvidia.com/deploy/
xid-errors/), its table for GPUs up to Volta and its catalogue for newer ones. 63, 64 and 48 as in
"Dynamic Page Retirement" (https://docs.nvidia.com/deploy/dynamic-page-retirement/).
"""

from dataclasses import dataclass

from vfio_kit.knowledge.signatures.remedies import RESTART_AND_LOOK, SERVICE
from vfio_kit.model.health import CheckStatus

_FAILED, _WARN = CheckStatus.FAILED, CheckStatus.WARN

_APPLICATION = "look at the program that ran then; the card only if it happens with others as well"
_RESTART = "stop the VM and start it again; if it comes back: another driver version, then the card"
_RETIRE = "restart the VM, so that the page is retired"


@dataclass(frozen=True, slots=True)
class Xid:
    """A row; the cause's name is xid-NUMBER."""

    number: int
    meaning: str
    remedy: str
    status: CheckStatus = _FAILED

    @property
    def cause(self) -> str:
        return f"xid-{self.number}"


XIDS: tuple[Xid, ...] = (
    Xid(8, "the GPU stopped processing a program's work", _APPLICATION, _WARN),
    Xid(13, "graphics engine exception, mostly an application's fault", _APPLICATION, _WARN),
    Xid(31, "GPU memory page fault, mostly an application's fault", _APPLICATION, _WARN),
    Xid(32, "invalid or corrupted push buffer: driver, PCIe link or memory", _RESTART),
    Xid(38, "driver firmware error", _RESTART),
    Xid(43, "the GPU stopped a program that had an error of its own", _APPLICATION, _WARN),
    Xid(45, "clean-up after an earlier error, or a program that was killed", _APPLICATION, _WARN),
    Xid(48, "double bit ECC error", SERVICE),
    Xid(56, "display engine error", _RESTART),
    Xid(57, "error while the video memory was programmed", SERVICE),
    Xid(61, "internal micro-controller warning", _RESTART),
    Xid(62, "internal micro-controller halt: hardware, heat or driver", _RESTART),
    Xid(63, "a memory page was retired or a row remapped", _RETIRE, _WARN),
    Xid(64, "a memory page could not be retired, or a row not remapped", SERVICE),
    Xid(68, "video decoder exception", _APPLICATION, _WARN),
    Xid(69, "graphics engine class error", _RESTART),
    Xid(74, "NVLink error", "check the NVLink bridge and both cards: nvidia-smi nvlink -s"),
    Xid(79, "the GPU has fallen off the bus", RESTART_AND_LOOK),
    Xid(92, "high rate of single bit ECC errors", SERVICE),
    Xid(94, "contained ECC error: one program lost", _RETIRE),
    Xid(95, "uncontained ECC error: every program lost", SERVICE),
    Xid(109, "context switch timeout", _APPLICATION, _WARN),
    Xid(119, "the GPU's system processor (GSP) did not answer", _RESTART),
    Xid(120, "error of the GPU's system processor (GSP)", _RESTART),
)
