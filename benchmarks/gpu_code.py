"""Count the instructions of the GPU kernels' inner loops as compiled; needs no device.

Usage: python benchmarks/gpu_code.py [--architecture sm_90] [--kernel network_pass] [--nvdisasm PATH] [--write]

A multiprocessor issues four instructions a cycle, each of which may be a multiplication with its addition, and returns
128 bytes of shared memory. So a loop cannot reach more of the peak than the share of such multiplications in it,
whatever the device does. nvdisasm is part of CUDA's toolkit. --write keeps the counts in docs/benchmarks_gpu_code.json
and writes their part of docs/benchmarks.md again.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import gpu_page

from wgflow.kernels.gpu.cuda import options, source

DOCS = Path(__file__).parent.parent / "docs"
LEAST = 32  # multiplications of a loop that is worth a line


class Instruction(NamedTuple):
    """An instruction, its jump target and its line of the source."""

    name: str
    target: str
    line: str


def machine_code(architecture: str, precision: str) -> bytes:
    """The kernels compiled as CuPy has them compiled, with the lines of the source."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # CuPy's own, on a machine without a device
        from cupy_backends.cuda.libs import nvrtc

    program = nvrtc.createProgram(source(), "wgflow.cu", (), ())
    nvrtc.compileProgram(program, (*options(precision), f"--gpu-architecture={architecture}", "-ftz=true", "-lineinfo"))
    return bytes(nvrtc.getCUBIN(program)) + b"\0"  # CuPy leaves the last byte out


def instructions(listing: str, kernel: str) -> tuple[list[Instruction], dict[str, int]]:
    """Instructions of a kernel as listed by nvdisasm, and the positions of its labels."""
    found: list[Instruction] = []
    labels: dict[str, int] = {}
    inside, line = False, ""
    for text in listing.splitlines():
        if text.startswith(".text."):
            inside = text.startswith(f".text.{kernel}:")
        elif inside and (label := re.match(r"(\.L_\S+):", text)):
            labels[label[1]] = len(found)
        elif inside and (at := re.search(r'## File "([^"]*)", line (\d+)', text)):
            if " inlined" not in text:  # the innermost comes first
                line = f"{Path(at[1]).name}:{at[2]}"
        elif inside and (each := re.match(r"\s+/\*[0-9a-f]+\*/\s+(?:@!?U?P\S+ )?\s*([A-Z0-9_.]+)(.*);", text)):
            jump = re.search(r"`\((\.L_\S+)\)", each[2])
            found.append(Instruction(each[1], jump[1] if jump else "", line))
    return found, labels


def loops(code: list[Instruction], labels: dict[str, int], multiply: str) -> list[dict[str, Any]]:
    """Innermost loops with enough multiply-adds, in the order of the code; equal ones once, with their number."""
    spans = [
        (labels[each.target], end)
        for end, each in enumerate(code)
        if each.name.startswith("BRA") and labels.get(each.target, end + 1) <= end
    ]
    counted: dict[tuple[Any, ...], int] = {}
    for begin, end in sorted(spans):
        if any((begin, end) != other and begin <= other[0] and other[1] <= end for other in spans):
            continue
        body = code[begin : end + 1]
        names = Counter(each.name.split(".")[0] for each in body)
        if names[multiply] < LEAST:
            continue
        where = Counter(each.line for each in body if each.name.startswith(multiply)).most_common(1)[0][0]
        key = (function(where), where.split(":")[0], len(body), names[multiply], names["LDS"], names["LDG"])
        counted[key] = counted.get(key, 0) + 1
    columns = ("function", "file", "instructions", "multiplications", "shared", "global")
    return [dict(zip(columns, key, strict=True)) | {"loops": number} for key, number in counted.items()]


def function(where: str) -> str:
    """Name of the function of the source that a line is in."""
    file, line = where.split(":")
    text = source().split(f'#line 1 "{file}"\n')[1].split("\n#line")[0].split("\n")[: int(line)]
    return re.findall(r"^(?:DEVICE|KERNEL)\b[^(]*?(\w+)\(", "\n".join(text), re.MULTILINE)[-1]


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", default="sm_90")
    parser.add_argument("--precision", default="float32", choices=("float32", "float64"))
    parser.add_argument("--kernel", default="network_pass")
    parser.add_argument("--nvdisasm", default=shutil.which("nvdisasm"))
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    if asked.nvdisasm is None:
        print("nvdisasm: not found; it is part of CUDA's toolkit: --nvdisasm PATH", file=sys.stderr)
        return 2
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(machine_code(asked.architecture, asked.precision))
        file.flush()
        told = subprocess.run([asked.nvdisasm, "-c", "-g", file.name], capture_output=True, encoding="utf-8")
    if told.returncode:
        print(told.stderr.strip(), file=sys.stderr)
        return 2
    multiply = "FFMA" if asked.precision == "float32" else "DFMA"
    found = loops(*instructions(told.stdout, asked.kernel), multiply)
    results = {"architecture": asked.architecture, "precision": asked.precision, "loops": found}
    print("\n".join(gpu_page.code(results)))
    if asked.write:
        (DOCS / "benchmarks_gpu_code.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        gpu_page.replace(DOCS / "benchmarks.md", gpu_page.load(DOCS), results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
