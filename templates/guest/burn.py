"""Every GPU computes for some seconds over most of its free memory, and is held to the result.

    python3 - SECONDS < burn.py

Runs in a guest, from stdin: Python 3.6 or later, libcuda.so.1 and nothing else. All GPUs work at
the same time, each for SECONDS once it is set up; the whole ends within SECONDS + 45 s, whatever
the GPUs do.

stdout is JSON lines: one a GPU, as it ends,
    {"device": 0, "name": "Tesla K80", "bus_id": "0000:01:00.0", "memory_mib": 9724,
     "seconds": 10.2, "iterations": 4, "mismatches": 0, "ok": true, "error": null}
and at last, always
    {"result": "PASS", "error": null}  or  {"result": "FAIL", "error": "why"}
Exit status 0 PASS, 1 FAIL, 2 usage.

What an iteration does: a kernel fills a window of the memory, each word from its number by rounds
of integer and float arithmetic; a second run computes each word again, in another thread, and
counts those that differ from memory; a few words are computed here, too, on the CPU. The next
iteration goes on behind the window, with other numbers.
"""

import ctypes
import json
import os
import random
import struct
import sys
import threading
import time

STARTUP = 45.0
CHUNK = 1 << 24  # words of one launch: milliseconds, so that the time is kept
ROUNDS = 64
SAMPLES = 32
SHARE = 0.85  # of the free memory

# PTX of a capability runs on it and on all later ones; a driver knows the version of PTX that came
# with each capability it drives. Source: PTX ISA, "Release Notes"; LLVM, NVPTX.td.
TARGETS = (
    ((12, 0), "8.7", "sm_120"),
    ((10, 0), "8.6", "sm_100"),
    ((9, 0), "7.8", "sm_90"),
    ((8, 0), "7.0", "sm_80"),
    ((7, 0), "6.0", "sm_70"),
    ((6, 0), "5.0", "sm_60"),
    ((5, 0), "4.0", "sm_50"),
    ((3, 0), "3.0", "sm_30"),
)

# faults is 0 to fill; else the address of a 64-bit count. The comparing run goes from the end, so
# that a word is computed again by another lane of another multiprocessor.
PTX = """
.version {version}
.target {target}
.address_size 64
.visible .entry burn(
    .param .u64 base, .param .u64 faults, .param .u32 words, .param .u32 seed, .param .u32 rounds)
{{
    .reg .pred %p<4>;
    .reg .b32 %r<14>;
    .reg .f32 %f<5>;
    .reg .b64 %d<6>;
    ld.param.u64 %d1, [base];
    ld.param.u64 %d2, [faults];
    ld.param.u32 %r1, [words];
    ld.param.u32 %r2, [seed];
    ld.param.u32 %r3, [rounds];
    mov.u32 %r4, %ctaid.x;
    mov.u32 %r5, %ntid.x;
    mov.u32 %r6, %tid.x;
    mad.lo.u32 %r7, %r4, %r5, %r6;
    setp.ge.u32 %p1, %r7, %r1;
    @%p1 bra END;
    setp.eq.u64 %p2, %d2, 0;
    @%p2 bra START;
    sub.u32 %r8, %r1, %r7;
    sub.u32 %r7, %r8, 1;
START:
    mad.lo.u32 %r9, %r7, 2654435761, %r2;
    shr.u32 %r10, %r9, 9;
    or.b32 %r10, %r10, 0x3f800000;
    mov.b32 %f1, %r10;
    add.rn.f32 %f1, %f1, 0fBF800000;
    mul.rn.f32 %f1, %f1, 0f3F400000;
    add.rn.f32 %f1, %f1, 0f3E000000;
ROUND:
    mad.lo.u32 %r9, %r9, 1664525, 1013904223;
    shr.u32 %r10, %r9, 15;
    xor.b32 %r9, %r9, %r10;
    mul.rn.f32 %f2, %f1, 0f4079999A;
    neg.f32 %f3, %f2;
    fma.rn.f32 %f1, %f3, %f1, %f2;
    mov.b32 %r11, %f1;
    xor.b32 %r9, %r9, %r11;
    sub.u32 %r3, %r3, 1;
    setp.ne.u32 %p3, %r3, 0;
    @%p3 bra ROUND;
    mul.wide.u32 %d3, %r7, 4;
    cvta.to.global.u64 %d4, %d1;
    add.u64 %d4, %d4, %d3;
    @!%p2 bra COMPARE;
    st.global.u32 [%d4], %r9;
    bra END;
COMPARE:
    ld.global.u32 %r12, [%d4];
    setp.eq.u32 %p1, %r12, %r9;
    @%p1 bra END;
    cvta.to.global.u64 %d5, %d2;
    red.global.add.u64 [%d5], 1;
END:
    ret;
}}
"""


