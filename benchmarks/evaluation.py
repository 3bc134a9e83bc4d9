"""One energy-and-velocity evaluation under Gaps, ridge + tanh, float64: wgflow beside JAX and the matrix-product peak.

Usage: python benchmarks/evaluation.py [N,M,D ...]      (needs the extra `bench`; default 1000,1024,16 1000,1024,64)

JAX runs jit(value_and_grad) of a scan over the particles on the same arrays. The programs take turns, so that a change
of the machine's speed meets all of them alike: 5 turns of 5 calls each, after 2 to warm up; medians. Gradients are
compared before anything is timed. The peak is a 2048 x 2048 dgemm of NumPy's BLAS in the same run; 14 N M D counts the
evaluation's multiplications and additions.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import numpy as np

import wgflow

try:
    import jax
    import jax.numpy as jnp
except ModuleNotFoundError:
    sys.exit("this benchmark compares with JAX: pip install 'wgflow[bench]'")

TURNS, WARM, CALLS = 5, 2, 5


def case(particles: int, samples: int, width: int) -> tuple[wgflow.Energy, wgflow.Particles]:
    rng = np.random.default_rng(0)
    problem = wgflow.Problem(rng.normal(size=(samples, width)), rng.normal(size=samples))
    return wgflow.Energy(problem), wgflow.Particles.draw(problem, particles, tau="uniform")


def jax_evaluation(energy: wgflow.Energy, rho: wgflow.Particles) -> Callable[[], tuple[float, np.ndarray]]:
    jax.config.update("jax_enable_x64", True)
    width = energy.problem.shape[1]
    order = np.argsort(rho.tau, kind="stable")

    def loss(theta: jax.Array, gap: jax.Array) -> jax.Array:
        def layer(x: jax.Array, block: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
            p, c = block
            return x + c * jnp.tanh(x @ p[width : 2 * width] + p[-1])[:, None] * p[:width], None

        x, _ = jax.lax.scan(layer, start, (theta, gap))
        return 0.5 * jnp.mean(jnp.sum((x @ readout.T - y) ** 2, axis=1))

    start, y, readout = map(jnp.asarray, (energy.problem.start(), energy.problem.y, energy.problem.readout))
    theta, gap = jnp.asarray(rho.theta[order]), jnp.asarray(np.diff(rho.tau[order], prepend=0.0))
    both = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))

    def run() -> tuple[float, np.ndarray]:
        value, (by_theta, by_gap) = both(theta, gap)
        by_gap.block_until_ready()
        gradient = np.empty(rho.theta.shape)
        gradient[order] = by_theta
        return float(value), gradient

    return run


def peak() -> Callable[[], object]:
    a = np.random.default_rng(0).normal(size=(2048, 2048))
    return lambda: a @ a


def medians(programs: dict[str, Callable[[], object]]) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(TURNS):
        for name, program in programs.items():
            time.sleep(0.05)  # lets the thread pool of the program before stop spinning
            for call in range(WARM + CALLS):  # as in a flow, calls follow each other
                began = time.perf_counter()
                program()
                if call >= WARM:
                    times[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in times.items()}


def main(sizes: list[tuple[int, int, int]]) -> None:
    threads = case(1, 1, 1)[0].kernel.threads
    print(f"wgflow {wgflow.__version__}, JAX {jax.__version__}, NumPy {np.__version__}, {threads} threads")
    print(f"{'N, M, D':>18} {'wgflow':>11} {'JAX':>11} {'ratio':>7} {'of dgemm peak':>14} {'difference':>11}")
    for particles, samples, width in sizes:
        energy, rho = case(particles, samples, width)
        reference = jax_evaluation(energy, rho)
        value, gradient = reference()
        ours = energy.velocity(rho)
        difference = np.abs(-ours.theta * rho.mass[:, None] - gradient).max()
        if difference > 1e-12 or abs(ours.energy - value) > 1e-10:
            sys.exit(f"wgflow and JAX disagree by {difference:g} at N, M, D = {particles}, {samples}, {width}")
        took = medians({"wgflow": lambda e=energy, r=rho: e.velocity(r), "jax": reference, "dgemm": peak()})
        flops = 14 * particles * samples * width / took["wgflow"]
        share = flops / (2 * 2048**3 / took["dgemm"])
        print(
            f"{f'{particles}, {samples}, {width}':>18} {1e3 * took['wgflow']:>8.2f} ms {1e3 * took['jax']:>8.1f} ms "
            f"{took['jax'] / took['wgflow']:>6.1f}x {share:>13.0%} {difference:>11.1e}"
        )


if __name__ == "__main__":
    arguments = sys.argv[1:] or ["1000,1024,16", "1000,1024,64"]
    main([(int(n), int(m), int(d)) for n, m, d in (argument.split(",") for argument in arguments)])
