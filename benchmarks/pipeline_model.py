"""Particles too many for one memory: cost of a pipeline over depth against streaming them from disk, on paper.

A *node* has a memory, a speed, a disk and a network. One evaluation of the gradient of N particles of P = 2 D + 1
parameters on M samples takes 14 N M D operations. Three ways to spread it over nodes:

- ``sharding``: each node holds all particles and M / nodes samples; gradients are added up over the network.
- ``streaming``: the same, with particles on each node's disk. Segments that fit in memory are read forward and once
  more backward, where their forward pass is repeated.
- ``pipeline``: stage s of S holds N / S consecutive particles; nodes / S groups of stages share the samples, each in B
  micro-batches. States (m, D) cross each cut forward, adjoints backward. A stage keeps the states that came in and
  repeats its forward pass in the backward one.
- ``layerwise``: under a scheme of L layers each node holds 1 / nodes of the particles of every layer, and the nodes add
  up the layer's increment (m, D), forward and backward. Under Gaps every particle is a layer.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from wgflow.kernels.cpu import grouped
from wgflow.sims.interconnect import INFINIBAND, Interconnect

FLOPS = 14  # of one particle's forward pass, adjoint and gradient, by sample and width
REPEATED = 4 / 3  # the forward pass, a third of these, done twice
_PASSES = 6  # of the particles through the disk: read twice; gradient written, read; for the step read, written
_BATCH = 1024  # samples that pass through layers together
_LEAST = 8  # samples of a micro-batch at least, one vector


class Node(NamedTuple):
    """One machine of a cluster; SI units, each an assumption unless it says otherwise."""

    memory: float = 256e9
    flops: float = 1e12
    bandwidth: float = 200e9  # of its memory
    disk: float = 3e9  # NVMe, both ways
    network: Interconnect = INFINIBAND


class Run(NamedTuple):
    """One large run."""

    particles: float
    samples: float
    width: int

    @property
    def parameters(self) -> int:
        """P of a ridge block."""
        return 2 * self.width + 1

    @property
    def size(self) -> float:
        """Bytes of one array of all parameters."""
        return 8 * self.particles * self.parameters

    @property
    def work(self) -> float:
        """Operations of one evaluation."""
        return FLOPS * self.particles * self.samples * self.width

    def memory(self) -> float:
        """Bytes of a step: what forecasts of wgflow count, samples aside."""
        evaluation = grouped.memory(int(self.particles), int(min(self.samples, 1e9)), self.width, 1, 1)
        return evaluation + 12 * 8 * self.particles * (self.parameters + 2)


class Cost(NamedTuple):
    """Cost of one evaluation: seconds, and how it is spread."""

    seconds: float
    stages: int = 1
    batches: int = 1

    @property
    def bubble(self) -> float:
        """Share of the time in which a stage waits for the pipeline to fill or drain."""
        return (self.stages - 1) / (self.batches + self.stages - 1)


def all_reduce(size: float, nodes: int, network: Interconnect) -> float:
    """Seconds to add up long arrays of all nodes: in segments along a tree, each byte crosses a link twice."""
    return 0.0 if nodes == 1 else 2 * (math.ceil(math.log2(nodes)) * network.latency + size / network.bandwidth)


def sharding(run: Run, node: Node, nodes: int) -> Cost | None:
    """Cost with all particles in each memory; None if they do not fit."""
    if run.memory() > node.memory:
        return None
    return Cost(run.work / (nodes * node.flops) + all_reduce(run.size, nodes, node.network))


def streaming(run: Run, node: Node, nodes: int) -> Cost:
    """Cost with all particles on each disk; reading and computing overlap."""
    compute = REPEATED * run.work / (nodes * node.flops)
    return Cost(max(compute, _PASSES * run.size / node.disk) + all_reduce(run.size, nodes, node.network))


def pipeline(run: Run, node: Node, nodes: int, stages: int, batches: int) -> Cost | None:
    """Cost of so many stages and micro-batches; None if a stage or a micro-batch does not fit."""
    groups = nodes // stages
    batch = run.samples / (groups * batches)
    kept = 8 * batch * run.width * min(batches, stages)  # states of the micro-batches that are under way
    if batch < _LEAST or run.memory() / stages + kept > node.memory:
        return None
    compute = REPEATED * run.work / run.samples * batch / stages / node.flops
    read = 3 * run.size / stages / node.bandwidth  # forward, forward again, backward
    cut = 2 * node.network.message(8 * batch * run.width) if stages > 1 else 0.0
    each = max(compute, read) + cut
    return Cost((batches + stages - 1) * each + all_reduce(run.size / stages, groups, node.network), stages, batches)


def best_pipeline(run: Run, node: Node, nodes: int) -> Cost | None:
    """Cheapest pipeline over numbers of stages >= 2 that divide the nodes, and of micro-batches, powers of two."""
    stages = [s for s in range(2, nodes + 1) if nodes % s == 0]
    tried = [pipeline(run, node, nodes, s, 2**k) for s in stages for k in range(31)]
    return min((cost for cost in tried if cost), key=lambda cost: cost.seconds, default=None)


def layerwise(run: Run, node: Node, nodes: int, layers: int) -> Cost | None:
    """Cost of dividing the particles of each of so many layers; None if they do not fit."""
    batch = min(run.samples, _BATCH)
    if run.memory() / nodes + 8 * batch * run.width * layers > node.memory:
        return None
    compute = REPEATED * run.work / (nodes * node.flops)
    sums = 2 * layers * run.samples / batch * all_reduce(8 * batch * run.width, nodes, node.network)
    return Cost(compute + sums)


def even(node: Node, width: int) -> float:
    """Samples a node from which streaming is hidden behind computing."""
    run = Run(1, 1, width)
    return _PASSES * run.size / node.disk / (REPEATED * run.work / node.flops)
