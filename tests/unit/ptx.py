"""Runs the few instructions of PTX that our kernel consists of: exact, and thread by thread.

Source: PTX ISA, "Instruction Set". Floats are fractions here, rounded once, by hand: not as
the kernel's expectation is computed on the CPU.
"""

import re
import struct
from collections.abc import Callable
from fractions import Fraction

Memory = dict[int, int]
"""Words of 32 bits by their address, in bytes."""

_U32, _U64 = (1 << 32) - 1, (1 << 64) - 1
_INSTRUCTION = re.compile(r"(?:@(!?)(%\w+)\s+)?([a-z][\w.]*)\s*(.*)")


def nearest(value: Fraction) -> Fraction:
    """The nearest float of 32 bits, ties to even; normal numbers and 0 alone."""
    if not value:
        return value
    exponent = 0
    while abs(value) >= Fraction(2) ** (exponent + 1):
        exponent += 1
    while abs(value) < Fraction(2) ** exponent:
        exponent -= 1
    assert -126 <= exponent <= 127
    unit = Fraction(2) ** (exponent - 23)
    return round(value / unit) * unit


def as_float(bits: int) -> Fraction:
    return Fraction(struct.unpack("<f", struct.pack("<I", bits))[0])


def as_bits(value: Fraction) -> int:
    return int(struct.unpack("<I", struct.pack("<f", float(value)))[0])


def _shift(value: int, by: int) -> int:
    return value >> by


_INTEGER: dict[str, Callable[..., int]] = {
    "mov.u32": lambda a: a,
    "mad.lo.u32": lambda a, b, c: a * b + c & _U32,
    "sub.u32": lambda a, b: a - b & _U32,
    "shr.u32": _shift,
    "or.b32": lambda a, b: a | b,
    "xor.b32": lambda a, b: a ^ b,
    "mul.wide.u32": lambda a, b: a * b,
    "add.u64": lambda a, b: a + b & _U64,
    "cvta.to.global.u64": lambda a: a,
    "setp.ge.u32": lambda a, b: int(a >= b),
    "setp.eq.u32": lambda a, b: int(a == b),
    "setp.ne.u32": lambda a, b: int(a != b),
    "setp.eq.u64": lambda a, b: int(a == b),
}
_FLOAT: dict[str, Callable[..., Fraction]] = {
    "add.rn.f32": lambda a, b: nearest(a + b),
    "mul.rn.f32": lambda a, b: nearest(a * b),
    "fma.rn.f32": lambda a, b, c: nearest(a * b + c),
    "neg.f32": lambda a: -a,
}


class Kernel:
    """The one entry of a text in PTX."""

    def __init__(self, text: str) -> None:
        header, _, body = text.partition("{")
        self.parameters = re.findall(r"\.param\s+\.(u\d+)\s+(\w+)", header)
        self._code: list[tuple[str, ...]] = []
        self._labels: dict[str, int] = {}
        for line in body.rstrip().rstrip("}").replace(";", "").splitlines():
            words = line.strip()
            if words.endswith(":"):
                self._labels[words[:-1]] = len(self._code)
            elif words and not words.startswith(".reg"):
                match = _INSTRUCTION.fullmatch(words)
                assert match, words
                negated, guard, name, operands = match.groups()
                self._code.append(
                    (negated or "", guard or "", name, *re.split(r",\s*", operands or ""))
                )

    def launch(self, blocks: int, threads: int, memory: Memory, **values: int) -> None:
        assert [name for _, name in self.parameters] == list(values)
        for block in range(blocks):
            for thread in range(threads):
                special = {"%ctaid.x": block, "%ntid.x": threads, "%tid.x": thread}
                self._run(special, memory, values)

    def _run(self, special: dict[str, int], memory: Memory, values: dict[str, int]) -> None:
        integers: dict[str, int] = dict(special)
        floats: dict[str, Fraction] = {}

        def integer(word: str) -> int:
            return integers[word] if word.startswith("%") else int(word, 0)

        def real(word: str) -> Fraction:
            return floats[word] if word.startswith("%") else as_float(int(word[2:], 16))

        place = 0
        while True:
            negated, guard, name, *operands = self._code[place]
            place += 1
            if guard and bool(integers[guard]) is bool(negated):
                continue
            match name:
                case "ret":
                    return
                case "bra":
                    place = self._labels[operands[0]]
                case "mov.b32":  # the bits of one kind of register into the other
                    to, source = operands
                    if to.startswith("%f"):
                        floats[to] = as_float(integers[source])
                    else:
                        integers[to] = as_bits(floats[source])
                case "ld.param.u64" | "ld.param.u32":
                    integers[operands[0]] = values[operands[1].strip("[]")]
                case "ld.global.u32":
                    integers[operands[0]] = memory[integer(operands[1].strip("[]"))]
                case "st.global.u32":
                    memory[integer(operands[0].strip("[]"))] = integer(operands[1])
                case "red.global.add.u64":
                    memory[integer(operands[0].strip("[]"))] += integer(operands[1])
                case _ if name in _FLOAT:
                    floats[operands[0]] = _FLOAT[name](*map(real, operands[1:]))
                case _:
                    integers[operands[0]] = _INTEGER[name](*map(integer, operands[1:]))
