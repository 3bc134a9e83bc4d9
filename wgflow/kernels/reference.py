"""Reference implementation in plain NumPy, one particle at a time, with the whole tape in memory. Slow, but readable.

Complex parameters and weights are supported: the tests take complex-step derivatives.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wgflow.base.types import Array, Index
from wgflow.model.depth import Network
from wgflow.model.problem import Problem


def states(problem: Problem, start: NDArray[Any], net: Network, theta: NDArray[Any]) -> list[NDArray[Any]]:
    """X_0, ..., X_L, each (M, D), of X_(k+1) = X_k + sum_e weight_e f(X_k, theta_e)."""
    tape = [start]
    for k in range(net.layers):
        x = tape[-1]
        for e in range(net.first[k], net.first[k + 1]):
            x = x + net.weight[e] * problem.block.forward(tape[-1], theta[net.particle[e]], problem.activation)
        tape.append(x)
    return tape


def adjoints(
    problem: Problem, tape: list[NDArray[Any]], y: Array, net: Network, theta: NDArray[Any]
) -> list[NDArray[Any]]:
    """p_0, ..., p_L, each (M, D): p_L = dloss . grad g, p_k = p_(k+1) + sum_e weight_e p_(k+1) . d_x f(X_k, theta_e).

    The exact derivative of the discrete forward pass, one row per sample, not divided by M.
    """
    reverse = [problem.end_adjoint(tape[-1], y)]
    for k in reversed(range(net.layers)):
        p = reverse[-1]
        for e in range(net.first[k], net.first[k + 1]):
            block_theta = theta[net.particle[e]]
            p = p + net.weight[e] * problem.block.backward(tape[k], block_theta, reverse[-1], problem.activation)[0]
        reverse.append(p)
    return reverse[::-1]


class Reference:
    """NumPy kernel; see :class:`wgflow.kernels.select.Kernel` for the contract."""

    name = "reference"

    def __init__(self, problem: Problem, threads: int | None = None) -> None:
        del threads  # NumPy's own
        self.problem, self.threads = problem, 1

    def outputs(self, net: Network, theta: NDArray[Any], start: Array) -> NDArray[Any]:
        """Outputs g(X(1)), (M, K)."""
        return self.problem.outputs(states(self.problem, start, net, theta)[-1])

    def energy(self, net: Network, theta: NDArray[Any], batch: Index | None = None) -> Any:
        """E = mean over samples of the loss."""
        rows = slice(None) if batch is None else batch
        output = self.outputs(net, theta, self.problem.start()[rows])
        return np.mean(self.problem.loss.value(output, self.problem.y[rows]))

    def gradient(
        self, net: Network, theta: NDArray[Any], batch: Index | None = None
    ) -> tuple[Any, NDArray[Any], NDArray[Any]]:
        """E, and g_e = mean f(X_k, theta_e) . p_(k+1), (E,), with d_theta g_e, (E, P), at every entry."""
        problem, rows = self.problem, slice(None) if batch is None else batch
        y = problem.y[rows]
        tape = states(problem, problem.start()[rows], net, theta)
        p = adjoints(problem, tape, y, net, theta)
        energy = np.mean(problem.loss.value(problem.outputs(tape[-1]), y))
        first = np.empty(len(net.particle), tape[-1].dtype)
        slope = np.empty((len(net.particle), theta.shape[1]), tape[-1].dtype)
        for k in range(net.layers):
            for e in range(net.first[k], net.first[k + 1]):
                block_theta = theta[net.particle[e]]
                first[e] = np.sum(problem.block.forward(tape[k], block_theta, problem.activation) * p[k + 1]) / len(y)
                slope[e] = problem.block.backward(tape[k], block_theta, p[k + 1], problem.activation)[1] / len(y)
        return energy, first, slope
