"""Empirical measures on Theta x [0, 1]: weighted particles, their initial laws, boundary conditions in depth."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from wgflow.base import rng
from wgflow.base.copies import Copyable
from wgflow.base.errors import InputError
from wgflow.base.registry import check_name
from wgflow.base.types import Array, Index, Spec
from wgflow.base.validate import check_instance, finite_array, real, whole
from wgflow.model.initial_laws import ThetaLaw, standard_layers, theta_law
from wgflow.model.problem import Problem

BOUNDARIES = ("clip", "reflect", "free")
TAU_LAWS = ("grid", "uniform")
_INNER = ("w", "U", "W")  # groups that multiply the state, whose default scale is 1/sqrt(D)


class Particles(Copyable):
    """Empirical measure rho = sum_i mass_i delta_(theta_i, tau_i) of residual blocks.

    Immutable: the arrays are read-only copies.

    Parameters
    ----------
    theta : array_like (N, P)
        Parameters of each block, finite.
    tau : array_like (N,)
        Depth of each block, in [0, 1].
    mass : array_like (N,), optional
        Weights, >= 0; by default 1/N each.
    free : bool, optional
        Accept any finite tau, for ``Flow(boundary="free")`` under ``Gaps``.

    Raises
    ------
    InputError
        If shapes do not fit, an entry is not finite, tau leaves [0, 1] or a mass is negative.
    """

    def __init__(self, theta: ArrayLike, tau: ArrayLike, mass: ArrayLike | None = None, *, free: bool = False) -> None:
        self.theta = finite_array("theta", theta, 2)
        count = len(self.theta)
        self.tau = finite_array("tau", tau, 1)
        self.mass = finite_array("mass", np.full(count, 1.0 / count) if mass is None else mass, 1)
        for name, array in (("tau", self.tau), ("mass", self.mass)):
            if array.shape != (count,):
                raise InputError(f"{name}: expected shape ({count},), one for each row of theta, got {array.shape}")
        outside = np.flatnonzero((self.tau < 0) | (self.tau > 1))
        if outside.size and not free:
            raise InputError(
                f"tau: expected depths in [0, 1], got {self.tau[outside[0]]} for particle {outside[0]} "
                f"({outside.size} outside); rescale them, or pass free=True to run with boundary='free'"
            )
        if (self.mass < 0).any():
            where = int(np.argmax(self.mass < 0))
            raise InputError(f"mass: expected weights >= 0, got {self.mass[where]} for particle {where}")
        self.free = free

    def __len__(self) -> int:
        return len(self.theta)

    def __repr__(self) -> str:
        return f"Particles(N={len(self)}, P={self.theta.shape[1]})"

    @classmethod
    def draw(
        cls,
        problem: Problem,
        count: int,
        seed: int = 0,
        scale: Mapping[str, float] | None = None,
        tau: str = "grid",
        part: int = 0,
        law: ThetaLaw | Spec | str = "gaussian",
    ) -> Particles:
        """Draw particles independently: theta and tau from the given laws.

        Particle i depends only on the seed and on i, so a smaller ensemble is the beginning of a larger one (except
        for ``tau="grid"``, whose depths are (i + 1)/N).

        Parameters
        ----------
        problem : Problem
            Fixes the parameter groups and the width.
        count : int
            N >= 1.
        seed : int, optional
            0 <= seed < 2**64.
        scale : mapping of str to float, optional
            Standard deviation by parameter group, >= 0; by default 1 for each, and 1/sqrt(D) for the groups
            that multiply the state (w, U, W), so that the activation's argument is of order one.
        tau : {"grid", "uniform"}, optional
            ``grid``: tau_i = (i + 1)/N, equal gaps, the vanilla network with steps 1/N. ``uniform``: independent
            and uniform on [0, 1].
        part : int, optional
            Particles part * N up to (part + 1) * N - 1 of the seed's infinite sequence. Parts of one seed are
            independent ensembles, and together they are the larger ensemble of that seed: first-order fluctuations
            cancel in the difference between the mean over parts and the whole.
        law : str, mapping or object, optional
            Law of theta, in units of ``scale``: ``gaussian``, whose support is unbounded, or one of bounded support,
            as the theorems of Ding, Chen, Li and Wright ask: {"name": "truncated", "bound": 2.0, "groups": ["a"]}, or
            ``ball`` or ``sphere`` with the same options. See :mod:`wgflow.model.initial_laws`.

        Raises
        ------
        InputError
            If a number is out of range or a name is unknown.
        """
        count = whole("count", count)
        part = whole("part", part, least=0)
        check_name("tau law", tau, TAU_LAWS)
        low, high = part * count, (part + 1) * count
        spread = problem.by_column(scales(problem, scale))
        standard = rng.normal(seed, "initial theta", (high, problem.shape[3]))[low:]
        theta = spread * theta_law(law).place(standard, problem)
        if tau == "grid":
            return cls(theta, np.arange(1, count + 1) / count)
        return cls(theta, rng.uniform(seed, "initial tau", (high, 1))[low:, 0])

    @classmethod
    def draw_layers(
        cls,
        problem: Problem,
        layers: int,
        per_layer: int,
        seed: int = 0,
        scale: Mapping[str, float] | None = None,
        coupling: str = "independent",
        part: int = 0,
        within: int | None = None,
        fresh: bool = False,
        law: ThetaLaw | Spec | str = "gaussian",
    ) -> Particles:
        """Draw equally many particles in each of L layers, for ``Layers(L)``, all with the law of :meth:`draw`.

        Particle l * per_layer + m sits at tau = (l + 1/2)/L. The two couplings have the same marginal in every layer
        and differ in the joint law of the layers, which determines the rate at which the network approaches its limit.
        Layer l evaluates the path at its midpoint (l + 1/2)/L, where Ding et al. use l/L.

        Parameters
        ----------
        problem, seed, scale, part, law : Problem, int, mapping, int, str or mapping or object
            As for :meth:`draw`, with the parts of every layer's sequence.
        layers : int
            L >= 1.
        per_layer : int
            Particles of one layer, M_l >= 1. Particle m of a layer does not depend on it.
        coupling : {"independent", "path"}, optional
            ``independent``: fresh draws in each layer. ``path``: particle m follows one random path through all of
            them, cos(pi t / 2) Z_m + sin(pi t / 2) Z'_m with Gaussian Z and Z', mapped to the law. It is continuous in
            t, as Ding, Chen, Li and Wright (arXiv:2110.02926, Definition 4.2) ask of an admissible initial process;
            that its support is bounded they ask too, and the default law has none that is:
            :func:`wgflow.theory.admissibility.radius`.
        within : int, optional
            Layers >= L of a larger network that this one sub-samples: layer l starts as that network's layer
            floor((l + 1/2) within / L), particle by particle. By default ``layers``.
        fresh : bool, optional
            Draw independently for every size (L, M_l), so that networks of one seed share nothing.

        Raises
        ------
        InputError
            If a number is out of range or a name is unknown.
        """
        layers = whole("layers", layers)
        within = whole("within", layers if within is None else within, least=layers)
        per_layer = whole("per_layer", per_layer)
        part = whole("part", part, least=0)
        number = ((2 * np.arange(layers) + 1) * within) // (2 * layers)  # of the larger network's layers
        t, spread = (number + 0.5) / within, problem.by_column(scales(problem, scale))
        low = part * per_layer
        of = f" of {layers} by {per_layer}" if fresh else ""
        rows, columns = (low, low + per_layer), problem.shape[3]
        standard = standard_layers(coupling, t, number.tolist(), rows, columns, seed, of)
        theta = theta_law(law).place(standard, problem).reshape(layers * per_layer, -1)
        theta *= spread
        return cls(theta, np.repeat((np.arange(layers) + 0.5) / layers, per_layer))

    @functools.cached_property
    def positive(self) -> bool:
        """Whether all masses are positive."""
        return bool((self.mass > 0).all())

    @functools.cached_property
    def order(self) -> Index:
        """Particles by increasing tau, ties by particle index, (N,)."""
        order = np.argsort(self.tau, kind="stable")
        order.setflags(write=False)
        return order

    def moved(
        self, theta: Array, tau: Array, *, free: bool = False, fresh: bool = False, order: Index | None = None
    ) -> Particles:
        """Measure with the same masses at other places.

        Parameters
        ----------
        theta, tau : ndarray (N, P), (N,)
            The places.
        free : bool, optional
            Whether tau may lie outside [0, 1].
        fresh : bool, optional
            The arrays are new and finite: they are used without checks or a copy, and made read-only.
        order : ndarray (N,), optional
            The :attr:`order` of the places, if it is known and the arrays are ``fresh``.

        Raises
        ------
        InputError
            As for the class, unless ``fresh``.
        """
        if not fresh:
            return Particles(theta, tau, self.mass, free=free)
        particles = object.__new__(Particles)
        particles.theta, particles.tau, particles.mass, particles.free = theta, tau, self.mass, free
        theta.setflags(write=False)
        tau.setflags(write=False)
        if order is not None:
            particles.order = order
        if "positive" in self.__dict__:
            particles.positive = self.positive
        return particles


def confine(tau: Array, boundary: str) -> Array:
    """Apply the boundary condition to depths: ``clip`` to [0, 1], ``reflect`` at 0 and 1, or leave them ``free``."""
    if boundary == "clip":
        return np.clip(tau, 0.0, 1.0)
    if boundary == "reflect":
        folded = np.mod(tau, 2.0)
        return np.where(folded > 1.0, 2.0 - folded, folded)
    return tau


def project(tau: Array, v_tau: Array, boundary: str) -> Array:
    """Velocity in depth, with its outward part removed at the boundary under ``clip``.

    With ``clip`` the flow is the projected gradient flow on [0, 1]: a particle pushed outwards at the boundary stays
    there, and dissipates nothing.
    """
    if boundary != "clip" or not ((tau <= 0.0) | (tau >= 1.0)).any():
        return v_tau
    outward = ((tau <= 0.0) & (v_tau < 0)) | ((tau >= 1.0) & (v_tau > 0))
    return np.where(outward, 0.0, v_tau)


def scales(problem: Problem, scale: Mapping[str, float] | None = None) -> dict[str, float]:
    """Standard deviation of the initial law by parameter group; see :meth:`Particles.draw`.

    Raises
    ------
    InputError
        If a group is unknown or a number out of range.
    """
    width = problem.shape[1]
    spread = {name: width**-0.5 if name in _INNER else 1.0 for name in problem.groups}
    if scale is not None:
        check_instance("scale", scale, Mapping, "such as {'a': 0.5}")
    for name, value in (scale or {}).items():
        check_name("parameter group in scale", name, problem.groups)
        spread[name] = real(f"scale of {name}", value, least=0.0)
    return spread
