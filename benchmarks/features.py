"""Time of the neural feature flow compared with its matrix products alone, m, N, L = 2000, 100, 4.

Usage: python benchmarks/features.py [m [N [L]]]

The bar is 1.3 times the products. A drift has 2 (L - 1) products with m x m matrices and as many with N x N Gram
matrices; an Euler step adds L - 1 updates of m x m matrices by rank N. Both are timed in turns with the same products
on arrays of the same shapes, medians of the ratios, on one thread of BLAS: with two, products of one kind wake threads
that those of another then wait for.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np
from scipy.linalg.blas import dgemm
from threadpoolctl import threadpool_limits

from wgflow.systems.neural_feature_flow.flow import State, flow_step
from wgflow.systems.neural_feature_flow.initial import minimum_norm
from wgflow.systems.neural_feature_flow.network import Network

ROUNDS = 15


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def products(middle: list[np.ndarray], h: list[np.ndarray], d: list[np.ndarray]) -> None:
    """Matrix products of one drift, in order."""
    for v, each in zip(reversed(middle), reversed(d), strict=True):
        v @ each
    for v, below, each in zip(middle, h, d, strict=True):
        v.T @ below
        each @ (below.T @ below)


def updates(middle: list[np.ndarray], h: list[np.ndarray], d: list[np.ndarray]) -> None:
    for v, below, each in zip(middle, h, d, strict=True):
        dgemm(1e-9, each.T, below.T, beta=1.0, c=v.T, trans_a=1, overwrite_c=1)


def works(kind: str, m: int, n: int, layers: int) -> dict[str, Callable[[], object]]:
    x = np.linspace(-np.pi, np.pi, n)
    cpu, plain = (Network(x[:, None], np.sin(x), layers, kind, backend=name) for name in ("cpu", "reference"))
    begin = minimum_norm(cpu, m)
    weights = begin.weights._replace(middle=tuple(each.dense() for each in begin.weights.middle))
    state = State(weights, begin.features)
    middle = [each.copy() for each in weights.middle]
    h = [np.tanh(each) for each in begin.features.beta[:-1]]
    d = list(cpu.adjoint(*state).alpha)
    return {
        "products of a drift": lambda: products(middle, h, d),
        "drift, cpu": lambda: cpu.drift(*state),
        "drift, reference": lambda: plain.drift(*state),
        "products of a step": lambda: (products(middle, h, d), updates(middle, h, d)),
        "step, cpu": lambda: flow_step(cpu, state, 1e-9, own=True),
        "step, reference": lambda: flow_step(plain, state, 1e-9, own=True),
    }


def main(m: int = 2000, n: int = 100, layers: int = 4) -> None:
    print(f"m, N, L = {m}, {n}, {layers}: medians of {ROUNDS} turns")
    for kind in ("resnet", "dnn"):
        timed = works(kind, m, n, layers)
        with threadpool_limits(1):
            times = np.array([[seconds(work) for work in timed.values()] for _ in range(ROUNDS + 1)])[1:]
        print(kind)
        for k, name in enumerate(timed):
            ratio = np.median(times[:, k] / times[:, 3 * (k // 3)])
            print(f"  {name:20} {1e3 * np.median(times[:, k]):7.1f} ms  {ratio:5.2f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
