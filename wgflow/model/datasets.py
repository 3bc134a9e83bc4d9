"""Data sets by name, and the split and standardisation that turn them into problems.

The real ones come with scikit-learn, and nothing is downloaded; the synthetic ones are drawn from a seed.
"""

from __future__ import annotations

import functools
import importlib.util
import io
import logging
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np

from wgflow.base import rng
from wgflow.base.errors import InputError, describe
from wgflow.base.extras import install
from wgflow.base.registry import check_name
from wgflow.base.scaling import column_spread
from wgflow.base.types import Array, Index
from wgflow.base.validate import finite_array, real, whole
from wgflow.model import data_files
from wgflow.model.data_files import Digests

logger = logging.getLogger("wgflow.model.problem")
_LISTED = 8  # constant columns listed in the warning
_EXACT = 1e-9  # rounding allowed in a standardised column's mean, and in its deviation's distance from 1

# What NumPy and zipfile raise for files that are empty, truncated, encrypted, in an unknown format, or no archive.
_DAMAGE = (OSError, EOFError, ValueError, TypeError, AttributeError, RuntimeError, BadZipFile, zlib.error)


class Split(NamedTuple):
    """Samples to train on and samples held out, (M, D_in) and (M, K) each; there may be no held-out ones."""

    x: Array
    y: Array
    x_heldout: Array
    y_heldout: Array


@functools.cache  # needed once per run of a study, and reading takes a tenth of a second
def diabetes() -> tuple[Array, Array]:
    """Diabetes progression of Efron, Hastie, Johnstone and Tibshirani (2004): 442 patients, 10 inputs, 1 target.

    Raises
    ------
    InputError
        If scikit-learn, which ships the data, is not installed.
    """
    x, y = _shipped("diabetes", "diabetes_data_raw.csv.gz", "diabetes_target.csv.gz")
    return _frozen(x), _frozen(y[:, None])


@functools.cache
def digits(parity: bool = False) -> tuple[Array, Array]:
    """Handwritten digits of Alpaydin and Kaynak (1998): 1797 images, 64 grey values, 10 classes as one-hot rows.

    Parameters
    ----------
    parity : bool, optional
        One target instead, 1 for even digits and -1 for odd ones.

    Raises
    ------
    InputError
        If scikit-learn, which ships the data, is not installed.
    """
    (table,) = _shipped("digits", "digits.csv.gz", delimiter=",")
    x, label = table[:, :-1], table[:, -1].astype(np.int64)
    return _frozen(x), _frozen(1.0 - 2.0 * (label % 2)[:, None] if parity else np.eye(10)[label])


def _shipped(name: str, *files: str, delimiter: str | None = None) -> list[Array]:
    """Arrays of a data set that scikit-learn ships, read from its files: importing it would take a second."""
    spec = importlib.util.find_spec("sklearn")
    if spec is None or not spec.origin:
        raise InputError(
            f"data set {name}: expected scikit-learn, which ships it, got no such package; {install('study')}"
        )
    folder = Path(spec.origin).parent / "datasets" / "data"
    try:
        return [np.loadtxt(folder / file, delimiter=delimiter) for file in files]
    except FileNotFoundError as error:
        raise InputError(
            f"data set {name}: expected it in scikit-learn's {folder}, got no such file; install another version of it"
        ) from error


def _frozen(values: np.ndarray) -> Array:
    """Read-only copy in double precision, shared by all runs of a study."""
    out = np.array(values, np.float64)
    out.flags.writeable = False
    return out


