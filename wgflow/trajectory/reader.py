"""Reading a trajectory: a lazy sequence of frames, each checked against its digest before it is returned."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wgflow.base.energy_balance import EnergyBalance
from wgflow.base.errors import InputError, TrajectoryError, describe
from wgflow.base.registry import check_name
from wgflow.base.types import Array, Frame, Spec
from wgflow.trajectory import layout, schema
from wgflow.trajectory.frames import Frames

if TYPE_CHECKING:
    import xarray

    from wgflow.energy import Energy

_OTHER_SYSTEMS = {  # by a key of their specs: what they are, and what reads them
    "network": "a feature network; rebuild it with wgflow.systems.neural_feature_flow.system.from_trajectory",
    "training": "a training run of an image network; its weights are in the checkpoint beside the file, which "
    "wgflow.systems.images.checkpoint.load reads",
}


class ParticlePath(NamedTuple):
    """Path of one particle through the frames of a run.

    Attributes
    ----------
    theta, tau, mass : ndarray (F, P), (F,), (F,)
        Its parameters, its depth and its weight.
    """

    theta: Array
    tau: Array
    mass: Array


class Trajectory(Sequence[Frame]):
    """A run as a lazy sequence of frames.

    Parameters
    ----------
    path : str or Path
        A file written by wgflow, finished or still being written.

    Attributes
    ----------
    path : Path
        The file.
    parameters : dict
        The documents stored with the run: ``energy``, ``flow``, ``study`` and ``provenance``.

    Raises
    ------
    TrajectoryError
        If the file is missing, foreign, damaged or of another version.

    Examples
    --------
    ``frame = trajectory[-1]``, ``trajectory[::10]``, ``trajectory.series("energy")``,
    ``flow.run(trajectory[-1], until=200.0)``.
    """

    def __init__(self, path: str | Path) -> None:
        if not isinstance(path, str | os.PathLike):
            raise InputError(f"path: expected the path of a trajectory as text, got {describe(path)}")
        self.path = Path(path)
        self._absolute = self.path.absolute()
        self._file = layout.opened(self.path)
        try:
            places = layout.read(self._file)
            self._frames = Frames(self._file, places)
            self.parameters: dict[str, Spec] = {name: places.document(self._file, name) for name in schema.DOCUMENTS}
        except KeyError as error:
            self._file.close()
            raise TrajectoryError(f"{self.path}: damaged, expected {error} in it, got none") from error
        except BaseException:
            self._file.close()
            raise

    def __reduce__(self) -> tuple[type[Trajectory], tuple[Path]]:
        """Pickle the path alone: a copy opens the file again."""
        return type(self), (self._absolute,)

    def __len__(self) -> int:
        return self._frames.count

    @overload
    def __getitem__(self, index: int) -> Frame: ...

    @overload
    def __getitem__(self, index: slice) -> list[Frame]: ...

    def __getitem__(self, index: int | slice) -> Frame | list[Frame]:
        """Frame by number, counted from the end if negative; a list of frames for a slice."""
        if isinstance(index, slice):
            numbers = range(*index.indices(len(self)))
            if numbers.step == 1:
                return list(self._open.read(numbers.start, max(numbers.start, numbers.stop)))
            return [self[number] for number in numbers]
        number = index + len(self) if index < 0 else index
        if not 0 <= number < len(self):
            raise IndexError(f"{self.path}: expected a frame number in 0..{len(self) - 1}, got {index}")
        return next(self._open.read(number, number + 1))

    def __iter__(self) -> Iterator[Frame]:
        yield from self._open.read(0, len(self))  # a generator keeps the file open as long as it lives

    def __repr__(self) -> str:
        return f"Trajectory({str(self.path)!r}, frames={len(self)})"

    @property
    def observables(self) -> tuple[str, ...]:
        """Names of the series in the file."""
        return (*schema.OWN_OBSERVABLES, *self._frames.layout.callers)

    @property
    def particles(self) -> int:
        """N; 0 for a run that recorded only numbers along s."""
        return self._frames.layout.particles

    @property
    def finished(self) -> bool:
        """Whether the run reached its end; otherwise it was stopped or is being written."""
        return self._frames.finished

    def series(self, name: str) -> NDArray[Any]:
        """Values at all frames, (F,) or (F, ...): of ``"s"``, ``"step"``, or any of :attr:`observables`.

        ``"balance"`` has the numbers of :class:`wgflow.base.energy_balance.EnergyBalance`.

        Raises
        ------
        InputError
            If there is no such series.
        TrajectoryError
            If a frame does not match its digest.
        """
        extra = (schema.BALANCE,) if self._frames.layout.balanced else ()
        paths = {"s": schema.TIME, "step": schema.STEP}
        paths |= {observable: schema.observable(observable).path for observable in (*self.observables, *extra)}
        check_name("series", name, paths)
        return self._numbers[paths[name]].copy()

    @property
    def balance(self) -> EnergyBalance | None:
        """Balance of energy over all steps up to the last frame; None if it was not recorded."""
        if not len(self) or not self._frames.layout.balanced:
            return None
        last = self.series(schema.BALANCE)[-1].tolist()
        return None if math.isnan(last[0]) else EnergyBalance(*last)

    def particle(self, index: int) -> ParticlePath:
        """Path of one particle through all frames; only its block of each frame is read.

        Parameters
        ----------
        index : int
            Its index, 0 <= index < N, or counted from the end if negative.

        Raises
        ------
        IndexError
            If there is no such particle.
        TrajectoryError
            If a frame does not match its digest.
        """
        count = self._open.layout.particles
        if not -count <= index < count:
            raise IndexError(f"{self.path}: expected a particle in 0..{count - 1}, got {index}")
        position, mass = self._open.particle(index % count)
        return ParticlePath(np.ascontiguousarray(position[:, :-1]), np.ascontiguousarray(position[:, -1]), mass)

    def energy(
        self,
        samples: str = "data",
        data: Mapping[str, ArrayLike] | None = None,
        backend: str = "cpu",
        threads: int | None = None,
        own: Mapping[str, Any] | None = None,
    ) -> Energy:
        """Energy whose flow the run is, rebuilt from the file alone.

        Parameters
        ----------
        samples : {"data", "heldout"}, optional
            Training or held-out samples.
        data : mapping of str to array_like, optional
            Arrays x and y, needed only if they were too large to be stored.
        backend, threads : optional
            As for :class:`~wgflow.energy.Energy`.
        own : mapping of str to object, optional
            User-defined objects of the run; see :meth:`wgflow.Energy.from_spec`.

        Raises
        ------
        InputError
            If the file has no such samples.
        """
        from wgflow.energy import Energy  # on demand: frames are read without kernels and problems

        if not self.parameters["energy"]:
            raise InputError(f"{self.path}: expected the energy's spec in it, got none; it was lost in a repair")
        for key, system in _OTHER_SYSTEMS.items():
            if key in self.parameters["energy"]:
                raise InputError(f"{self.path}: expected a measure of residual blocks, got {system}")
        check_name("samples", samples, ("data", "heldout"))
        stored = self._arrays("data") | (dict(data or {}) if samples == "data" else {})
        if not {"x", "y"} <= set(stored):
            raise InputError(
                f"{self.path}: expected data={{'x': ..., 'y': ...}}, as they were too large to store, got none"
            )
        energy = Energy.from_spec(self.parameters["energy"], stored, backend, threads, own)
        if samples == "data":
            return energy
        if "parameters/heldout/x" not in self._open.layout.places and not {"x", "y"} <= set(data or {}):
            raise InputError(f"{self.path}: expected held-out samples, got a run without any in its file")
        heldout = self._arrays("heldout") | dict(data or {})
        problem = energy.problem.replace(heldout["x"], heldout["y"])
        return Energy(problem, energy.depth, backend, energy.dtype, threads)

    def to_xarray(self, particles: bool = True) -> xarray.Dataset:
        """All frames as arrays with named dimensions.

        Parameters
        ----------
        particles : bool, optional
            Also the particles of every frame, F N (P + 2) numbers in memory; otherwise series alone.

        Returns
        -------
        xarray.Dataset
            theta (frame, particle, component), tau and mass (frame, particle) and a series (frame,) for each of
            :attr:`observables`; flow time ``s`` and ``step`` are coordinates along frame. Attributes: the documents of
            :attr:`parameters`, as JSON.

        Raises
        ------
        InputError
            If xarray is not installed.
        TrajectoryError
            If a frame does not match its digest.
        """
        from wgflow.trajectory.convert import to_xarray

        return to_xarray(self, particles)

    def samples(self, which: str = "data") -> dict[str, Array]:
        """Arrays x and y (and embed, readout, if the system has them) stored with the run, by name.

        Parameters
        ----------
        which : {"data", "heldout"}, optional
            Training or held-out samples.

        Raises
        ------
        InputError
            If the file has none.
        """
        arrays = self._arrays(which) if which in ("data", "heldout") else {}
        if not {"x", "y"} <= set(arrays):
            raise InputError(f"{self.path}: expected samples {which!r} in it, got none")
        return arrays

    @property
    def holds_data(self) -> bool:
        """Whether the problem's samples are stored in the file; very large ones are not."""
        return "parameters/data/x" in self._open.layout.places

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()

    def __enter__(self) -> Trajectory:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _arrays(self, group: str) -> dict[str, Array]:
        prefix = f"parameters/{group}/"
        paths = [path for path in self._open.layout.places if path.startswith(prefix)]
        return {path.removeprefix(prefix): self._open.array(path) for path in paths}

    @property
    def _open(self) -> Frames:
        if self._file.closed:
            raise TrajectoryError(f"{self.path}: this Trajectory has been closed; open it again")
        return self._frames

    @functools.cached_property
    def _numbers(self) -> dict[str, NDArray[Any]]:
        """Numbers of all frames by path, checked once."""
        return self._open.columns()
