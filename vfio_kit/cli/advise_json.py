"""The documents of `advise --json`; their schema is schemas/advise-1.schema.json."""

from typing import Any

from vfio_kit.model import PciAddress
from vfio_kit.model.advice import Advice, Answer, BranchAnswer, UnknownGpu, Version


def advice_json(
    advice: Advice, address: PciAddress | None, matches: tuple[Advice, ...]
) -> dict[str, Any]:
    ollama, host = advice.ollama, advice.host
    return {
        "known": True,
        "reason": None,
        "device": advice.ids,
        "address": None if address is None else str(address),
        "name": advice.name,
        "matches": [{"device": one.ids, "name": one.name} for one in matches],
        "chip": advice.chip,
        "architecture": advice.architecture,
        "compute_capability": str(advice.compute_capability),
        "cuda_toolkits": {"first": str(advice.first_cuda), "last": _text(advice.last_cuda)},
        "last_branch": _text(advice.last_branch),
        "source": advice.source,
        "branches": {str(branch.branch): _branch(branch) for branch in advice.branches},
        "open_modules": _answer(advice.open_modules),
        "nouveau_cuda": advice.nouveau.supported,
        "nouveau": _answer(advice.nouveau),
        "ollama": {
            "version": ollama.version,
            "driver": str(ollama.driver),
            "reason": ollama.reason,
            "source": ollama.source,
        },
        "host": {
            "kernel": host.kernel or None,
            "drivable": host.drivable.value,
            "branches": [str(branch) for branch in host.branches],
            "reason": host.reason,
            "source": host.source or None,
        },
        "recommendation": _recommendation(advice),
    }


def unknown_json(unknown: UnknownGpu, address: PciAddress | None) -> dict[str, Any]:
    """The same keys, with null for what is not known."""
    return {
        "known": False,
        "reason": unknown.reason,
        "device": unknown.ids,
        "address": None if address is None else str(address),
        "name": unknown.name,
        "matches": [],
        "chip": None,
        "architecture": None,
        "compute_capability": None,
        "cuda_toolkits": None,
        "last_branch": None,
        "source": None,
        "branches": {},
        "open_modules": None,
        "nouveau_cuda": None,
        "nouveau": None,
        "ollama": None,
        "host": None,
        "recommendation": None,
    }


def _branch(branch: BranchAnswer) -> dict[str, Any]:
    return _answer(branch.answer) | {
        "release": branch.release,
        "native_cuda": str(branch.native_cuda),
        "cuda": _text(branch.cuda),
        "ollama": branch.ollama,
        "guests": [
            {"guest": one.guest, "package": one.package, "source": one.source}
            for one in branch.guests
        ],
        "kernels": [
            {
                "first": str(one.first),
                "last": str(one.last),
                "stable": one.stable,
                "source": one.source,
            }
            for one in branch.kernels
        ],
    }


def _recommendation(advice: Advice) -> dict[str, Any]:
    one = advice.recommendation
    return {
        "verdict": one.way.value,
        "summary": one.summary,
        "driver": str(one.driver),
        "release": one.release,
        "cuda": str(one.cuda),
        "guest": one.guest,
        "installed": one.installed,
        "alternatives": [
            {"driver": str(other.driver), "cuda": str(other.cuda)} for other in one.alternatives
        ],
        "notes": list(one.notes),
    }


def _answer(answer: Answer) -> dict[str, Any]:
    return {"supported": answer.supported, "reason": answer.reason, "source": answer.source}


def _text(value: Version | int | None) -> str | None:
    return None if value is None else str(value)
