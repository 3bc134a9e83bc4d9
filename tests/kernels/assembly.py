"""Vector instructions in hot loops for other processors than this one; a program, since widths are fixed at import.

It takes "wide" or "narrow", then triples and names of processors, and prints a table as JSON.
"""

import json
import re
import sys

import numba
from llvmlite import binding

numba.config.CPU_FEATURES = "+avx512f" if sys.argv[1] == "wide" else ""
from wgflow.kernels.cpu import functions, matmul_tiles  # noqa: E402
from wgflow.kernels.cpu.flags import LEAF  # noqa: E402

numba.config.CPU_FEATURES = None

N, X = numba.int64, numba.float64
ROW, ROWS, CUBE = X[::1], X[:, ::1], X[:, :, ::1]
HOT = {
    "activate": (functions.activate, numba.void(N, X, ROW, ROW)),
    "pull_back": (functions.pull_back, numba.void(N, ROW, ROW, ROW)),
    "multiply": (matmul_tiles.multiply, numba.void(ROWS, *[N] * 4, ROWS, N, N, ROWS, N, N, ROWS, N)),
    "correlate": (matmul_tiles.correlate, numba.void(ROWS, N, ROWS, *[N] * 4, CUBE, N, N)),
}
VECTORS = {"512": r"\bzmm\d", "256": r"\bymm\d", "128": r"\bxmm\d|\bv\d+\.2d"}


def code(function, signature):
    """The function in LLVM's language, not yet optimised (NUMBA_OPT=0), without the machine it was made on."""
    compiled = numba.njit(signature, **LEAF)(function.py_func)
    text = compiled.inspect_llvm(compiled.signatures[0])
    return re.sub(r"^target .*$", "", text, flags=re.MULTILINE)


def assembly(text, triple, cpu):
    machine = binding.Target.from_triple(triple).create_target_machine(cpu=cpu, opt=3, reloc="pic", codemodel="small")
    module = binding.parse_assembly(text)
    module.triple, module.data_layout = triple, str(machine.target_data)
    tuning = binding.create_pipeline_tuning_options(speed_level=3)
    tuning.loop_vectorization = tuning.slp_vectorization = True
    builder = binding.create_pass_builder(machine, tuning)
    builder.getModulePassManager().run(module, builder)
    return machine.emit_assembly(module)


def count(text):
    lines = text.splitlines()
    counts = {width: sum(bool(re.search(pattern, line)) for line in lines) for width, pattern in VECTORS.items()}
    called = {found for line in lines for found in re.findall(r"\b(exp|erf|sin|cos|tanh|fma)\b", line)}
    return counts | {"library": sorted(called)}


if __name__ == "__main__":
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    sources = {name: code(*hot) for name, hot in HOT.items()}
    table = {}
    for argument in sys.argv[2:]:
        triple, cpu = argument.split(":")
        table[cpu] = {name: count(assembly(text, triple, cpu)) for name, text in sources.items()}
    sys.stdout.write(json.dumps(table))
