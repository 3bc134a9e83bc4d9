"""Trial of a depth scheme of the user's: its network, velocities and stencil against each other."""

from __future__ import annotations

from typing import Any

import numpy as np

from wgflow.base import rng
from wgflow.base.errors import describe
from wgflow.base.types import Array, Index
from wgflow.base.user_objects import Candidate, is_builtin, nearly_equal, try_once
from wgflow.model.depth.base import Depth, Network
from wgflow.model.particles import Particles

_TRIED = 8  # particles, or depths, at which a scheme is tried


def try_out(scheme: Depth, rho: Particles) -> None:
    """Try a scheme of the user's once, on the first measure it is given; a built-in one is not tried.

    Raises
    ------
    InputError
        If its network is malformed, its velocities are not the transpose of it, -(1/mass) dE/dtheta and -kappa dE/dtau,
        or its stencil's weights and slopes are inconsistent.
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
    v_theta, v_tau = trial.numbers(
        ("v_theta of velocity", "v_tau of velocity"),
        lambda value, slope: scheme.velocity(rho, net, value, slope),
        (value, b[layer][:, None] * u),
        (rho.theta.shape, (count,)),
    )
    name = "inverse_tau_mobility"
    (per_kappa,) = trial.numbers((name,), lambda tau: scheme.inverse_tau_mobility(rho), (rho.tau,), ((count,),))
    by_theta = np.bincount(net.particle, net.weight * b[layer], minlength=count)[:, None] * u
    if not nearly_equal(by_theta, -rho.mass[:, None] * v_theta):
        raise trial.refuse("velocity to give v_theta,i = -(1/mass_i) dE/dtheta_i", "others", "check sign and factors")
    if (v_tau[per_kappa == 0] != 0).any() or (per_kappa < 0).any():
        raise trial.refuse(f"{name} to be 1/kappa > 0 where tau moves, and 0 elsewhere", describe(per_kappa))
    inside = np.flatnonzero((rho.tau > 0) & (rho.tau < 1))
    for i in inside[np.unique(np.linspace(0, len(inside) - 1, _TRIED).astype(int))] if inside.size else ():

        def energy(t: float, i: int = i) -> Any:
            tau = rho.tau.copy()
            tau[i] = min(max(tau[i] + t, 0.0), 1.0)
            moved = scheme.network(rho.moved(rho.theta, tau))
            return np.asarray(moved.weight @ terms(moved)[1] if moved.layers == net.layers else np.nan)

        if per_kappa[i] > 0:
            by_tau = np.asarray(-v_tau[i] * per_kappa[i])
            trial.slope(f"v_tau / -kappa of particle {i}", "E in tau", by_tau, energy)
    _check_stencil(trial, scheme, rho, net.layers)
    if (order := trial.call("order", scheme.order, rho)) is not None:
        same = trial.call("continued", scheme.continued, rho, order)
        if not isinstance(same, Network) or not all(map(np.array_equal, same, net)):
            raise trial.refuse("continued in the particles' own order to be network", describe(same))


def _check_network(trial: Candidate, net: object, count: int) -> None:
    """Refuse what is not a list of layers of weighted particles: compiled code would read past its end."""
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
    """Refuse a stencil whose weights do not have sum 1, or whose slopes are not their derivatives in t."""
    t = rng.uniform(0, "try depth at", (_TRIED, 1))[:, 0]
    stencil = trial.call("sample", lambda t: scheme.sample(rho, t), t)
    layer, weight, slope = map(np.asarray, stencil)
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
