"""Schema of the trajectory file as one table, used by writer, reader, documentation and tests.

H5MD 1.1 (de Buyl, Colberg and Hofling, 2014) with a module ``wgflow``. All numbers are dimensionless, so no element
has a unit. Elements are only ever added: a new one raises the minor version, and readers ignore elements that they do
not know.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wgflow.base.energy_balance import EMPTY

H5MD_VERSION = (1, 1)
MODULE_VERSION = (2, 2)
MAGIC = b"wgflow trajectory, H5MD 1.1\n"
MOST_FRAMES = 2**26
MOST_ENTRIES = 2**23  # of an observable at one frame
INLINE = 64 * 2**20  # bytes up to which problem data are stored in the file; above, only shape and SHA-256 are
GROUP = "particles/rho"
POSITION, MASS = f"{GROUP}/position/value", f"{GROUP}/mass/value"
STEP, TIME = f"{GROUP}/position/step", f"{GROUP}/position/time"
BLOCKS, DIGEST, FINISHED = "wgflow/blocks", "wgflow/digest", "wgflow/finished"
DOCUMENTS = ("energy", "flow", "study", "provenance")
# Checksums are of blocks of particles, so that a particle's path needs one block per frame. Up to 11 KiB CRC-32 detects
# any three changed bits with certainty (other damage except once in 2**32), in half the time of SHA-256.
_BLOCK_BYTES = 10 * 2**10
_BLOCKS = 1024  # at most this many a frame


class Element(NamedTuple):
    """One dataset of the file.

    Attributes
    ----------
    path, dtype, meaning : str
        Its path, NumPy type and contents.
    shape : tuple of str
        Letters of its shape, F first if it is written at every frame.
    """

    path: str
    dtype: str
    shape: tuple[str, ...]
    meaning: str


FRAMES = (
    Element(POSITION, "<f8", ("F", "N", "P+1"), "theta_1 .. theta_P, tau of each particle"),
    Element(STEP, "<i8", ("F",), "flow step; hard-linked by every other element of a frame"),
    Element(TIME, "<f8", ("F",), "flow time s; hard-linked by every other element of a frame"),
    Element(MASS, "<f8", ("F", "N"), "weight of each particle in the empirical measure"),
    Element("observables/energy/value", "<f8", ("F",), "E(rho)"),
    Element("observables/dissipation/value", "<f8", ("F",), "-dE/ds of the continuous flow"),
    Element("observables/switches/value", "<i8", ("F",), "pairs of particles that have changed places in depth so far"),
    Element("observables/step_length/value", "<f8", ("F",), "step length h that will be tried next"),
)
STATIC = (
    Element(f"{GROUP}/id", "<i8", ("N",), "particle index"),
    Element("parameters/energy", "S", (), "Energy.spec() as JSON"),
    Element("parameters/flow", "S", (), "Flow.spec() as JSON"),
    Element("parameters/study", "S", (), "resolved study member as JSON, data by their digest; {} outside a study"),
    Element("parameters/provenance", "S", (), "versions, machine, backend as JSON"),
    Element("parameters/data/x", "<f8", ("M", "D_in"), "inputs"),
    Element("parameters/data/y", "<f8", ("M", "K"), "targets"),
    Element("parameters/data/embed", "<f8", ("D", "D_in"), "W2"),
    Element("parameters/data/readout", "<f8", ("K", "D"), "W1"),
    Element("parameters/heldout/x", "<f8", ("M'", "D_in"), "held-out inputs, if any"),
    Element("parameters/heldout/y", "<f8", ("M'", "K"), "held-out targets, if any"),
)
COMMIT = (
    Element(BLOCKS, "<u4", ("F", "B"), "CRC-32 of each block of particles: its rows of position, then of mass"),
    Element(DIGEST, "|u1", ("F", "32"), "SHA-256 over all of the frame; zero until the frame is committed"),
    Element(FINISHED, "|u1", ("32",), "SHA-256 that marks a finished file; zero until then"),
)
_MEASURED = "measured by the caller; an array a frame has further dimensions"
OWN_OBSERVABLES = ("energy", "dissipation", "switches", "step_length")
# Stored like an array of the caller, so that a file may lack it, as files before format 2.2 do.
BALANCE, BALANCE_SHAPE = "balance", (len(EMPTY),)
RESERVED = frozenset(  # names of other series and arrays, which an observable cannot have
    (*OWN_OBSERVABLES, BALANCE, "s", "step", "time", "theta", "tau", "mass", "frame", "particle", "component")
)
DIMENSIONS: Mapping[str, str] = MappingProxyType(
    {
        "F": "frame", "N": "particle", "P+1": "component", "B": "block", "32": "byte", "M": "sample",
        "M'": "heldout_sample", "D_in": "input", "D": "state", "K": "output",
    }
)  # fmt: skip


def observable(name: str, shape: tuple[int, ...] = ()) -> Element:
    """Element of an observable of the caller: a number per frame, or an array of that shape."""
    return Element(f"observables/{name}/value", "<f8", ("F", *axes(name, shape)), _MEASURED)


def axes(name: str, shape: tuple[int, ...]) -> tuple[str, ...]:
    """Letters, and names, of an observable's dimensions beyond F."""
    return tuple(f"{name}_{k}" for k in range(len(shape)))


