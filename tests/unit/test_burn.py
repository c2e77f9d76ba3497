"""The burn in a guest: its kernel, run by an interpreter of PTX; the whole, on a stand-in libcuda.

No GPU is needed. The kernel's text was assembled by NVIDIA's ptxas 11.8, 12.9 and 13.5 as well.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.unit.ptx import Kernel, Memory
from tests.unit.tools import accepts
from vfio_kit.assets import asset_dir

BURN = asset_dir("templates") / "guest/burn.py"


SCRIPT = BURN.read_text("utf-8")


def load() -> ModuleType:
    """The script as a module; an import would leave its bytecode among the templates."""
    module = ModuleType("burn")
    exec(compile(SCRIPT, str(BURN), "exec"), module.__dict__)
    return module


burn = load()

# The kernel


BASE, FAULTS = 0x7F0000000000, 0x7F0000F00000


def launch(memory: Memory, words: int, seed: int, faults: int = 0, rounds: int = 64) -> None:
    kernel = Kernel(burn.ptx((5, 2)))
    blocks = -(-words // 8)
    kernel.launch(
        blocks, 8, memory, base=BASE, faults=faults, words=words, seed=seed, rounds=rounds
    )


@pytest.mark.parametrize("seed", [1, 0x9E3779B1, 0xFFFFFFFF])
def test_the_kernel_fills_each_word_with_what_the_cpu_expects(seed: int) -> None:
    memory: Memory = {}
    launch(memory, 27, seed)
    assert memory == {BASE + 4 * word: burn.expected(word, seed, 64) for word in range(27)}
    assert len(set(memory.values())) == 27


def test_the_kernel_counts_the_words_that_changed() -> None:
    memory: Memory = {FAULTS: 0}
    launch(memory, 27, 5)
    launch(memory, 27, 5, FAULTS)
    assert memory[FAULTS] == 0
    memory[BASE] ^= 1
    memory[BASE + 4 * 26] ^= 1 << 31
    launch(memory, 27, 5, FAULTS)
    assert memory[FAULTS] == 2


def test_words_of_another_seed_all_differ() -> None:
    memory: Memory = {FAULTS: 0}
    launch(memory, 27, 5)
    launch(memory, 27, 6, FAULTS)
    assert memory[FAULTS] == 27


@pytest.mark.parametrize(
    ("capability", "head"),
    [
        ((3, 0), ".version 3.0\n.target sm_30\n"),
        ((3, 7), ".version 3.0\n.target sm_30\n"),
        ((5, 2), ".version 4.0\n.target sm_50\n"),
        ((6, 1), ".version 5.0\n.target sm_60\n"),
        ((7, 5), ".version 6.0\n.target sm_70\n"),
        ((8, 9), ".version 7.0\n.target sm_80\n"),
        ((9, 0), ".version 7.8\n.target sm_90\n"),
        ((10, 3), ".version 8.6\n.target sm_100\n"),
        ((12, 1), ".version 8.7\n.target sm_120\n"),
        ((13, 0), ".version 8.7\n.target sm_120\n"),
    ],
)
def test_the_target_is_one_that_the_cards_first_driver_knows(
    capability: tuple[int, int], head: str
) -> None:
    assert burn.ptx(capability).startswith(f"\n{head}")


def test_fermi_is_too_old() -> None:
    with pytest.raises(burn.Failure, match=r"compute capability 2\.1 is below 3\.0"):
        burn.ptx((2, 1))


# The whole, with a libcuda.so.1 that has no GPU behind it


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("libcuda")
    source = Path(__file__).with_name("libcuda.c")
    accepts(
        *("gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-ffp-contract=off"),
        *("-o", folder / "libcuda.so.1", source, "-lm"),
    )
    return folder


BRIEFLY = "0.1"


def with_constant(name: str, value: str, other: str) -> str:
    """The script with another value of a constant."""
    before = f"\n{name} = {value}"
    assert SCRIPT.count(before) == 1
    return SCRIPT.replace(before, f"\n{name} = {other}")


def run(
    library: Path, *arguments: str, script: str = SCRIPT, **environment: str
) -> tuple[int, list[dict[str, Any]]]:
    """Exit status and the documents that the script, given on stdin, printed."""
    done = subprocess.run(
        [sys.executable, "-", *arguments],
        check=False,
        input=script,
        capture_output=True,
        text=True,
        env={**os.environ, "LD_LIBRARY_PATH": str(library), **environment},
        timeout=60,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def test_a_sound_gpu_passes(library: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    status, (gpu, result) = run(library, "0.5", CUDA_LOG=str(log))
    assert (status, result) == (0, {"result": "PASS", "error": None})
    assert gpu.pop("iterations") > 1
    assert 0.5 <= gpu.pop("seconds") < 3.0
    assert gpu == {
        "device": 0,
        "name": "Stand-in 0",
        "bus_id": "0000:0a:00.0",
        "memory_mib": 0,
        "mismatches": 0,
        "ok": True,
        "error": None,
    }
    said = log.read_text()
    assert ".version 4.0\n.target sm_50\n" in said
    calls = [line for line in said.splitlines() if line.startswith("cu")]
    assert (calls[0], calls[-1]) == ("cuInit", "cuCtxDestroy_v2")
    assert calls.count("cuLaunchKernel") == calls.count("cuCtxSynchronize")


def test_several_gpus_work_at_the_same_time(library: Path) -> None:
    begin = time.monotonic()
    status, (*gpus, result) = run(library, "0.3", CUDA_DEVICES="8")
    assert time.monotonic() - begin < 6
    assert (status, result["result"]) == (0, "PASS")
    assert sorted(gpu["device"] for gpu in gpus) == list(range(8))
    assert all(gpu["ok"] for gpu in gpus)


@pytest.mark.parametrize("flip", ["fill", "lane", "stuck"])
def test_a_wrong_bit_is_found(library: Path, flip: str) -> None:
    status, (gpu, result) = run(library, BRIEFLY, CUDA_FLIP=flip)
    assert (status, gpu["ok"], result["result"]) == (1, False, "FAIL")
    assert gpu["mismatches"] > 0
    assert gpu["error"] == f"{gpu['mismatches']} words are not what they should be"
    assert result["error"] == f"GPU 0 (Stand-in 0, 0000:0a:00.0): {gpu['error']}"


def test_of_several_the_wrong_one_is_named(library: Path) -> None:
    status, (*gpus, result) = run(
        library, BRIEFLY, CUDA_DEVICES="2", CUDA_FLIP="fill", CUDA_FLIP_DEVICE="1"
    )
    assert status == 1
    assert {gpu["device"]: gpu["ok"] for gpu in gpus} == {0: True, 1: False}
    assert result["error"].startswith("GPU 1 (Stand-in 1, 0000:0b:00.0): ")


def test_memory_larger_than_a_launch_is_filled_in_several(library: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    small = with_constant("CHUNK", "1 << 24", "4096")
    status, (gpu, result) = run(
        library, BRIEFLY, script=small, CUDA_FREE="62000", CUDA_LOG=str(log)
    )
    assert (status, gpu["ok"], result["result"]) == (0, True, "PASS")
    # 0.85 x 62000 bytes are 12 pages, so 3 chunks, each filled and compared.
    calls = log.read_text().split()
    assert calls.count("cuLaunchKernel") >= 6
    assert calls.count("cuLaunchKernel") % 2 == 0
    status, (gpu, _result) = run(
        library, BRIEFLY, script=small, CUDA_FREE="62000", CUDA_FLIP="fill"
    )
    assert (status, gpu["ok"]) == (1, False)


@pytest.mark.unit_long
def test_memory_in_pieces_is_used_as_far_as_it_goes(library: Path) -> None:
    status, (gpu, _result) = run(library, BRIEFLY, CUDA_FREE="8388608", CUDA_PIECE="2097152")
    assert (status, gpu["ok"], gpu["memory_mib"]) == (0, True, 1)


@pytest.mark.parametrize(
    ("failing", "error"),
    [
        ("cuInit:100", "cuInit: CUDA_ERROR_NO_DEVICE (100)"),
        ("cuInit:803", "cuInit: CUDA_ERROR_UNKNOWN (803)"),
        ("cuDeviceGetCount:999", "cuDeviceGetCount: CUDA_ERROR_UNKNOWN (999)"),
    ],
)
def test_a_driver_that_does_not_start(library: Path, failing: str, error: str) -> None:
    assert run(library, BRIEFLY, CUDA_FAIL=failing) == (1, [{"result": "FAIL", "error": error}])


@pytest.mark.parametrize(
    "failing",
    [
        "cuCtxCreate_v2:2",
        "cuModuleLoadData:218",
        "cuModuleGetFunction:500",
        "cuMemGetInfo_v2:999",
        "cuMemAlloc_v2:2",
        "cuMemsetD32_v2:999",
        "cuLaunchKernel:719",
        "cuCtxSynchronize:719",
        "cuMemcpyDtoH_v2:719",
        "cuCtxDestroy_v2:719",
    ],
)
def test_a_gpu_that_breaks_off_is_told_with_the_call(library: Path, failing: str) -> None:
    call, _, number = failing.partition(":")
    status, (gpu, result) = run(library, BRIEFLY, CUDA_FAIL=failing)
    assert (status, gpu["ok"], result["result"]) == (1, False, "FAIL")
    assert gpu["error"].startswith(f"{call}: CUDA_ERROR_")
    assert gpu["error"].endswith(f"({number})")
    assert gpu["error"] in result["error"]


def test_a_card_that_is_too_old(library: Path) -> None:
    status, (gpu, _result) = run(library, BRIEFLY, CUDA_CAPABILITY="21")
    assert (status, gpu["error"]) == (1, "compute capability 2.1 is below 3.0")


def test_no_gpu(library: Path) -> None:
    status, documents = run(library, BRIEFLY, CUDA_DEVICES="0")
    assert (status, documents) == (1, [{"result": "FAIL", "error": "CUDA sees no GPU"}])


@pytest.mark.parametrize(
    ("call", "where"),
    [
        ("cuInit", "the driver does not start"),
        ("cuCtxCreate_v2", "GPU 0 (Stand-in 0, 0000:0a:00.0): set-up"),
        ("cuCtxSynchronize", "GPU 0 (Stand-in 0, 0000:0a:00.0): computing"),
    ],
)
def test_a_driver_that_hangs_is_not_waited_for(library: Path, call: str, where: str) -> None:
    begin = time.monotonic()
    impatient = with_constant("STARTUP", "45.0", "0.0")
    status, documents = run(library, BRIEFLY, script=impatient, CUDA_HANG=call)
    assert time.monotonic() - begin < 10
    assert (status, documents) == (
        1,
        [{"result": "FAIL", "error": f"no end within 0 s: {where}"}],
    )


def test_a_machine_without_the_driver(tmp_path: Path) -> None:
    """The real way: the loader's own words."""
    status, (result,) = run(tmp_path, BRIEFLY)
    assert (status, result["result"]) == (1, "FAIL")
    assert result["error"].startswith("no usable libcuda.so.1: libcuda.so.1: cannot open")


def test_a_driver_that_lacks_a_function(tmp_path: Path) -> None:
    source = tmp_path / "old.c"
    source.write_text("int cuInit(unsigned flags) { return (int)flags; }\n")
    accepts("gcc", "-shared", "-fPIC", "-o", tmp_path / "libcuda.so.1", source)
    status, (result,) = run(tmp_path, BRIEFLY)
    assert status == 1
    assert result["error"] == "libcuda.so.1 has no cuDeviceGetCount: the driver is too old"


@pytest.mark.parametrize(
    "arguments", [(), ("0",), ("-1",), ("nan",), ("inf",), ("soon",), ("1", "2")]
)
def test_seconds_are_a_number(library: Path, arguments: tuple[str, ...]) -> None:
    assert run(library, *arguments) == (2, [])
