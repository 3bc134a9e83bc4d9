"""The same gradient flow in NumPy, written by hand: preallocated arrays and a loop over layers.

Every class moves all particles by Euler steps of the same flow as wgflow's: velocities -dE/dtheta_i / mass_i, with
masses 1/N.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from cases import Arrays, Case


class Twin(Protocol):
    """Flow in NumPy."""

    def step(self, h: float) -> float:
        """Move all particles by h times their velocity; returns the energy before."""

    def theta(self) -> np.ndarray:
        """Parameters in the order of wgflow's, (N, P)."""


class Wide:
    """L layers x + c_l V_l tanh(U_l x + b_l) of n units each, samples in columns: two matrix products a layer."""

    block = (
        250  # samples that pass through the network together; fastest by measurement, since the states stay in cache
    )

    def __init__(self, case: Case, data: Arrays) -> None:
        layers, width = case.layers, case.width
        self.u = data.w.reshape(layers, -1, width).copy()
        self.v = data.a.reshape(layers, -1, width).swapaxes(1, 2).copy()
        self.b = None if case.plain else data.b.reshape(layers, -1, 1).copy()
        self.c = data.weight.reshape(layers, -1)[:, 0]
        self.x, self.y, self.readout = data.start.T.copy(), data.target.T.copy(), data.readout
        size = min(len(data.start), self.block)
        self.states, self.hidden = np.empty((layers + 1, width, size)), np.empty((layers, self.u.shape[1], size))

    def step(self, h: float) -> float:
        u, v, b, samples, energy = self.u, self.v, self.b, self.x.shape[1], 0.0
        # With one block a layer moves as soon as the backward pass has left it; with more, the moves are added up.
        one = samples <= self.block
        into_u, into_v = (u, v) if one else (np.zeros_like(u), np.zeros_like(v))
        into_b = b if one or b is None else np.zeros_like(b)
        for low in range(0, samples, self.block):
            x = self.x[:, low : low + self.block]
            states, hidden = self.states[:, :, : x.shape[1]], self.hidden[:, :, : x.shape[1]]
            z, r = np.empty(hidden.shape[1:]), np.empty(hidden.shape[1:])
            add, p = np.empty(x.shape), np.empty(x.shape)
            states[0] = x
            for layer, out in enumerate(hidden):
                np.matmul(u[layer], states[layer], out=z)
                if b is not None:
                    z += b[layer]
                np.tanh(z, out=out)
                np.matmul(v[layer], out, out=add)
                add *= self.c[layer]
                np.add(states[layer], add, out=states[layer + 1])
            error = self.readout @ states[-1] - self.y[:, low : low + self.block]
            energy += 0.5 * np.vdot(error, error) / samples
            np.matmul(self.readout.T, error / samples, out=p)
            for layer in range(len(hidden) - 1, -1, -1):
                out = hidden[layer]
                np.multiply(out, out, out=z)
                np.subtract(1.0, z, out=z)
                np.matmul(v[layer].T, p, out=r)
                r *= z
                np.matmul(u[layer].T, r, out=add)
                into_v[layer] -= h * (p @ out.T)
                into_u[layer] -= h * (r @ states[layer].T)
                if into_b is not None:
                    into_b[layer] -= h * r.sum(axis=1, keepdims=True)
                add *= self.c[layer]
                p += add
        if not one:
            u += into_u
            v += into_v
            if b is not None:
                b += into_b
        return energy

    def theta(self) -> np.ndarray:
        width = self.u.shape[2]
        parts = [self.v.swapaxes(1, 2).reshape(-1, width), self.u.reshape(-1, width)]
        return np.concatenate(parts + ([] if self.b is None else [self.b.reshape(-1, 1)]), axis=1)