def elements(observables: Mapping[str, tuple[int, ...]]) -> tuple[Element, ...]:
    """All elements that frames fill: their numbers, in the order of a frame's digest, and what commits them."""
    return (*FRAMES, *(observable(name, observables[name]) for name in sorted(observables)), *COMMIT)


def lengths(frames: int, particles: int, width: int, observables: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Lengths of the dimensions of all elements written at every frame, by letter."""
    own = {letter: n for name, shape in observables.items() for letter, n in zip(axes(name, shape), shape, strict=True)}
    blocks = -(-particles // block_particles(particles, width))
    return {"F": frames, "N": particles, "P+1": width, "B": blocks, "32": 32} | own


def block_particles(particles: int, width: int) -> int:
    """Number of particles per digested block, given N and P + 1: about 10 KiB, and at most 1024 blocks per frame."""
    return max(1, _BLOCK_BYTES // (8 * (width + 1)), -(-particles // _BLOCKS))


class Digests:
    """Digests of the frames of a file.

    A frame's digest is the SHA-256 of a text that names its numbers, its index, its numbers, its observables that are
    arrays, and the checksums of its blocks of particles; so a series is checked without reading particles, and a
    particle's path without reading all of them.

    Parameters
    ----------
    observables : mapping of str to tuple of int
        Shapes of the caller's observables at one frame, () for a number.
    particles, width : int
        N and P + 1.

    Attributes
    ----------
    numbers, arrays : tuple of Element
        Elements with one number per frame, and the caller's observables that are arrays.
    """

    def __init__(self, observables: Mapping[str, tuple[int, ...]], particles: int, width: int) -> None:
        shapes = {observable(name, shape): shape for name, shape in sorted(observables.items()) if shape}
        self.numbers = tuple(element for element in elements(observables) if element.shape == ("F",))
        self.arrays = tuple(shapes)
        self.particles, self.block = particles, block_particles(particles, width)
        named: list[list[Any]] = [[element.path, element.dtype] for element in self.numbers]
        named += [[element.path, element.dtype, *shape] for element, shape in shapes.items()]
        about = json.dumps([named, [POSITION, "<f8", particles, width], [MASS, "<f8", particles], self.block])
        self._about = hashlib.sha256(about.encode())

    def of_blocks(self, position: NDArray[Any], mass: NDArray[Any]) -> NDArray[np.uint32]:
        """CRC-32 of each block of consecutive particles, which must begin with the first particle of a block."""
        if not mass.size:  # a file without particles
            return np.empty(0, "<u4")
        rows, masses = position.data.cast("B"), mass.data.cast("B")
        long, short = self.block * position.itemsize * position.shape[1], self.block * mass.itemsize
        out = np.empty(-(-len(mass) // self.block), "<u4")
        for k in range(len(out)):
            checksum = zlib.crc32(rows[k * long : (k + 1) * long])
            out[k] = zlib.crc32(masses[k * short : (k + 1) * short], checksum)
        return out

    def of_frame(self, number: int, numbers: bytes, blocks: bytes) -> bytes:
        """SHA-256 of a frame from its index, its numbers (followed by its arrays) and the checksums of its blocks."""
        digest = self._about.copy()
        digest.update(b"frame" + number.to_bytes(8, "little") + numbers + blocks)
        return digest.digest()

    def of_finished(self, frames: int) -> bytes:
        """Mark of a file finished with that number of frames."""
        digest = self._about.copy()
        digest.update(b"finished" + frames.to_bytes(8, "little"))
        return digest.digest()


def markdown() -> str:
    """Schema as a table in Markdown, for the documentation."""
    rows = [("path", "type", "shape", "holds"), ("---", "---", "---", "---")]
    balance = observable(BALANCE, BALANCE_SHAPE)._replace(meaning=f"balance of energy: {', '.join(EMPTY._fields)}")
    for element in (*FRAMES, balance, observable("NAME"), *STATIC, *COMMIT):
        kind = {"S": "text", "<f8": "float64", "<i8": "int64", "|u1": "uint8", "<u4": "uint32"}[element.dtype]
        shape = f"({', '.join(element.shape)})" if element.shape else "scalar"
        rows.append((f"`{element.path}`", kind, shape, element.meaning))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
