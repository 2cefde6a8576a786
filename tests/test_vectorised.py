"""The hot loops in the built library: made of vector instructions, with their sums in registers.

Nothing in a kernel's source says that the compiler vectorised it. These tests read the machine code, so that
neither a new compiler nor an innocent change undoes it unseen.
"""

from __future__ import annotations

import functools
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import NamedTuple

import pytest

import firesteel

LIBRARY = firesteel._core.__file__
PRODUCT = "vfn?m(add|sub)"
# Kernels are `simd::run_v3<K>` (AVX2) and `run_v4<K>` (AVX-512). These are parts of K's mangled name, for
# float32, and what their loops must do to vectors.
MAPS = {
    "add": ("3map7ZipRowsff.*binary5OnNum.*3Add", "vaddps"),
    "mul": ("3map7ZipRowsff.*binary5OnNum.*3Mul", "vmulps"),
    "div": ("3map7ZipRowsff.*binary7OnFloat.*3Div", "vdivps"),
    "maximum": ("3map7ZipRowsff.*binary5OnNum.*7Maximum", "v(max|cmp)"),
    "relu": ("3map6MapRunff.*unary5OnNum.*4Relu", "v(max|cmp)"),
    "exp": ("3map6MapRunff.*unary7OnFloat.*3Exp", PRODUCT),
    "log": ("3map6MapRunff.*unary7OnFloat.*3Log", PRODUCT),
    "tanh": ("3map6MapRunff.*unary7OnFloat.*4Tanh", PRODUCT),
    "sigmoid": ("3map6MapRunff.*unary7OnFloat.*7Sigmoid", PRODUCT),
    "silu": ("3map6MapRunff.*unary7OnFloat.*4Silu", PRODUCT),
    "sin": ("3map6MapRunff.*unary7OnFloat.*3Sin", PRODUCT),
    "gelu": ("3map6MapRunff.*activation.*4Gelu", PRODUCT),
    "gelu, backward": ("3map7ZipRowsff.*fused5Slope.*activation4Gelu", PRODUCT),
    "tanh, backward": ("3map7ZipRowsff.*fused5Slope.*8TanhRule", "vmulps"),
    "float64 to float32": ("3map6MapRundf.*4copy4Cast", "vcvtpd2ps"),
    "sum of rows": ("6reduce4Rowsff.*6Itself.*4Plus", "vaddps"),
    "sum of columns": ("6reduce7Columnsff.*6Itself.*4Plus", "vaddps"),
    "softmax": ("7softmax7ForwardfKb0_", PRODUCT),
    "softmax, backward": ("7softmax8BackwardfKb0_", "vmulps"),
    "cross entropy": ("4loss7Forwardf", PRODUCT),
    "layer norm": ("4norm7Forwardf", "vmulps"),
    "batch norm": ("10batch_norm3Mapf", f"vmulps|{PRODUCT}"),
    "strided operands": ("8relayout5Planem", "vmov|vperm|vunpck|vshuf"),
    "x[rows, columns]": ("9positions9Positions", "vpadd"),
    "sort": ("4sort8Extremesf", "vpm(in|ax)u"),
    "topk": ("3top11BestOfPartsf", "vpminu"),
    "convolution, bias": ("4conv9grad_bias7Channelf", "vaddps"),
    "SGD": ("5optim3Sgdf", PRODUCT),
    "Adam": ("5optim4Adamf", "vsqrtps"),
}
# And kernels whose sums stand in registers: how many multiply-adds a turn of their longest loop has at least.
SUMS = {
    "matrix product, packed": ("4gemm6packed9Rectanglef", 12),
    "matrix product, unpacked": ("4gemm6direct5Stripf", 12),
    "matrix product by lines": ("4gemm5inner5Stripf", 4),
    "convolution": ("4conv4pass5Tasksf", 8),
    "convolution, weight": ("4conv5outer4Taskf", 8),
    "convolution, weight of few channels": ("4conv4dots5Tasksf", 4),
}


