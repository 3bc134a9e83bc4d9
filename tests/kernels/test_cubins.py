"""Every CUDA kernel compiles for the devices meant, in both precisions, with nothing to warn of. Needs no device."""

import re
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest
from hostcuda import signatures

from wgflow.kernels.gpu.cuda import options, source

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # CuPy's own, on a machine without a device
    nvrtc = pytest.importorskip("cupy_backends.cuda.libs.nvrtc", reason="no CuPy to reach NVRTC through")
try:
    VERSION = nvrtc.getVersion()
except RuntimeError as error:
    pytest.skip(f"NVRTC cannot be loaded: {error}", allow_module_level=True)

# CuPy adds -ftz=true and has functions default to the device; without the latter a forgotten DEVICE is found.
CUPYS = ("-ftz=true", "--device-as-default-execution-space")
TARGETS = [
    (architecture, precision, CUPYS if architecture == "sm_80" else CUPYS[:1])
    for architecture in ("sm_90", "sm_80")
    for precision in ("float64", "float32")
]
# Kernels that take the time, and bytes that a thread of theirs may have in memory: sin and cos of a large number reduce
# it with an array.
HOT = {"network_pass": 40, "layer_activate": 40, "layer_pull_back": 0, "stack": 0, "add_blocks": 0, "slopes": 0}


class Compiled(NamedTuple):
    cubin: bytes
    log: str


class Use(NamedTuple):
    """What a kernel takes: registers of a thread, bytes of its stack, bytes of registers that did not fit."""

    registers: int
    stack: int
    spilled: int


def compiled(text, architecture, precision, more=()):
    """A cubin and what was said on the way; raises NVRTC's error with the log."""
    program = nvrtc.createProgram(text, "wgflow.cu", (), ())
    try:
        nvrtc.compileProgram(
            program, (*options(precision), f"--gpu-architecture={architecture}", "--ptxas-options=-v", *more)
        )
        return Compiled(nvrtc.getCUBIN(program), nvrtc.getProgramLog(program))
    except nvrtc.NVRTCError as error:
        raise RuntimeError(nvrtc.getProgramLog(program)) from error
    finally:
        nvrtc.destroyProgram(program)


def uses(log):
    """What each kernel takes, from the assembler's words."""
    pattern = (
        r"entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
        r".*?Used (\d+) registers"
    )
    return {
        name: Use(int(registers), int(stack), int(stores) + int(loads))
        for name, stack, stores, loads, registers in re.findall(pattern, log, re.DOTALL)
    }


@pytest.fixture(scope="module")
def cubins():
    """All targets, on as many threads."""
    with ThreadPoolExecutor() as pool:
        made = pool.map(lambda target: compiled(source(), *target), TARGETS)
        return {target[:2]: each for target, each in zip(TARGETS, made, strict=True)}


def complaints(log):
    return [line for line in log.splitlines() if re.search(r"\b(warning|error)\b", line, re.IGNORECASE)]


@pytest.mark.parametrize("target", [target[:2] for target in TARGETS], ids="-".join)
def test_kernels_compile_without_warnings(cubins, target):
    made = cubins[target]
    assert complaints(made.log) == []
    kernels = set(signatures(source()))
    assert set(uses(made.log)) == kernels
    assert {name for name in kernels if f".text.{name}\0".encode() in made.cubin} == kernels


@pytest.mark.parametrize("target", [target[:2] for target in TARGETS], ids="-".join)
def test_registers_suffice(cubins, target):
    """Nothing spills, and no array of a thread lies in memory where it takes time."""
    table = uses(cubins[target].log)
    print("\n".join(f"{name:20}{use}" for name, use in table.items()))  # noqa: T201
    assert {name: use for name, use in table.items() if use.spilled} == {}
    assert {name: table[name] for name, most in HOT.items() if table[name].stack > most} == {}
    # At most 256 threads a block are started, and a multiprocessor has 65536 registers.
    assert max(use.registers for use in table.values()) <= 255


PRELUDE = "\n".join(source().split("\n")[: source().split('#line 1 "')[1].count("\n") + 1])


def test_checks_can_fail():
    """An error and a warning are found and say where; so are a spill and a function not marked for the device."""
    with pytest.raises(RuntimeError, match=r"mine\.cu\(2\): error.*nothing"):
        compiled(PRELUDE + '\n#line 1 "mine.cu"\nKERNEL k(double* y) {\n*y = nothing; }\n', "sm_90", "float64")
    unused = compiled(PRELUDE + "\nKERNEL k(double* y) { int unused = 1; *y = 0; }\n", "sm_90", "float64")
    assert any("unused" in line for line in complaints(unused.log))
    array = "KERNEL k(double* y, Int n) { double own[300];\n"
    array += "for (Int i = 0; i < n; i++) own[i % 300] = y[i];\n*y = own[n]; }"
    (use,) = uses(compiled(f"{PRELUDE}\n{array}\n", "sm_90", "float64").log).values()
    assert use.stack >= 2400
    many = "KERNEL k(double* y) { double own[40];\n#pragma unroll\nfor (int i = 0; i < 40; i++) own[i] = y[i];\n"
    many += "BARRIER();\n#pragma unroll\nfor (int i = 0; i < 40; i++) y[i] = own[39 - i]; }"
    (use,) = uses(compiled(f"{PRELUDE}\n{many}\n", "sm_90", "float64", ("-maxrregcount=32",)).log).values()
    assert use.spilled > 0
    call = "inline double twice(double x) { return 2 * x; }\nKERNEL k(double* y) { *y = twice(*y); }"
    compiled(f"{PRELUDE}\n{call}\n", "sm_90", "float64", CUPYS)
    with pytest.raises(RuntimeError, match="twice"):
        compiled(f"{PRELUDE}\n{call}\n", "sm_90", "float64")


def test_rules_of_the_source():
    """What the host cannot stand in for, or would give other bits from run to run, is not used; see common.cu."""
    bare = re.sub(r"//[^\n]*", "", source())
    assert forbidden(bare) == {"__shared__": 1, "__syncthreads": 1, "__global__": 1, "asm": 4}  # in the macros
    assert forbidden("atomicAdd(x, 1.0); __shfl_sync(0); asm volatile(\"\");\n#include <x>\nthreadIdx.y") == {
        "atomicAdd": 1, "__shfl_sync": 1, "asm": 1, "#include": 1, "threadIdx.y": 1,
    }  # fmt: skip


def forbidden(text):
    words = r"\batomic\w+|\b__(?:shfl|ballot|any|all|reduce|match|syncwarp|activemask)\w*|\basm\b|#\s*include"
    words += r"|\b__(?:shared|global|managed)__|__syncthreads\w*|\b(?:threadIdx|blockIdx|blockDim|gridDim)\.[yz]"
    return dict(Counter(re.findall(words, text)))
