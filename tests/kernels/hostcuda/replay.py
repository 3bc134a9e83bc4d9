"""Launches written to files, and repeated under ThreadSanitizer or AddressSanitizer in a program of their own.

Python itself cannot be loaded under ThreadSanitizer, so what a launch reads and leaves is recorded on the host device.
"""

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hostcuda.build import build

PER_CALL = 200  # launches that one program repeats


class Recorder:
    """Writes launches to a folder: ``NNNNNN.PRECISION``."""

    def __init__(self, folder, text):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "source.cu").write_text(text)
        self._count = len(list(self.folder.iterdir()))  # several devices may record into one folder

    def before(self, arguments):
        self._arrays = {}  # by address: what two arguments share is one buffer
        self._arguments = arguments
        for argument in arguments:
            if hasattr(argument, "address"):
                self._arrays[argument.address] = (argument, argument.content.tobytes())

    def after(self, precision, kernel, blocks, threads, shared, bits):
        numbers = {address: number for number, address in enumerate(self._arrays)}
        head = [kernel, blocks, threads, shared, len(numbers), len(self._arguments)]
        with open(self.folder / f"{self._count:06d}.{precision}", "wb") as file:
            file.write(np.array(head, np.int64))
            for array, before in self._arrays.values():
                file.write(np.int64(array.nbytes).tobytes() + before + array.content.tobytes())
            for argument, value in zip(self._arguments, bits, strict=False):
                number = numbers[argument.address] if hasattr(argument, "address") else -1
                file.write(np.array([number, np.uint64(value).astype(np.int64)], np.int64))
        self._count += 1


class Replay(NamedTuple):
    """What a repetition found: kernels whose bits are other, kernels repeated, and the sanitizer's words, if any."""

    other: set
    repeated: set
    said: str


def replay(folder, kind="thread"):
    """Repeat the launches of a folder on real threads ("thread": races) or on fibers ("address": bad accesses).

    Raises
    ------
    RuntimeError
        If the program cannot run here, or stops before its end without the sanitizer's saying why.
    """
    folder = Path(folder)
    text = (folder / "source.cu").read_text()
    lines, said = [], ""
    for precision in ("float64", "float32"):
        paths = sorted(folder.glob(f"*.{precision}"))
        for low in range(0, len(paths), PER_CALL):
            done = _call(build(text, precision, kind), paths[low : low + PER_CALL])
            lines += [line.split(maxsplit=1) for line in done.stdout.splitlines()]
            said += done.stderr
            if done.returncode not in (0, 1) and not done.stderr:
                raise RuntimeError(f"the repetition of launches stopped ({done.returncode}): {done.stdout[-500:]}")
    other = {rest for word, rest in lines if word != "same"}
    return Replay(other, {rest for _, rest in lines}, said)


@cache
def unavailable(kind="thread"):
    """Why launches cannot be repeated under a sanitizer here, or None."""
    try:
        done = _call(build("KERNEL nothing() {}", "float64", kind), [])
    except RuntimeError as error:
        return str(error)
    return None if done.returncode == 0 else done.stderr[:500] or f"it ends with {done.returncode}"


def _call(program, paths):
    # Sanitizers differ in their defaults; leaks are not the question.
    environment = dict(os.environ, TSAN_OPTIONS="exitcode=66:halt_on_error=0", ASAN_OPTIONS="detect_leaks=0")
    command = [str(program), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if "unexpected memory mapping" in done.stderr and shutil.which("setarch"):
        # A kernel that places memory where an older ThreadSanitizer keeps its own: without random addresses it fits.
        done = subprocess.run(["setarch", "-R", *command], capture_output=True, text=True, env=environment)
    return done
