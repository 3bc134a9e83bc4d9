"""A short run, written as asked, for the tests of trajectory files."""

import dataclasses

import numpy as np
import pytest

import wgflow
from wgflow.trajectory import TrajectoryWriter


@pytest.fixture
def run(case, tmp_path):
    """A short run: a way to write some of its frames, the frames, the file and the energy."""
    problem, rho = case(particles=4)
    energy = wgflow.Energy(problem)
    flow = wgflow.Flow(energy, step=0.1)
    frames = [dataclasses.replace(frame, observables={"half": frame.energy / 2}) for frame in flow.run(rho, until=1.0)]
    path = tmp_path / "run.h5"

    def create(**options):
        options = {"capacity": 11, "flow": flow.spec(), "observables": ("half",)} | options
        return TrajectoryWriter.create(path, energy, 4, **options)

    return create, frames, path, energy


@pytest.fixture
def write():
    def write(create, frames, finish=True, **options):
        with create(**options) as writer:
            for frame in frames:
                writer.append(frame)
            if finish:
                writer.finish()

    return write


@pytest.fixture
def same():
    """Whether two frames have the same bits."""

    def same(a, b):
        left, right = dataclasses.asdict(a), dataclasses.asdict(b)
        return all(np.array_equal(left[name], right[name]) for name in left)

    return same
