"""Time of a training step of a mean-field network relative to the vanilla one, batch 128 of 32 x 32 colour images.

Usage: python benchmarks/cifar.py [network [rounds [threads]]]

The bar is 1.05. Both networks take their steps in turns, each on the same batch, who goes first changing from round to
round; what is printed are medians, and the median of the ratios of neighbours. A step is all that training does with a
batch: crops and flips, forward, backward, the optimiser, the ends of depth, the count of order switches. Processor time
of the process stands beside the wall clock, which another program on the machine disturbs.
"""

from __future__ import annotations

import sys
import time

import numpy as np

from wgflow.systems.images.data import Images
from wgflow.systems.images.recipe import METHODS, Recipe
from wgflow.systems.images.training import Trainer

BATCH, WARM = 128, 3


def noise(count: int) -> Images:
    """Images without content."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(256, size=(count, 3, 32, 32)).astype(np.uint8)
    labels = rng.integers(10, size=count)
    return Images("noise", pixels, labels, pixels[:8], labels[:8], 10, False)


def main(network: str = "resnet20", rounds: int = 20, threads: int = 1) -> None:
    rounds, threads = int(rounds), int(threads)
    images = noise(BATCH * (rounds + WARM))
    trainers = [Trainer(Recipe(network, method, lr=0.01, threads=threads), images, 0, 1) for method in METHODS]
    times = np.empty((rounds + WARM, 2, 2))  # round, network, clock
    with trainers[0].settings():
        runs = [trainer.steps() for trainer in trainers]
        for k in range(rounds + WARM):
            for which in (0, 1) if k % 2 else (1, 0):
                begun = time.perf_counter(), time.process_time()
                next(runs[which])
                times[k, which] = time.perf_counter() - begun[0], time.process_time() - begun[1]
    for clock, name in enumerate(("wall", "processor")):
        vanilla, moved = times[WARM:, :, clock].T
        ratio = np.median(moved / vanilla)
        print(
            f"{network}, {threads} thread(s), {rounds} rounds, {name} time of a step: vanilla "
            f"{1e3 * np.median(vanilla):.1f} ms, mean-field {1e3 * np.median(moved):.1f} ms, ratio {ratio:.3f}"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
