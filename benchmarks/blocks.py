"""Times with other group and block sizes, compared with the rule's; Gaps with M = 1024.

The number of chunks is about one per block of samples, so it changes with the block.

Usage: python benchmarks/blocks.py     prints JSON: by width, milliseconds for each group size and block of samples
"""

from __future__ import annotations

import json
import statistics
import sys
import time

from cases import Case, measure

import wgflow
from wgflow.kernels.cpu import chunks
from wgflow.kernels.cpu import grouped as cpu

SIZES = ((1000, 4), (1000, 16), (1000, 64), (512, 256))  # N, D
GROUPS, BLOCKS = (8, 16, 32, 64), (32, 64, 128, 256)
TURNS, CALLS = 9, 3


def main() -> list[dict[str, object]]:
    """Milliseconds with each choice, measured in turns."""
    rule, block = cpu.group_size, chunks._BLOCK
    rows = []
    for case in [Case("gaps", particles, 1024, width) for particles, width in SIZES]:
        problem, rho, depth = measure(case)
        chosen = rule(case.width)
        choices = [(group, block) for group in GROUPS] + [(chosen, other) for other in BLOCKS if other != block]
        times: dict[tuple[int, int], list[float]] = {choice: [] for choice in choices}
        for turn in range(TURNS):
            for group, samples in choices:
                cpu.group_size, chunks._BLOCK = lambda width, group=group: group, samples
                energy = wgflow.Energy(problem, depth)
                energy.velocity(rho)
                began = time.perf_counter()
                for _ in range(CALLS):
                    energy.velocity(rho)
                times[group, samples] += [(time.perf_counter() - began) / CALLS] if turn else []
        found = {f"{group}, {samples}": 1e3 * statistics.median(each) for (group, samples), each in times.items()}
        rows.append({"case": case._asdict(), "chosen": f"{chosen}, {block}", "milliseconds": found})
        print(case.label, rows[-1], file=sys.stderr)
    return rows


if __name__ == "__main__":
    print(json.dumps(main()))