class Deep:
    """One particle a layer, weighted by its gap in depth: x + c_l a_l tanh(w_l . x + b_l); the depths move too."""

    block = 4000  # samples that pass through the network together; the larger, the faster, as far as memory allows

    def __init__(self, case: Case, data: Arrays) -> None:
        self.a, self.w, self.b = data.a.copy(), data.w.copy(), None if case.plain else data.b.copy()
        self.tau = data.weight.cumsum()
        self.x, self.y, self.readout = data.start.T.copy(), data.target.T.copy(), data.readout
        size = min(len(data.start), self.block)
        self.states, self.hidden = np.empty((len(self.a) + 1, case.width, size)), np.empty((len(self.a), size))

    def step(self, h: float) -> float:
        self._sort()
        a, w, b, samples, energy = self.a, self.w, self.b, self.x.shape[1], 0.0
        by_a, by_w, by_b = np.zeros_like(a), np.zeros_like(w), np.zeros(len(a))
        by_c = np.zeros(len(a) + 1)  # the last stays 0
        c = np.diff(self.tau, prepend=0.0)
        ca, cw = c[:, None, None] * a[:, :, None], c[:, None, None] * w[:, :, None]
        for low in range(0, samples, self.block):
            x = self.x[:, low : low + self.block]
            states, hidden = self.states[:, :, : x.shape[1]], self.hidden[:, : x.shape[1]]
            q, z = np.empty(x.shape[1]), np.empty(x.shape[1])
            add, p = np.empty(x.shape), np.empty(x.shape)
            states[0] = x
            for layer, out in enumerate(hidden):
                np.dot(w[layer], states[layer], out=z)
                if b is not None:
                    z += b[layer]
                np.tanh(z, out=out)
                np.multiply(ca[layer], out, out=add)
                np.add(states[layer], add, out=states[layer + 1])
            error = self.readout @ states[-1] - self.y[:, low : low + self.block]
            energy += 0.5 * np.vdot(error, error) / samples
            np.matmul(self.readout.T, error / samples, out=p)
            for layer in range(len(hidden) - 1, -1, -1):
                out = hidden[layer]
                np.dot(a[layer], p, out=q)
                by_c[layer] += q @ out
                by_a[layer] += p @ out
                np.multiply(out, out, out=z)
                np.subtract(1.0, z, out=z)
                q *= z
                by_w[layer] += states[layer] @ q
                if b is not None:
                    by_b[layer] += q.sum()
                np.multiply(cw[layer], q, out=add)
                p += add
        rate = h * len(a) * c
        a -= rate[:, None] * by_a
        w -= rate[:, None] * by_w
        if b is not None:
            b -= rate * by_b
        self.tau += h / len(a) * np.diff(by_c)  # dE/dtau_l = dE/dc_l - dE/dc_(l+1), times the mass 1/N under Gaps
        np.clip(self.tau, 0.0, 1.0, out=self.tau)
        return energy

    def _sort(self) -> None:
        if (np.diff(self.tau) < 0).any():
            order = np.argsort(self.tau, kind="stable")
            self.tau, self.a, self.w = self.tau[order], self.a[order], self.w[order]
            self.b = None if self.b is None else self.b[order]

    def theta(self) -> np.ndarray:
        return np.concatenate([self.a, self.w] + ([] if self.b is None else [self.b[:, None]]), axis=1)


class TwoLayer:
    """Particle flow of the two-layer network x + mean of a_i tanh(w_i . x + b_i), samples in rows."""

    def __init__(self, case: Case, data: Arrays) -> None:
        self.a, self.w, self.b = data.a.copy(), data.w.copy(), None if case.plain else data.b.copy()
        self.x, self.y, self.readout = data.start, data.target, data.readout

    def step(self, h: float) -> float:
        z = self.x @ self.w.T
        if self.b is not None:
            z += self.b
        np.tanh(z, out=z)
        error = (self.x + z @ self.a / len(self.a)) @ self.readout.T - self.y
        p = error @ self.readout / len(self.x)
        r = p @ self.a.T * (1 - z * z)
        self.a -= h * (z.T @ p)
        self.w -= h * (r.T @ self.x)
        if self.b is not None:
            self.b -= h * r.sum(axis=0)
        return 0.5 * np.vdot(error, error) / len(self.x)

    def theta(self) -> np.ndarray:
        return np.concatenate([self.a, self.w] + ([] if self.b is None else [self.b[:, None]]), axis=1)


def twin(case: Case, data: Arrays) -> Twin:
    """NumPy flow for a case."""
    return {"layers": Wide, "gaps": Deep, "shallow": TwoLayer}[case.scheme](case, data)
