"""CUDA text to a host library or program, once for all processes."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from hostcuda.signature import signatures

HERE = Path(__file__).parent
# Sums in both orders of threads must round alike; -Wall finds what NVRTC warns of too; locals start as garbage.
COMMON = ["-std=c++17", "-O1", "-ffp-contract=off", "-Wall", "-Werror", "-Wno-unknown-pragmas", "-Wno-unused-function"]
COMMON += ["-fvisibility=hidden", "-g1", f"-I{HERE}"]
# Undefined behaviour (a misaligned vector, an index beyond a local array, overflow) ends in an illegal instruction.
TRAP = ["-fsanitize=alignment,bounds,shift,signed-integer-overflow", "-fsanitize-undefined-trap-on-error"]
KINDS = {  # flags, the scheduler, what is made of it
    "library": (["-shared", "-fPIC", *TRAP], "fibers.h", "library.h"),
    "ucontext": (["-shared", "-fPIC", "-DHOSTCUDA_UCONTEXT", *TRAP], "fibers.h", "library.h"),
    "thread": (["-fsanitize=thread", "-pthread", "-DHOSTCUDA_THREADS"], "threads.h", "replay.h"),
    "address": (["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"], "fibers.h", "replay.h"),
}


@cache
def compiler():
    """The C++ compiler's name and first line about itself, or None."""
    name = shutil.which(os.environ.get("CXX", "g++"))
    if name is None:
        return None
    said = subprocess.run([name, "--version"], capture_output=True, text=True, check=True).stdout
    return name, said.splitlines()[0]


@cache
def build(text, precision, kind="library"):
    """Path of what a text is compiled to.

    It is kept in a folder of the user's by the hash of all that goes into it, and put there in one move, so that
    several processes may build at once.
    """
    found = compiler()
    if found is None:
        raise RuntimeError("no C++ compiler; set CXX")
    flags, scheduler, rest = KINDS[kind]
    real = "double" if precision == "float64" else "float"
    command = [found[0], *COMMON, *_garbage(found[0]), *flags, f"-DREAL={real}"]
    table = " ".join(f"X({name})" for name in signatures(text))
    parts = ['#include "shim.h"', text, f'#line 1 "table"\n#define HOSTCUDA_KERNELS(X) {table}']
    unit = "\n".join([*parts, *(f'#include "{each}"' for each in ("kernels.h", scheduler, rest))]) + "\n"
    headers = [path.read_text() for path in sorted(HERE.glob("*.h"))]
    digest = hashlib.sha256("\0".join([unit, *headers, *command, found[1]]).encode()).hexdigest()[:24]
    folder = Path(tempfile.gettempdir()) / f"wgflow-hostcuda-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    made = folder / f"{digest}-{kind}"
    if not made.exists():
        _compile(command, unit, made)
    return made


@cache
def _garbage(name):
    """The flag that fills locals with garbage, where the compiler has it."""
    flag = "-ftrivial-auto-var-init=pattern"
    probe = subprocess.run([name, flag, "-fsyntax-only", "-xc++", "-"], input="", capture_output=True, text=True)
    return [] if probe.returncode else [flag]


def _compile(command, unit, made):
    with tempfile.TemporaryDirectory(dir=made.parent) as folder:
        target = Path(folder) / "made"
        whole = [*command, "-xc++", "-", "-o", str(target)]
        done = subprocess.run(whole, input=unit, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"the host's compiler refuses the CUDA source:\n{done.stderr[:4000]}")
        os.replace(target, made)


def line_of(made, offset):
    """Place in the source of an instruction, "tile.cu:42", or nothing where it cannot be told."""
    tool = shutil.which("addr2line")
    if tool is None or offset == 0:
        return ""
    done = subprocess.run([tool, "-e", str(made), hex(offset)], capture_output=True, text=True)
    place = done.stdout.split(" (")[0].strip().rpartition("/")[2]
    return "" if "?" in place else place
