"""Depth schemes: how particles become layers, and how the layers' gradients become velocities of particles.

A scheme turns a measure into a :class:`Network`, a list of layers each holding weighted particles,

    X_(k+1) = X_k + sum_(e in layer k) weight_e f(X_k, theta_particle(e)),

for which a kernel returns, at every entry e, the first variation g_e = mean_m f(X_k, theta) . p_(k+1) = dE/dweight_e
and its gradient in theta. The scheme then applies the transpose of what it did. Different schemes are different
models; their theorems are not mixed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left
from dataclasses import dataclass, fields
from typing import Any, ClassVar, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from wgflow.base import rng
from wgflow.base.errors import InputError, describe
from wgflow.base.registry import build, check_name
from wgflow.base.types import Array, Index, Spec
from wgflow.base.user_objects import Candidate, is_builtin, nearly_equal, try_once
from wgflow.base.validate import use_python_numbers, whole
from wgflow.model.particles import Particles


class Network(NamedTuple):
    """Layers as rows of a sparse matrix (compressed rows).

    Attributes
    ----------
    first : ndarray (L + 1,), int64
        Layer k holds the entries first[k] <= e < first[k + 1].
    particle : ndarray (E,), int64
        Row of theta each entry takes its parameters from.
    weight : ndarray (E,)
        Weight of each entry in its layer's step.
    """

    first: Index
    particle: Index
    weight: NDArray[Any]

    @property
    def layers(self) -> int:
        """Number of layers L."""
        return len(self.first) - 1


class Stencil(NamedTuple):
    """Where points of depth see the network: R layers each.

    Attributes
    ----------
    layer : ndarray (Q, R), int64
        Layers k whose X_k and p_(k+1) make the first variation at each point; L, one past the last, is X(1) and p(1).
    weight : ndarray (Q, R)
        Their weights, S_k(t), with sum 1.
    slope : ndarray (Q, R)
        dS_k/dt.
    """

    layer: Index
    weight: Array
    slope: Array


class Depth(ABC):
    """What a depth scheme has to offer."""

    name: ClassVar[str]
    boundaries: ClassVar[tuple[str, ...]] = ("clip",)

    @abstractmethod
    def network(self, rho: Particles) -> Network:
        """Layers of the measure; raises InputError if the scheme cannot hold it."""

    @abstractmethod
    def sample(self, rho: Particles, t: Array) -> Stencil:
        """Stencil of the first variation at depths t, (Q,)."""

    @abstractmethod
    def velocity(self, rho: Particles, net: Network, value: Array, slope: Array) -> tuple[Array, Array]:
        """Velocities (N, P) and (N,) from the kernel's g_e, (E,), and d_theta g_e, (E, P)."""

    def inverse_tau_mobility(self, rho: Particles) -> Array:
        """Factors 1/kappa_i in the dissipation v_tau,i**2 / kappa_i, (N,); zero where tau never moves."""
        return np.zeros(len(rho))

    def order(self, rho: Particles) -> Index | None:
        """Order of the particles along depth where it matters to E, else None."""
        del rho
        return None

    def spec(self) -> Spec:
        """Plain JSON from which :func:`depth` rebuilds this scheme."""
        return {"name": self.name} | {field.name: getattr(self, field.name) for field in fields(cast(Any, self))}


