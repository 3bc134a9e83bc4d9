"""The trajectory file as one table; writer, reader and tests all take it from here.

H5MD 1.1 (de Buyl, Colberg and Hofling, 2014) with a module ``wgflow``. All numbers are dimensionless, so no element
carries a unit. The schema only ever grows: a new element raises the minor version and readers ignore what they do
not know.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

H5MD_VERSION = (1, 1)
MODULE_VERSION = (1, 0)
USER_BLOCK = 4096  # bytes in front of HDF5's own; reserved for a digest of the file's structure
MAGIC = b"wgflow trajectory, H5MD 1.1\n"
INLINE = 64 * 2**20  # bytes of problem data that are stored in the file; above, only shape and SHA-256 are
GROUP = "particles/rho"
DIGEST = "wgflow/digest"
STEP, TIME = f"{GROUP}/position/step", f"{GROUP}/position/time"


class Element(NamedTuple):
    """One dataset of the file.

    Attributes
    ----------
    path : str
        Where it is.
    dtype : str
        NumPy type.
    shape : tuple of str
        Letters of its shape; F is first for what is written at every frame.
    meaning : str
        What it holds.
    """

    path: str
    dtype: str
    shape: tuple[str, ...]
    meaning: str


FRAMES = (
    Element(f"{GROUP}/position/value", "<f8", ("F", "N", "P+1"), "theta_1 .. theta_P, tau of each particle"),
    Element(STEP, "<i8", ("F",), "flow step; hard-linked by every other element of a frame"),
    Element(TIME, "<f8", ("F",), "flow time s; hard-linked by every other element of a frame"),
    Element(f"{GROUP}/mass/value", "<f8", ("F", "N"), "weight of each particle in the empirical measure"),
    Element("observables/energy/value", "<f8", ("F",), "E(rho)"),
    Element("observables/dissipation/value", "<f8", ("F",), "-dE/ds of the continuous flow"),
    Element("observables/switches/value", "<i8", ("F",), "pairs of particles that have changed places in depth so far"),
    Element("observables/step_length/value", "<f8", ("F",), "step length h that will be tried next"),
)
STATIC = (
    Element(f"{GROUP}/id", "<i8", ("N",), "particle index"),
    Element("parameters/energy", "S", (), "Energy.spec() as JSON"),
    Element("parameters/flow", "S", (), "Flow.spec() as JSON"),
    Element("parameters/study", "S", (), "resolved study member as JSON, {} outside a study"),
    Element("parameters/provenance", "S", (), "versions, machine, backend as JSON"),
    Element("parameters/data/x", "<f8", ("M", "D_in"), "inputs"),
    Element("parameters/data/y", "<f8", ("M", "K"), "targets"),
    Element("parameters/data/embed", "<f8", ("D", "D_in"), "W2"),
    Element("parameters/data/readout", "<f8", ("K", "D"), "W1"),
    Element("parameters/heldout/x", "<f8", ("M'", "D_in"), "held-out inputs, if any"),
    Element("parameters/heldout/y", "<f8", ("M'", "K"), "held-out targets, if any"),
)
COMMIT = Element(DIGEST, "|u1", ("F", "32"), "SHA-256 of the frame; zero until the frame is committed")
OWN_OBSERVABLES = ("energy", "dissipation", "switches", "step_length")


def observable(name: str) -> Element:
    """Element of an observable that the caller measured."""
    return Element(f"observables/{name}/value", "<f8", ("F",), "measured by the caller")


def elements(observables: tuple[str, ...]) -> tuple[Element, ...]:
    """All elements written at every frame, in the order in which a frame's digest runs over them."""
    return (*FRAMES, *(observable(name) for name in observables))


def frame_digest(number: int, values: Mapping[str, NDArray[Any]]) -> NDArray[np.uint8]:
    """SHA-256 of one frame over its number, and path, type, shape and bytes of each of its arrays."""
    digest = hashlib.sha256(f"frame {number}".encode())
    for path, value in values.items():
        digest.update(f"\0{path}\0{value.dtype.str}\0{value.shape}\0".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    return np.frombuffer(digest.digest(), np.uint8)


def read_rows(data: Mapping[str, h5py.Dataset], start: int, stop: int) -> dict[str, NDArray[Any]]:
    """Arrays of frames start..stop-1 as they are in the file, keyed by path; the first axis is the frame."""
    return {path: np.asarray(dataset[start:stop]) for path, dataset in data.items()}


def stored_observables(file: h5py.File) -> tuple[str, ...]:
    """Names of the caller's observables in a file, sorted."""
    return tuple(sorted(name for name in file["observables"] if name not in OWN_OBSERVABLES))
