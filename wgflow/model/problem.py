"""Problem: the data, the block, and the fixed linear maps in and out of the state."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wgflow.base.copies import Copyable
from wgflow.base.errors import InputError
from wgflow.base.registry import check_name
from wgflow.base.types import Array, Spec
from wgflow.base.user_objects import is_builtin, recorded_spec
from wgflow.base.validate import finite_array
from wgflow.model import activations, blocks, losses
from wgflow.model.measuring import Linear, Measuring
from wgflow.model.measuring import measuring as look_up

TABLES: Mapping[str, Mapping[str, object]] = {  # built-in objects by kind
    "block": blocks.BLOCKS,
    "activation": activations.ACTIVATIONS,
    "loss": losses.LOSSES,
}
ARRAYS = ("x", "y", "embed", "readout")
_TRIED = 8  # samples on which objects of the user's are tested


class Problem(Copyable):
    """A regression problem for a deep residual network driven by a measure.

    The state starts at X(0) = W2 x, follows dX/dt = int f(X, theta) rho(dtheta, t), and the network's output is
    g(X(1)), which is W1 X(1) unless another measuring function is chosen; E(rho) is the mean over samples of
    loss(g(X(1)), y). Lu, Ma, Lu, Lu and Ying (arXiv:2003.05508), eq. (1).

    Parameters
    ----------
    x : array_like (M, D_in)
        Inputs, finite.
    y : array_like (M, K) or (M,)
        Targets, finite; one dimension means K = 1.
    block : str, dict or Block, optional
        Residual block f(x, theta), by name, spec or object.
    activation : str, dict or Activation, optional
        Activation of the block.
    embed : array_like (D, D_in), optional
        W2; by default the identity, D = D_in. :meth:`padded` gives the usual alternative.
    readout : array_like (K, D), optional
        W1; by default the mean over the state's columns, K = 1.
    loss : str or Loss, optional
        Loss of one sample.
    measuring : str, dict or Measuring, optional
        Measuring function g, by name or spec: ``linear``, W1 X(1), or ``hyperbolic``, which computes in NumPy
        (:mod:`wgflow.model.measuring`).

    Raises
    ------
    InputError
        If shapes do not fit together, an entry is not finite, a name is unknown, or an object of your own fails its
        test on a few numbers.
    """

    def __init__(
        self,
        x: ArrayLike,
        y: ArrayLike,
        block: str | Spec | blocks.Block = "ridge",
        activation: str | Spec | activations.Activation = "tanh",
        embed: ArrayLike | None = None,
        readout: ArrayLike | None = None,
        loss: str | losses.Loss = "squared",
        measuring: str | Spec | Measuring = "linear",
    ) -> None:
        _same_rows(x, y)
        self.x = finite_array("x", x, 2)
        self.y = finite_array("y", y, 2, column=True)
        if self.x.shape[0] != self.y.shape[0]:
            raise InputError(
                f"x and y: expected one row of y for each row of x, got {self.x.shape[0]} and {self.y.shape[0]} rows"
            )
        inputs, outputs = self.x.shape[1], self.y.shape[1]
        self.embed = finite_array("embed", np.eye(inputs) if embed is None else embed, 2)
        if self.embed.shape[1] != inputs:
            raise InputError(f"embed: expected shape (D, {inputs}), as x has {inputs} columns, got {self.embed.shape}")
        width = self.embed.shape[0]
        if readout is None and outputs != 1:
            raise InputError(f"readout: expected a matrix of shape ({outputs}, {width}), as y has {outputs} columns")
        self.readout = finite_array("readout", np.full((1, width), 1.0 / width) if readout is None else readout, 2)
        if self.readout.shape != (outputs, width):
            raise InputError(f"readout: expected shape ({outputs}, {width}), got {self.readout.shape}")
        self.block = blocks.block(block)
        self.activation = activations.activation(activation)
        self.loss = losses.loss(loss)
        self.measuring = look_up(measuring)
        losses.check_targets(self.loss, self.y)
        self._try_own()
        self.groups = self.block.groups(width)

    @classmethod
    def padded(cls, x: ArrayLike, y: ArrayLike, **options: Any) -> Problem:
        """Problem whose state has K extra columns, zero at t = 0, from which the output is read.

        W2 = [I; 0] and W1 = [0 | I], so D = D_in + K and the network without particles returns 0. Unlike the
        default it can represent maps that are not small perturbations of the inputs' mean.

        Parameters
        ----------
        x, y : array_like
            As for the class.
        **options
            ``block``, ``activation``, ``loss`` and ``measuring`` of the class.
        """
        _same_rows(x, y)
        x, y = finite_array("x", x, 2), finite_array("y", y, 2, column=True)
        inputs, outputs = x.shape[1], y.shape[1]
        return cls(
            x, y, embed=np.eye(inputs + outputs, inputs), readout=np.eye(outputs, inputs + outputs, inputs), **options
        )

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(M, D, K, P): samples, state width, outputs, parameters of one particle."""
        return len(self.x), len(self.embed), len(self.readout), blocks.width(self.block, len(self.embed))

    def __repr__(self) -> str:
        samples, width, outputs, parameters = self.shape
        names = ", ".join(f"{name}={getattr(self, name).name}" for name in ("block", "activation", "loss"))
        return f"Problem(M={samples}, D={width}, K={outputs}, P={parameters}, {names})"

    def by_column(self, values: Mapping[str, float]) -> Array:
        """Value of the parameter group of each column of theta, (P,); 1 for groups without one."""
        parts = [np.full(group.stop - group.start, float(values.get(name, 1.0))) for name, group in self.groups.items()]
        return np.concatenate(parts)

    def start(self, x: ArrayLike | None = None) -> Array:
        """X(0) = W2 x, (M, D), for the problem's own samples or for others (M, D_in).

        Raises
        ------
        InputError
            If x has the wrong number of columns or an entry that is not finite.
        """
        if x is None:
            return self.x @ self.embed.T
        x = finite_array("x", x, 2)
        if x.shape[1] != self.embed.shape[1]:
            raise InputError(f"x: expected {self.embed.shape[1]} columns, got {x.shape[1]}")
        return x @ self.embed.T

    def outputs(self, state: NDArray[Any]) -> NDArray[Any]:
        """g(X(1)), (M, D) to (M, K)."""
        return self.measuring.value(state, self.readout)

    def end_adjoint(self, state: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
        """p(1) = dloss . grad g at the final states, (M, D), for targets (M, K): (g(X(1)) - y) grad g if squared."""
        return self.measuring.pull_back(state, self.readout, self.loss.gradient(self.outputs(state), y))

    def needs_linear(self, what: str) -> None:
        """Raise InputError if g is not linear, naming what is defined for a linear one alone."""
        if not self.linear:
            raise InputError(f"measuring: expected 'linear' for {what}, got {self.measuring.name!r}")

    @property
    def linear(self) -> bool:
        """Whether g(X(1)) is W1 X(1)."""
        return type(self.measuring) is Linear

    def _try_own(self) -> None:
        """Test a block and a loss of the user's on a few of the samples."""
        rows = np.unique(np.linspace(0, len(self.x) - 1, _TRIED).astype(int))
        start = self.x[rows] @ self.embed.T
        if not is_builtin(self.block):
            blocks.try_out(self.block, self.activation, start)
        if not is_builtin(self.loss):
            losses.try_out(self.loss, self.outputs(start), self.y[rows])

    def replace(self, x: ArrayLike, y: ArrayLike) -> Problem:
        """The same problem on other samples, e.g. those held out."""
        return Problem(x, y, self.block, self.activation, self.embed, self.readout, self.loss, self.measuring)

    def arrays(self) -> dict[str, Array]:
        """Data by name: x, y, embed and readout."""
        return {name: getattr(self, name) for name in ARRAYS}

    def spec(self) -> Spec:
        """Plain JSON: the names, and shape and SHA-256 of each array instead of its data.

        A linear measuring function is left out, as in files older than it.
        """
        measured = {} if self.linear else {"measuring": self.measuring.spec()}
        return measured | {
            "block": recorded_spec(self.block, self.block.spec(), blocks.BLOCKS),
            "activation": activations.recorded_spec(self.activation),
            "loss": recorded_spec(self.loss, {"name": self.loss.name}, losses.LOSSES)["name"],
            "data": {name: {"shape": list(a.shape), "sha256": _digest(a)} for name, a in self.arrays().items()},
        }

    @classmethod
    def from_spec(cls, spec: Spec, data: Mapping[str, ArrayLike], own: Mapping[str, Any] | None = None) -> Problem:
        """Rebuild a problem from :meth:`spec` and the arrays it describes.

        Parameters
        ----------
        spec : dict
            From :meth:`spec`.
        data : mapping of str to array_like
            x, y, embed and readout.
        own : mapping of str to object, optional
            Objects of your own that the problem was made with, under ``"block"``, ``"activation"`` or ``"loss"``.

        Raises
        ------
        InputError
            If an array is missing or is not the one described.
        """
        for name, expected in spec["data"].items():
            if name not in data:
                raise InputError(f"data: expected arrays {', '.join(spec['data'])}, got no {name}")
            array = finite_array(name, data[name], 2)
            if _digest(array) != expected["sha256"]:
                raise InputError(
                    f"{name}: expected the array of shape {tuple(expected['shape'])} with SHA-256 "
                    f"{expected['sha256'][:12]}..., got another of shape {array.shape}; "
                    "pass the data the spec was made with"
                )
        needs_own(spec, own or {}, TABLES)
        parts: dict[str, Any] = {name: spec[name] for name in TABLES} | {name: data[name] for name in spec["data"]}
        return cls(**parts | {"measuring": spec.get("measuring", "linear")} | dict(own or {}))


def needs_own(
    spec: Spec, own: Iterable[str], tables: Mapping[str, Mapping[str, object]], others: Iterable[str] = ()
) -> None:
    """Refuse a name in a spec that is in no registry, an object of the user's, unless its kind is among ``own``.

    Kinds in ``own`` that are neither in ``tables`` nor among the ``others`` are refused too.

    Raises
    ------
    InputError
        With the argument that passes the object.
    """
    for kind in own:
        check_name("kind of object in own", kind, (*tables, *others))
    for kind, table in tables.items():
        entry = spec[kind]
        name = entry["name"] if isinstance(entry, Mapping) else entry
        if kind not in own and name is not None and name not in table:
            raise InputError(
                f"unknown {kind} {name!r}: expected one of {', '.join(sorted(table))}, or the object of your own it "
                f"was made with; pass that, own={{{kind!r}: ...}}"
            )


def _digest(array: Array) -> str:
    header = f"{array.dtype.str}{array.shape}".encode()
    return hashlib.sha256(header + array.tobytes()).hexdigest()


def _same_rows(x: object, y: object) -> None:
    """Refuse tables with different row labels, whose rows would be paired by position."""
    labels = [getattr(table, "index", None) for table in (x, y)]
    if all(hasattr(label, "equals") for label in labels) and not labels[0].equals(labels[1]):  # type: ignore[union-attr]
        raise InputError(
            "x and y: expected tables with the same index, got different ones; align them, or pass .to_numpy()"
        )