class _Deposited(Depth):
    """Schemes in which a particle's mass goes to layers by a shape function of its depth.

    weight_e = mass_i S_k(tau_i), so v_theta,i = -sum_k S_k d_theta g and v_tau,i = -sum_k S'_k g: the gradient of
    -dE/drho exactly, with no division by the mass.
    """

    def _check(self, rho: Particles) -> None:
        if rho.free and ((rho.tau < 0) | (rho.tau > 1)).any():
            raise InputError(
                f"tau: expected depths in [0, 1] under {self.name}, got some outside; only gaps can hold them"
            )

    def network(self, rho: Particles) -> Network:
        """Layers with each particle's mass deposited on them."""
        self._check(rho)
        stencil = self.sample(rho, rho.tau)
        place = self._place(stencil)
        reach = stencil.layer.shape[1]
        weight = (rho.mass[:, None] * stencil.weight).ravel()[place]
        first = np.searchsorted(stencil.layer.ravel()[place], np.arange(self._count() + 1))
        return Network(first, place // reach, weight)

    def velocity(self, rho: Particles, net: Network, value: Array, slope: Array) -> tuple[Array, Array]:
        """v_theta = -d_theta dE/drho and v_tau = -d_t dE/drho at the particles."""
        stencil = self.sample(rho, rho.tau)
        place, (count, reach) = self._place(stencil), stencil.layer.shape
        back = np.empty(len(place), np.int64)
        back[place] = np.arange(len(place))
        if reach == 1:  # one layer a particle, whatever its depth in there: nothing to weigh, nothing moves
            v_theta = np.take(slope, back, axis=0)
            return np.negative(v_theta, out=v_theta), np.zeros(count)
        v_theta = -np.einsum("nr,nrp->np", stencil.weight, slope[back].reshape(count, reach, -1))
        v_tau = -np.einsum("nr,nr->n", stencil.slope, value[back].reshape(count, reach))
        return v_theta, v_tau

    @abstractmethod
    def _count(self) -> int:
        """Number of layers L."""

    def _place(self, stencil: Stencil) -> Index:
        """Entries (particle, r) in the order of their layers, particles in order within one."""
        return np.argsort(stencil.layer.ravel(), kind="stable")


@dataclass(frozen=True)
class Gaps(Depth):
    """Algorithm 1 of Lu, Ma, Lu, Lu and Ying (arXiv:2003.05508): sort by depth, step by the gaps.

    X <- X + (tau^l - tau^(l-1)) f(X, theta^l) over the particles sorted by tau, ties by index, tau^(-1) = 0. The
    measure behind it is sum_l delta_(theta^l) 1_(tau^(l-1), tau^l](t): integrals against rho use the gaps, not the
    mass. Neighbours share a boundary, so dE/dtau^l = g_l - g_(l+1) (g_last at the end), and E jumps where two depths
    cross. This is that algorithm's descent, not the Wasserstein velocity in tau.
    """

    name: ClassVar[str] = "gaps"
    boundaries: ClassVar[tuple[str, ...]] = ("clip", "reflect", "free")

    def order(self, rho: Particles) -> Index:
        """Particles by increasing tau, ties by particle index."""
        return rho.order

    def network(self, rho: Particles, order: Index | None = None) -> Network:
        """One layer a particle, its weight the gap to the one before.

        Parameters
        ----------
        rho : Particles
            The measure.
        order : ndarray (N,), optional
            An order to use instead of the sorted one: the gaps may then be negative, which continues E smoothly past
            a crossing (this is how the size of a jump is measured).
        """
        if (rho.mass <= 0).any():
            raise InputError(
                "mass: expected weights > 0 under Gaps, which divides by them, got 0; drop those particles"
            )
        order = rho.order if order is None else order
        sorted_ = rho.tau[order]
        gaps = sorted_.copy()
        gaps[1:] -= sorted_[:-1]
        return Network(np.arange(len(rho) + 1), order, gaps)

    def sample(self, rho: Particles, t: Array) -> Stencil:
        """Layer l for t in (tau^(l-1), tau^l], N beyond the last tau; constant in between."""
        return _piecewise(np.searchsorted(np.sort(rho.tau), t, side="left"))

    def velocity(self, rho: Particles, net: Network, value: Array, slope: Array) -> tuple[Array, Array]:
        """v_theta = -(gap/mass) d_theta g, v_tau = -mass (g_l - g_(l+1))."""
        place = np.empty(len(rho), np.int64)
        place[net.particle] = np.arange(len(rho))
        v_theta = np.take(slope, place, axis=0)
        v_theta *= -(net.weight[place] / rho.mass)[:, None]
        after = np.append(value[1:], 0.0)
        return v_theta, -rho.mass * (value - after)[place]

    def inverse_tau_mobility(self, rho: Particles) -> Array:
        """1/mass: dE/dtau is of order one here, and kappa = 1/mass would throw every particle to an end in one step."""
        return 1.0 / rho.mass


@dataclass(frozen=True)
class Layers(_Deposited):
    """Ding, Chen, Li and Wright (arXiv:2110.02926), eq. (1): L layers of equally many particles that stay in them.

    X <- X + (1/(L M_l)) sum_m f(X, theta_(l,m)), layer = floor(tau L). The marginal in depth is fixed: tau never moves.

    Parameters
    ----------
    layers : int
        L >= 1.
    """

    layers: int
    name: ClassVar[str] = "layers"

    def __post_init__(self) -> None:
        use_python_numbers(self)
        whole("layers", self.layers)

    def sample(self, rho: Particles, t: Array) -> Stencil:
        """The layer that t lies in; t = 1 belongs to the last."""
        return _piecewise(np.minimum((np.asarray(t) * self.layers).astype(np.int64), self.layers - 1))

    def _check(self, rho: Particles) -> None:
        super()._check(rho)
        counts = np.bincount(self.sample(rho, rho.tau).layer[:, 0], minlength=self.layers)
        if counts.min() != counts.max():
            raise InputError(
                f"tau: expected equally many particles in each of {self.layers} layers, got {counts.min()} to "
                f"{counts.max()}; Particles.draw_layers places them"
            )
        if rho.mass.min() != rho.mass.max() or abs(rho.mass[0] * len(rho) - 1) > 1e-6:  # single precision will do
            raise InputError(
                f"mass: expected equal weights 1/N = {1 / len(rho):.9g} under layers, got {rho.mass.min():.9g} to "
                f"{rho.mass.max():.9g}; "
                "leave mass out, or use Deposit"
            )

    def _count(self) -> int:
        return self.layers


@dataclass(frozen=True)
class Deposit(_Deposited):
    """The joint measure on Theta x [0, 1] as particle-in-cell: each particle's mass goes to its nearest layers.

    Stands in for the overlapping intervals of Lu, Ma, Lu, Lu and Ying (arXiv:2003.05508), section 3. With the
    quadratic B-spline (triangular-shaped cloud), u = L tau - 1/2, k = round(u), r = u - k,

        S_(k-1) = (1/2 - r)**2 / 2,   S_k = 3/4 - r**2,   S_(k+1) = (1/2 + r)**2 / 2,

    indices clipped to 0..L-1. E is C^1 in tau, so tau moves along the true Wasserstein gradient.

    Parameters
    ----------
    layers : int
        L >= 1.
    shape : {"spline", "hat"}, optional
        ``hat``, piecewise linear (cloud-in-cell), is a negative control: E has kinks at the layers, where its minima
        sit, and the flow chatters there.
    """

    layers: int
    shape: str = "spline"
    name: ClassVar[str] = "deposit"
    boundaries: ClassVar[tuple[str, ...]] = ("clip", "reflect")

    def __post_init__(self) -> None:
        use_python_numbers(self)
        whole("layers", self.layers)
        check_name("shape of deposit", self.shape, ("spline", "hat"))

    def sample(self, rho: Particles, t: Array) -> Stencil:
        """Layers, weights and slopes of the shape function at t."""
        u = self.layers * np.asarray(t) - 0.5
        if self.shape == "hat":
            k = np.floor(u)
            r = u - k
            offsets = [0, 1]
            weights: tuple[Any, ...] = (1.0 - r, r)
            slopes: tuple[Any, ...] = (-1.0, 1.0)
        else:
            k = np.rint(u)
            r = u - k
            offsets = [-1, 0, 1]
            weights = (0.5 * (0.5 - r) ** 2, 0.75 - r**2, 0.5 * (0.5 + r) ** 2)
            slopes = (r - 0.5, -2.0 * r, r + 0.5)
        layer = k.astype(np.int64)[:, None] + np.array(offsets)
        np.clip(layer, 0, self.layers - 1, out=layer)
        weight, slope = np.empty(layer.shape), np.empty(layer.shape)
        for column in range(len(offsets)):
            weight[:, column] = weights[column]
            slope[:, column] = slopes[column]
        slope *= self.layers
        return Stencil(layer, weight, slope)

    def inverse_tau_mobility(self, rho: Particles) -> Array:
        """The masses: kappa = 1/mass, as for theta."""
        return rho.mass

    def _count(self) -> int:
        return self.layers


@dataclass(frozen=True)
class Shallow(_Deposited):
    """Two-layer limit of the same measure: X(1) = X(0) + int f(X(0), theta) rho.

    The classic model of mean-field theory (E is convex in rho for a convex loss), and the first order of the ensemble
    expansion. tau plays no part and never moves.
    """

    name: ClassVar[str] = "shallow"

    def sample(self, rho: Particles, t: Array) -> Stencil:
        """The one layer, at any depth."""
        return _piecewise(np.zeros(len(t), np.int64))

    def _count(self) -> int:
        return 1


_TRIED = 8  # particles, or depths, that a scheme of the user's is tried at

DEPTHS: dict[str, type[Any]] = {
    "gaps": Gaps,
    "layers": Layers,
    "deposit": Deposit,
    "shallow": Shallow,
}


def depth(choice: str | Spec | Depth) -> Depth:
    """Look up a depth scheme by name or spec; a scheme object is passed through, see :func:`try_out`.

    Raises
    ------
    InputError
        If the name is unknown, an option does not belong to the scheme, or one it needs is missing.
    """
    if isinstance(choice, Depth):
        return choice
    made: Depth = build(
        "depth scheme", choice, DEPTHS, "a scheme such as wgflow.Deposit(8), a wgflow.model.depth.Depth"
    )
    return made


def try_out(scheme: Depth, rho: Particles) -> None:
    """Try a scheme of the user's once, on the first measure it meets; a built-in one is not tried.

    Parameters
    ----------
    scheme : Depth
        The scheme.
    rho : Particles
        A measure that it has to hold.

    Raises
    ------
    InputError
        If its network is not one, its velocities are not the transpose of it, -(1/mass) dE/dtheta and -kappa dE/dtau,
        or its stencil's weights and slopes do not fit.
    """
    if not is_builtin(scheme):
        try_once(scheme, "depth scheme", lambda: _try(scheme, rho))


def _try(scheme: Depth, rho: Particles) -> None:
    """Try a scheme with the energy sum_e weight_e (a_k + b_k u . theta_e) of layers k, whose gradients are known."""
    trial, (count, parameters) = Candidate("depth scheme", scheme.name), rho.theta.shape
    trial.plain(trial.call("spec", scheme.spec))
    net = trial.call("network", scheme.network, rho)
    _check_network(trial, net, count)
    a, b = rng.normal(0, "try depth", (net.layers + 1, 2)).T
    u = rng.normal(0, "try depth along", (1, parameters))[0] / parameters**0.5

    def terms(net: Network) -> tuple[Index, Array]:
        layer = np.repeat(np.arange(net.layers), np.diff(net.first))
        return layer, a[layer] + b[layer] * (rho.theta @ u)[net.particle]

    layer, value = terms(net)
    found = trial.numbers(
        ("v_theta of velocity", "v_tau of velocity"),
        lambda value, slope: scheme.velocity(rho, net, value, slope),
        (value, b[layer][:, None] * u),
        (rho.theta.shape, (count,)),
    )
    (per_kappa,) = trial.numbers(
        ("inverse_tau_mobility",), lambda tau: scheme.inverse_tau_mobility(rho), (rho.tau,), ((count,),)
    )
    by_theta = np.bincount(net.particle, net.weight * b[layer], minlength=count)[:, None] * u
    if not nearly_equal(by_theta, -rho.mass[:, None] * found[0]):
        raise trial.refuse("velocity to give v_theta,i = -(1/mass_i) dE/dtheta_i", "others", "check sign and factors")
    if (found[1][per_kappa == 0] != 0).any() or (per_kappa < 0).any():
        raise trial.refuse(
            "inverse_tau_mobility to be 1/kappa > 0 where tau moves, and 0 elsewhere", describe(per_kappa)
        )
    inside = np.flatnonzero((rho.tau > 0) & (rho.tau < 1))
    for i in inside[np.unique(np.linspace(0, len(inside) - 1, _TRIED).astype(int))] if inside.size else ():

        def energy(t: float, i: int = i) -> Any:
            tau = rho.tau.copy()
            tau[i] = min(max(tau[i] + t, 0.0), 1.0)
            moved = scheme.network(rho.moved(rho.theta, tau))
            return np.asarray(moved.weight @ terms(moved)[1] if moved.layers == net.layers else np.nan)

        if per_kappa[i] > 0:
            by_tau = -found[1][i] * per_kappa[i]
            trial.slope(f"v_tau / -kappa of particle {i}", "E in tau", np.asarray(by_tau), energy)
    _check_stencil(trial, scheme, rho, net.layers)


def _check_network(trial: Candidate, net: object, count: int) -> None:
    """Refuse what is no list of layers of weighted particles: compiled code would read past its end."""
    if not isinstance(net, Network):
        raise trial.refuse("network to return a wgflow.model.depth.Network", describe(net))
    first, entries = np.asarray(net.first), len(net.particle)
    if first.dtype.kind != "i" or first[0] != 0 or first[-1] != entries or (np.diff(first) < 0).any():
        raise trial.refuse(f"network to give layers' bounds first from 0 up to {entries} entries", describe(first))
    particle, weight = np.asarray(net.particle), np.asarray(net.weight)
    outside = particle.size and (particle.min() < 0 or particle.max() >= count)
    if particle.dtype.kind != "i" or outside or len(weight) != entries:
        got = f"{entries} with {len(weight)} weights, up to particle {particle.max() if particle.size else None}"
        raise trial.refuse(f"network to give entries of particles 0..{count - 1}, each with a weight", got)
    trial.finite("weights of network", np.asarray(weight, np.float64))


def _check_stencil(trial: Candidate, scheme: Depth, rho: Particles, layers: int) -> None:
    """Refuse a stencil whose weights do not add up to 1, or whose slopes are not their derivatives in t."""
    t = rng.uniform(0, "try depth at", (_TRIED, 1))[:, 0]
    stencil = trial.call("sample", lambda t: scheme.sample(rho, t), t)
    layer, weight, slope = (np.asarray(each) for each in stencil)
    if layer.shape != weight.shape or layer.shape != slope.shape or layer.shape[:1] != (_TRIED,):
        raise trial.refuse(f"sample to give three arrays of shape ({_TRIED}, R)", f"{layer.shape}, {weight.shape}")
    if layer.dtype.kind != "i" or layer.min() < 0 or layer.max() > layers:
        raise trial.refuse(f"sample to give layers in 0..{layers}", describe(layer))
    if not nearly_equal(np.ones(_TRIED), weight.sum(axis=1)):
        raise trial.refuse("weights of sample to have sum 1", describe(weight.sum(axis=1)))

    def weights(move: float) -> Array:
        moved = scheme.sample(rho, t + move)
        same = np.array_equal(moved.layer, layer)
        return np.asarray(moved.weight, np.float64) if same else np.full(weight.shape, np.nan)

    trial.slope("slope of sample", "its weight in t", slope, weights)


def _piecewise(layer: Index) -> Stencil:
    """Stencil of a first variation that is constant on intervals."""
    layer = np.asarray(layer, np.int64)[:, None]
    return Stencil(layer, np.ones(layer.shape), np.zeros(layer.shape))


def switches(before: Index, after: Index) -> int:
    """Pairs of particles whose order along depth differs between two orders.

    Parameters
    ----------
    before, after : ndarray (N,)
        Particles in order of depth, as :meth:`Depth.order` gives them.

    Returns
    -------
    int
        Number of inversions, counted in time proportional to the particles that moved.
    """
    place = np.empty(len(before), np.int64)
    place[after] = np.arange(len(after))
    ranks = place[before]  # new place of the particle that was k-th
    # Between two positions where a prefix maps onto itself lies one run of particles that mixed among themselves.
    ends = np.flatnonzero(np.maximum.accumulate(ranks) == np.arange(len(ranks))) + 1
    starts = np.concatenate([[0], ends[:-1]])
    length = ends - starts
    count = int(np.count_nonzero(length == 2))  # nearly all of them: two that changed places
    for start, end in zip(starts[length > 2], ends[length > 2], strict=True):
        seen: list[int] = []
        for k, rank in enumerate(ranks[start:end].tolist()):
            at = bisect_left(seen, rank)
            count += k - at
            seen.insert(at, rank)
    return count