def single(value):
    """The nearest 32-bit float."""
    return struct.unpack("<f", struct.pack("<f", value))[0]


R = single(3.9)


def expected(word, seed, rounds):
    """What the kernel puts into a word.

    A 64-bit float rounded to 32 bits is what the GPU's single operation gives: for a sum or a
    product because 53 >= 2 x 24 + 2 bits; for t - t x, x in [1/16, 1), because it is a multiple of
    2^-52 below 1, and so exact in 64 bits.
    """
    s = (word * 2654435761 + seed) & 0xFFFFFFFF
    x = struct.unpack("<f", struct.pack("<I", s >> 9 | 0x3F800000))[0]
    x = single(single((x - 1.0) * 0.75) + 0.125)
    for _ in range(rounds):
        s = (s * 1664525 + 1013904223) & 0xFFFFFFFF
        s ^= s >> 15
        t = single(x * R)
        x = single(t - t * x)
        s ^= struct.unpack("<I", struct.pack("<f", x))[0]
    return s


class Failure(Exception):
    """What is said in `error`."""


class Cuda:
    """libcuda.so.1: cuda.cuInit(0) raises Failure unless it returns CUDA_SUCCESS."""

    def __init__(self):
        try:
            self._library = ctypes.CDLL("libcuda.so.1")
        except OSError as error:
            raise Failure("no usable libcuda.so.1: %s" % error) from None

    def __getattr__(self, name):
        try:
            function = getattr(self._library, name)
        except AttributeError:
            raise Failure("libcuda.so.1 has no %s: the driver is too old" % name) from None

        def call(*arguments):
            status = function(*arguments)
            if status:
                raise Failure("%s: %s" % (name, self._error(status)))

        return call

    def _error(self, status):
        text = ctypes.c_char_p()
        try:
            self._library.cuGetErrorName(status, ctypes.byref(text))
        except AttributeError:  # before driver 331
            text.value = None
        return "%s (%d)" % ((text.value or b"error").decode(), status)


def number(function, *arguments, kind=ctypes.c_int):
    """What a function gives by its first argument, a pointer."""
    value = kind()
    function(ctypes.byref(value), *arguments)
    return value.value


def text_of(function, device):
    buffer = ctypes.create_string_buffer(256)
    function(buffer, ctypes.c_int(len(buffer)), device)
    return buffer.value.decode("utf-8", "replace")