class Code(NamedTuple):
    """An instruction: where it is, what it does, and its operands as AT&T's syntax writes them."""

    address: int
    name: str
    operands: str

    @property
    def is_packed(self) -> bool:
        return bool(re.search(r"%[yz]mm", self.operands)) or self.name.endswith(("psy", "psz"))

    @property
    def is_fma(self) -> bool:
        return bool(re.match(PRODUCT, self.name))

    @property
    def stores_a_vector_on_the_stack(self) -> bool:
        return self.name.startswith("vmov") and bool(re.search(r"%[yz]mm\d+,[^,]*\(%rsp\)", self.operands))


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@functools.cache
def _kernels() -> list[tuple[str, int, int]]:
    """Names, begins and ends of all kernels."""
    if platform.machine() != "x86_64" or not all(map(shutil.which, ("nm", "objdump"))):
        pytest.skip("needs binutils on x86-64")
    lines = (line.split() for line in _run("nm", "--print-size", "--defined-only", LIBRARY).splitlines())
    found = [
        (line[3], int(line[0], 16), int(line[0], 16) + int(line[1], 16))
        for line in lines
        if len(line) == 4 and re.search("4simd6run_v[34]", line[3])
    ]
    if not found:
        pytest.skip("the library was stripped of its symbols")
    return found


def _code(begin: int, end: int) -> Iterator[Code]:
    lines = _run(
        "objdump", "-d", "--no-show-raw-insn", f"--start-address={begin}", f"--stop-address={end}", LIBRARY
    )
    for line in lines.splitlines():
        if match := re.match(r"\s+([0-9a-f]+):\s+(\S+)\s*(.*)", line):
            yield Code(int(match[1], 16), match[2], match[3])


def _loops(code: list[Code]) -> list[list[Code]]:
    """The innermost loops: from the target of a jump back to the jump, with no other such in between."""
    places = {instruction.address: place for place, instruction in enumerate(code)}
    spans = []
    for place, (_, name, operands) in enumerate(code):
        target = re.match(r"[0-9a-f]+", operands) if name.startswith("j") else None
        begin = places.get(int(target[0], 16), place) if target else place
        if begin < place:
            spans.append((begin, place))
    inner = [a for a in spans if not any(b != a and a[0] <= b[0] and b[1] <= a[1] for b in spans)]
    return [code[begin : end + 1] for begin, end in inner]


def _loops_of(pattern: str, level: str) -> list[list[list[Code]]]:
    """The loops of each kernel of that name."""
    named = [kernel for kernel in _kernels() if re.search(f"4simd6run_{level}.*{pattern}", kernel[0])]
    assert named, f"no kernel is called {pattern!r}: name it anew in this test"
    return [_loops(list(_code(begin, end))) for _, begin, end in named]


@pytest.mark.parametrize("name", MAPS)
def test_loops_are_made_of_vector_instructions(name):
    pattern, instruction = MAPS[name]
    level = "v3" if any(re.search(f"run_v3.*{pattern}", kernel[0]) for kernel in _kernels()) else "v4"
    for loops in _loops_of(pattern, level):
        assert any(code.is_packed and re.match(instruction, code.name) for loop in loops for code in loop)


@pytest.mark.parametrize("level", ["v3", "v4"])
@pytest.mark.parametrize("name", SUMS)
def test_sums_stay_in_registers(name, level):
    pattern, least = SUMS[name]
    for loops in _loops_of(pattern, level):
        longest = max(loops, key=lambda loop: sum(code.is_fma and code.is_packed for code in loop))
        assert sum(code.is_fma and code.is_packed for code in longest) >= least
        assert not any(code.stores_a_vector_on_the_stack for code in longest)
        # Tiles at the edges may go without one or two registers.
        for loop in loops:
            products = sum(code.is_fma and code.is_packed for code in loop)
            spilled = [code for code in loop if code.stores_a_vector_on_the_stack]
            assert products < least or 4 * len(spilled) <= products, spilled