def from_file(path: str | Path, known: Digests | None = None) -> tuple[Array, Array]:
    """Read arrays x and y from a NumPy ``.npz`` file, without unpickling.

    Parameters
    ----------
    path : str or Path
        The file.
    known : tuple of (str, str), optional
        Expected path and SHA-256; see :mod:`wgflow.model.data_files`.

    Raises
    ------
    InputError
        If the file cannot be read, lacks an array, or has another SHA-256.
    """
    try:
        with np.load(io.BytesIO(data_files.read(Path(path), known)), allow_pickle=False) as file:
            missing = {"x", "y"} - set(file.files)
            if missing:
                raise InputError(f"{path}: expected arrays x and y, got {', '.join(file.files) or 'none'}")
            x, y = file["x"], file["y"]
    except InputError:
        raise
    except _DAMAGE as error:
        raise InputError(f"{path}: expected a NumPy .npz file with arrays x and y ({error})") from error
    # Checked before standardisation, which would spread a NaN over its column.
    return finite_array(f"{path}: x", x, 2), finite_array(f"{path}: y", y, 2, column=True)


def sine(
    samples: int = 200, frequency: float = 1.0, noise: float = 0.0, seed: int = 0, spacing: str = "even"
) -> tuple[Array, Array]:
    """One-dimensional curve y = sin(frequency x) + noise on [-pi, pi].

    With frequency 1 and no noise, the target of the toy problem in Fang, Lee, Yang and Zhang (COLT 2021), appendix F,
    whose inputs are independent and uniform: spacing "random".

    Parameters
    ----------
    samples : int
        M >= 1.
    frequency : float
        Finite.
    noise : float
        Standard deviation of the Gaussian noise on y, >= 0.
    seed : int
        Seed of the noise and of random inputs.
    spacing : {"even", "random"}
        Inputs equally spaced, or drawn independently and uniformly from [-pi, pi].

    Returns
    -------
    x, y : ndarray (M, 1), (M, 1)

    Raises
    ------
    InputError
        If samples < 1, noise < 0, a number is not finite, or the spacing is unknown.
    """
    samples = whole("samples", samples)
    frequency, noise = real("frequency", frequency), real("noise", noise, least=0.0)
    check_name("spacing", spacing, ("even", "random"))
    even: Array = (np.arange(samples)[:, None] + 0.5) / samples
    places = even if spacing == "even" else rng.uniform(seed, "sine inputs", (samples, 1))
    x = np.pi * (2 * places - 1)
    return x, np.sin(frequency * x) + noise * rng.normal(seed, "sine noise", (samples, 1))


def gaussian(samples: int = 10, width: int = 10, outputs: int | None = None, seed: int = 0) -> tuple[Array, Array]:
    """Standard Gaussian inputs and targets, independent of each other, so that only these samples can be learnt.

    The data of Chizat's experiments on depth and width (arXiv:2509.10167), with M = D = 10.

    Parameters
    ----------
    samples, width : int
        M >= 1 and D_in >= 1.
    outputs : int, optional
        K >= 1; by default ``width``.
    seed : int
        Seed of both.

    Returns
    -------
    x, y : ndarray (M, D_in), (M, K)

    Raises
    ------
    InputError
        If a count is below 1.
    """
    outputs = width if outputs is None else outputs
    for name, value in (("samples", samples), ("width", width), ("outputs", outputs)):
        whole(name, value)
    x = rng.normal(seed, "gaussian inputs", (samples, width))
    return x, rng.normal(seed, "gaussian targets", (samples, outputs))


def teacher(samples: int = 200, width: int = 3, layers: int = 4, units: int = 2, seed: int = 0) -> tuple[Array, Array]:
    """Outputs of a residual network with random ridge + tanh blocks: realisable, so E = 0 can be reached.

    The network is the padded one of :meth:`Problem.padded` with D = width + 1: X <- X + (1/L) mean_j a_j tanh(w_j . x +
    b_j) over the units of each of the L layers, the last state column being y.

    Parameters
    ----------
    samples : int
        M >= 1, standard Gaussian inputs.
    width : int
        D_in >= 1.
    layers, units : int
        L >= 1, and ridge blocks of one layer >= 1.
    seed : int
        Seed of inputs and blocks.

    Returns
    -------
    x, y : ndarray (M, D_in), (M, 1)

    Raises
    ------
    InputError
        If a count is below 1.
    """
    for name, value in (("samples", samples), ("width", width), ("layers", layers), ("units", units)):
        whole(name, value)
    x = rng.normal(seed, "teacher inputs", (samples, width))
    state = np.column_stack([x, np.zeros(samples)])
    size = width + 1
    blocks = rng.normal(seed, "teacher blocks", (layers * units, 2 * size + 1)).reshape(layers, units, -1)
    for layer in blocks:
        a, w, b = 2.0 * layer[:, :size], layer[:, size : 2 * size] / np.sqrt(size), layer[:, -1]
        state = state + np.tanh(state @ w.T + b) @ a / (layers * units)
    return x, state[:, -1:]