class Gpu:
    """One GPU and its outcome; `work` is for a thread of its own."""

    def __init__(self, cuda, index):
        self.cuda, self.index = cuda, index
        self.device = ctypes.c_int(number(cuda.cuDeviceGet, ctypes.c_int(index)))
        self.name = text_of(cuda.cuDeviceGetName, self.device)
        self.bus_id = text_of(cuda.cuDeviceGetPCIBusId, self.device).lower()
        self.bytes = self.iterations = self.mismatches = 0
        self.seconds = 0.0
        self.error, self.ended, self.doing = None, False, "nothing yet"

    def __str__(self):
        return "GPU %d (%s, %s)" % (self.index, self.name, self.bus_id)

    def line(self):
        return {
            "device": self.index,
            "name": self.name,
            "bus_id": self.bus_id,
            "memory_mib": self.bytes >> 20,
            "seconds": round(self.seconds, 1),
            "iterations": self.iterations,
            "mismatches": self.mismatches,
            "ok": self.ended and self.error is None,
            "error": self.error,
        }

    def work(self, seconds):
        try:
            self.doing = "set-up"
            self._set_up()
            self.doing = "computing"
            begin = time.monotonic()
            position = 0
            while self.seconds < seconds or not self.iterations:
                position = self._iterate(position, begin, seconds)
                self.iterations += 1
                self.seconds = time.monotonic() - begin
            self.doing = "clearing up"
            self.cuda.cuCtxDestroy_v2(self._context)
            if self.mismatches:
                self.error = "%d words are not what they should be" % self.mismatches
        except Failure as failure:
            self.error = str(failure)
        self.ended = True
        say(self.line())

    def _set_up(self):
        cuda = self.cuda
        self._context = ctypes.c_void_p()
        # 4: CU_CTX_SCHED_BLOCKING_SYNC, so that waiting takes no CPU
        cuda.cuCtxCreate_v2(ctypes.byref(self._context), ctypes.c_uint(4), self.device)
        module, self._kernel = ctypes.c_void_p(), ctypes.c_void_p()
        cuda.cuModuleLoadData(ctypes.byref(module), ptx(self.capability()).encode())
        cuda.cuModuleGetFunction(ctypes.byref(self._kernel), module, b"burn")
        self._faults = self._allocate(8)
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        cuda.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total))
        size = int(free.value * SHARE) & ~0xFFF
        while True:  # free memory may lie in pieces
            try:
                self._memory = self._allocate(size)
                break
            except Failure:
                size = size // 2 & ~0xFFF
                if size < 1 << 16:
                    raise
        self.bytes = size

    def capability(self):
        # 75, 76: CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR
        ask = self.cuda.cuDeviceGetAttribute
        return tuple(number(ask, ctypes.c_int(which), self.device) for which in (75, 76))

    def _allocate(self, size):
        kind = ctypes.c_uint64
        return number(self.cuda.cuMemAlloc_v2, ctypes.c_size_t(size), kind=kind)

    def _iterate(self, position, begin, seconds):
        """One window from the chunk `position` on; returns the chunk behind it."""
        words = self.bytes // 4
        chunks = (words + CHUNK - 1) // CHUNK
        # Filling may take half of the time that is left: comparing takes as long again.
        left = seconds - (time.monotonic() - begin)
        half = time.monotonic() + left / 2
        window = []
        while len(window) < chunks and (not window or time.monotonic() < half):
            chunk = (position + len(window)) % chunks
            start = chunk * CHUNK
            seed = (self.iterations * 0x9E3779B1 + chunk * 0x85EBCA77 + 1) & 0xFFFFFFFF
            window.append((start, min(CHUNK, words - start), seed))
            self._launch(*window[-1], faults=0)
        faults = ctypes.c_uint64(self._faults)
        self.cuda.cuMemsetD32_v2(faults, ctypes.c_uint(0), ctypes.c_size_t(2))
        for part in window:
            self._launch(*part, faults=self._faults)
        self.mismatches += self._read(self._faults, ctypes.c_uint64)
        for _ in range(SAMPLES):
            start, count, seed = random.choice(window)
            word = random.randrange(count)
            found = self._read(self._memory + 4 * (start + word), ctypes.c_uint32)
            self.mismatches += found != expected(word, seed, ROUNDS)
        return (position + len(window)) % chunks

    def _launch(self, start, count, seed, faults):
        values = (
            ctypes.c_uint64(self._memory + 4 * start),
            ctypes.c_uint64(faults),
            ctypes.c_uint32(count),
            ctypes.c_uint32(seed),
            ctypes.c_uint32(ROUNDS),
        )
        pointers = (ctypes.c_void_p * len(values))(*map(ctypes.addressof, values))
        grid = [ctypes.c_uint(n) for n in ((count + 255) // 256, 1, 1, 256, 1, 1, 0)]
        self.cuda.cuLaunchKernel(self._kernel, *grid, None, pointers, None)
        self.cuda.cuCtxSynchronize()

    def _read(self, address, kind):
        value = kind()
        size = ctypes.c_size_t(ctypes.sizeof(value))
        self.cuda.cuMemcpyDtoH_v2(ctypes.byref(value), ctypes.c_uint64(address), size)
        return value.value


def ptx(capability):
    """The kernel for a compute capability, as (5, 2); the driver compiles it."""
    for first, version, target in TARGETS:
        if capability >= first:
            return PTX.format(version=version, target=target)
    raise Failure("compute capability %d.%d is below 3.0" % capability)


speaking = threading.Lock()


def say(document):
    with speaking:
        print(json.dumps(document), flush=True)


def finish(error):
    say({"result": "FAIL" if error else "PASS", "error": error or None})
    return 1 if error else 0


def too_late(gpus, seconds):
    """Told by a thread of its own: a call that hangs in the driver cannot be broken off."""
    hung = ["%s: %s" % (gpu, gpu.doing) for gpu in gpus if not gpu.ended]
    where = "; ".join(hung) or "the driver does not start"
    os._exit(finish("no end within %.0f s: %s" % (seconds, where)))


def main(arguments):
    try:
        (seconds,) = map(float, arguments)
        if not 0 < seconds < 1e6:
            raise ValueError
    except ValueError:
        print("usage: burn.py SECONDS", file=sys.stderr)
        return 2
    gpus = []
    end = seconds + STARTUP
    watchdog = threading.Timer(end, too_late, (gpus, end))
    watchdog.daemon = True
    watchdog.start()
    try:
        cuda = Cuda()
        cuda.cuInit(ctypes.c_uint(0))
        gpus.extend(Gpu(cuda, index) for index in range(number(cuda.cuDeviceGetCount)))
    except Failure as failure:
        return finish(str(failure))
    threads = [threading.Thread(target=gpu.work, args=(seconds,)) for gpu in gpus]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wrong = ["%s: %s" % (gpu, gpu.error or "broke off") for gpu in gpus if not gpu.line()["ok"]]
    return finish("; ".join(wrong) if gpus else "CUDA sees no GPU")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
