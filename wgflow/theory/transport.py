"""Transport of mass: birth-death and births as operators of a flow, for schemes in which mass matters.

Moving particles cannot leave a stationary point; moving their masses, or putting a particle where dE/drho is lowest,
can. Both act under Deposit and Shallow; under Gaps and Layers the marginal in depth is fixed and mass does not move.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.optimize import minimize_scalar

from wgflow.base import rng
from wgflow.base.errors import InputError
from wgflow.base.registry import Options
from wgflow.base.types import Array
from wgflow.base.validate import real, whole
from wgflow.energy import Energy
from wgflow.flow.operators import Move
from wgflow.model.depth import Deposit, Shallow
from wgflow.model.particles import Particles
from wgflow.theory.certificate import certificate

_SHARE_TOLERANCE = 1e-6  # of the line search over a newborn's share
_ROUNDING = 1e-9  # of a flow time that is a multiple of the period
_STEPS = 50  # of the search for its place, which the flow then continues


@dataclass(frozen=True)
class BirthDeath(Options):
    """Fisher-Rao transport of mass, d mass_i/ds = -rate mass_i (V_i - <V, rho>) with V = dE/drho at the particles.

    Over a step of length h mass_i <- mass_i exp(-rate h (V_i - <V, rho>)), brought back to the old total: masses stay
    >= 0, and with the transport of the flow dE/ds = -dissipation - rate Var_rho(V), up to O(h).

    With ``floor`` > 0 a particle whose mass falls below floor/N of the total dies: its mass goes to the others in
    proportion, and its slot to a clone of a survivor, chosen with probability proportional to mass, that takes half
    of the survivor's mass, moved by Gaussian noise of standard deviation ``jitter`` so that the two can part.

    For a block linear in some parameters a (ridge, two_layer) V = a . d_a V, so Var_rho(V) <= max|a_i|**2 times the
    dissipation in theta (derived): a stationary point of the plain flow is one of birth-death too, unless a is pinned.

    Rotskoff, Jelassi, Bruna and Vanden-Eijnden (arXiv:1902.01843), whose particles jump; here the masses move, and
    only dead particles change places.

    Parameters
    ----------
    rate : float
        > 0.
    floor : float, optional
        In [0, 1); 0, the default, keeps every particle where it is.
    jitter : float, optional
        Noise of a clone's parameters, >= 0.
    seed : int, optional
        0 <= seed < 2**64; clones are a function of (seed, step, particle).
    """

    rate: float
    floor: float = 0.0
    jitter: float = 0.0
    seed: int = 0
    name: ClassVar[str] = "birth_death"

    def _check_options(self) -> None:
        real("rate of birth_death", self.rate, above=0.0)
        real("floor of birth_death", self.floor, least=0.0)
        real("jitter of birth_death", self.jitter, least=0.0)
        if self.floor >= 1:
            raise InputError(f"floor of birth_death: expected a share < 1 of the mean mass, got {self.floor:g}")
        rng.uniform(self.seed, "birth_death", (1, 1))  # checks the seed

    @property
    def random(self) -> bool:
        """Whether anything in it is random."""
        return self.floor > 0

    @property
    def descends(self) -> bool:
        """Whether E falls in short enough steps; clones that are moved by noise can raise it."""
        return not (self.floor > 0 and self.jitter > 0)

    def __call__(self, rho: Particles, move: Move) -> Particles:
        """Move masses over one step; raises InputError under schemes in which mass does not move."""
        _check(self.name, move.energy)
        value = move.energy.first_variation(rho, rho.theta, rho.tau, move.s + move.h)
        if not np.isfinite(value).all():
            return rho  # the flow finds the divergence and says so
        exponent = -self.rate * move.h * (value - value[rho.mass > 0].min())  # of the heaviest growth 0: no overflow
        mass = rho.mass * np.exp(np.minimum(exponent, 0.0))
        mass *= rho.mass.sum() / mass.sum()
        theta, tau = rho.theta, rho.tau
        if self.floor > 0:
            theta, tau, mass = self._resample(theta, tau, mass, move.step)
        return Particles(theta, tau, mass, free=rho.free)

    def _resample(self, theta: Array, tau: Array, mass: Array, step: int) -> tuple[Array, Array, Array]:
        """Give the slots of the dead to clones of survivors."""
        count, total = len(mass), mass.sum()
        dead = np.flatnonzero(mass < self.floor * total / count)
        if not len(dead):
            return theta, tau, mass
        theta, tau, mass = theta.copy(), tau.copy(), mass.copy()
        mass[dead] = 0.0
        mass *= total / mass.sum()
        draws = rng.uniform(self.seed, "birth_death parents", (count, 1), step)[:, 0]
        noise = rng.normal(self.seed, "birth_death jitter", theta.shape, step)
        for slot in dead:
            heap = np.cumsum(mass)
            parent = min(int(np.searchsorted(heap, draws[slot] * heap[-1], side="right")), count - 1)
            mass[slot] = mass[parent] = 0.5 * mass[parent]
            theta[slot], tau[slot] = theta[parent] + self.jitter * noise[slot], tau[parent]
        return theta, tau, mass


@dataclass(frozen=True)
class Birth(Options):
    """From time to time put a particle where dE/drho is lowest, in the slot of the particle with the least mass.

    The place is the minimiser of :func:`~wgflow.theory.certificate.certificate`. The least particle's mass goes to the
    others in proportion, rho', and the newborn gets the share that is best: min over q of E((1 - q) rho' + q nu), found
    by Brent's method on [0, share]. Where not even that is below E(rho), nothing is born: E never rises. Among
    particles of equally little mass that goes whose dE/drho is highest.

    A step of Frank and Wolfe between those of a gradient flow, after Rotskoff, Jelassi, Bruna and Vanden-Eijnden
    (arXiv:1902.01843), who draw the newborn from a prior.

    Parameters
    ----------
    every : int, optional
        Steps between births, >= 1; the first after so many steps.
    radius : float
        R > 0 of the ball searched; a fixed one, since a newborn sits at its edge.
    starts : int, optional
        Starts of the search, >= 3.
    share : float, optional
        Largest share of the mass that a newborn may get, in (0, 1].
    seed : int, optional
        0 <= seed < 2**64; the starts of a search are a function of (seed, step).
    period : float, optional
        Flow time between births, > 0, in place of ``every``: births do not depend on the step length. They come after
        the step that reaches a multiple of it.
    """

    every: int | None = None
    radius: float = math.nan
    starts: int = 32
    share: float = 0.5
    seed: int = 0
    period: float | None = None
    name: ClassVar[str] = "birth"
    random: ClassVar[bool] = False  # what it does never raises E, so a rule may compare energies
    descends: ClassVar[bool] = True

    def _check_options(self) -> None:
        if (self.every is None) == (self.period is None):
            raise InputError(
                f"every, period of birth: expected one of them, steps or flow time between births, got every = "
                f"{self.every} and period = {self.period}"
            )
        if self.period is None:
            whole("every of birth", self.every)
        else:
            real("period of birth", self.period, above=0.0)
        whole("starts of birth", self.starts, 3)
        real("radius of birth", self.radius, above=0.0)
        if real("share of birth", self.share, above=0.0) > 1:
            raise InputError(f"share of birth: expected a share <= 1 of the mass, got {self.share:g}")
        rng.uniform(self.seed, "birth", (1, 1))  # checks the seed

    def __call__(self, rho: Particles, move: Move) -> Particles:
        """Let a particle be born, if its step has come; raises InputError where mass does not move."""
        _check(self.name, move.energy)
        if not self._due(move) or len(rho) < 2:
            return rho
        s = move.s + move.h
        seed = int(rng.uniform(self.seed, "birth seeds", (1, 1), move.step)[0, 0] * 2**52)
        if not np.isfinite(move.energy(rho, s=s)):
            return rho  # the flow finds the divergence and says so
        minimum = certificate(move.energy, rho, self.radius, self.starts, steps=_STEPS, seed=seed, s=s)
        value = move.energy.first_variation(rho, rho.theta, rho.tau, s)
        if not (np.isfinite(value).all() and np.isfinite(minimum.theta).all()):
            return rho
        slot = int(np.lexsort((-value, rho.mass))[0])
        theta, tau = rho.theta.copy(), rho.tau.copy()
        theta[slot], tau[slot] = minimum.theta[0], minimum.t[0]
        total, others = rho.mass.sum(), rho.mass.copy()
        others[slot] = 0.0
        others *= total / others.sum()
        newborn = np.where(np.arange(len(rho)) == slot, total, 0.0)

        def born(share: float) -> Particles:
            return Particles(theta, tau, (1.0 - share) * others + share * newborn, free=rho.free)

        search = minimize_scalar(
            lambda share: move.energy(born(share), s=s),
            bounds=(0.0, self.share), method="bounded", options={"xatol": _SHARE_TOLERANCE},
        )  # fmt: skip
        return born(float(search.x)) if search.fun < move.energy(rho, s=s) else rho

    def _due(self, move: Move) -> bool:
        """Whether the step ends where a particle is born."""
        if self.period is None:
            return self.every is not None and (move.step + 1) % self.every == 0
        begin, end = (math.floor(s / self.period + _ROUNDING) for s in (move.s, move.s + move.h))
        return end > begin


def _check(name: str, energy: Energy) -> None:
    """Refuse schemes whose marginal in depth is fixed."""
    if not isinstance(energy.depth, Deposit | Shallow):
        raise InputError(
            f"{name}: expected depth deposit or shallow, where mass counts, got {energy.depth.name!r}; use one of those"
        )