DATASETS: dict[str, Callable[..., tuple[Array, Array]]] = {
    "diabetes": diabetes,
    "digits": digits,
    "sine": sine,
    "teacher": teacher,
    "gaussian": gaussian,
    "file": from_file,
}


def split(
    x: Array, y: Array, heldout: float = 0.0, seed: int = 0, standardise: bool = True, targets: bool = True
) -> Split:
    """Hold out samples, and standardise by the mean and standard deviation of the rest.

    Parameters
    ----------
    x, y : ndarray (M, D_in), (M, K)
        All samples.
    heldout : float, optional
        Fraction to hold out, 0 <= heldout < 1.
    seed : int, optional
        Seed of the split.
    standardise : bool, optional
        Give every column of x (and y) mean 0 and standard deviation 1 over the training samples; the held-out ones
        are transformed by the same numbers, so that nothing leaks into training. Columns that are constant over the
        training samples, up to rounding, become 0, with a warning in the log that lists them.
    targets : bool, optional
        Whether y is standardised too.

    Raises
    ------
    InputError
        If the fraction is out of range or leaves no sample to train on, or a number is missing.
    """
    x, y = finite_array("x", x, 2), finite_array("y", y, 2)
    count = len(x)
    if not 0 <= heldout < 1:
        raise InputError(f"heldout: expected a fraction with 0 <= heldout < 1, got {describe(heldout)}")
    if len(y) != count:
        raise InputError(f"x and y: expected as many rows in both, got {count} and {len(y)}")
    kept = count - round(heldout * count)
    if kept < 1:
        raise InputError(f"heldout: {heldout} of {count} samples leaves none to train on")
    order = rng.permutation(seed, "split", count)
    train, rest = np.sort(order[:kept]), np.sort(order[kept:])
    if standardise:
        x, y = _standardise("x", x, train), _standardise("y", y, train) if targets else y
    return Split(x[train], y[train], x[rest], y[rest])


def _standardise(name: str, values: Array, train: Index) -> Array:
    """Columns with mean 0 and deviation 1 over the training samples; columns constant there become 0.

    The mean of a column far from 0 has a rounding error; what remains is subtracted in a second pass.
    """
    spread = column_spread(values[train])
    warn_constant(name, np.flatnonzero(spread.constant), len(spread.constant))
    scaled = (values / spread.unit - spread.mean) / np.where(spread.constant, 1.0, spread.deviation)
    scaled = np.where(spread.constant, 0.0, scaled)
    left = column_spread(scaled[train])
    again = ~spread.constant & ((np.abs(left.mean) > _EXACT) | (np.abs(left.deviation - 1.0) > _EXACT))
    return np.where(again, (scaled - left.mean) / np.where(again, left.deviation, 1.0), scaled)


def warn_constant(name: str, constant: Index, count: int, what: str = "column") -> None:
    """Log a warning that lists the constant columns out of ``count``, which standardisation sets to 0, if any."""
    if not len(constant):
        return
    listed = ", ".join(map(str, constant[:_LISTED].tolist())) + (", ..." if len(constant) > _LISTED else "")
    are, they = (f"{what} %s of %d is", "it is") if len(constant) == 1 else (f"{what}s %s of %d are", "they are")
    logger.warning(f"%s: {are} constant over the training samples; standardised, {they} 0", name, listed, count)
