"""Observables that are arrays, and files of numbers along s without particles."""

import dataclasses

import h5py
import numpy as np
import pytest

import wgflow
from wgflow.base.errors import InputError, TrajectoryError
from wgflow.cli.trajectory import main
from wgflow.trajectory import Trajectory, TrajectoryWriter, repair, schema

SHAPES = {"grid": (3, 2), "half": (), "row": (5,)}


def with_arrays(frames):
    for k, frame in enumerate(frames):
        own = {"grid": np.arange(6.0).reshape(3, 2) + k, "half": frame.energy / 2, "row": np.full(5, frame.s)}
        yield dataclasses.replace(frame, observables=own)


@pytest.fixture(params=[4, 0], ids=["particles", "none"])
def recorded(request, run):
    """A file whose frames carry arrays, with and without particles, and its frames."""
    _, frames, path, energy = run
    frames = list(with_arrays(frames))

    def create(capacity=2):
        return TrajectoryWriter.create(path, energy, request.param, observables=SHAPES, capacity=capacity)

    return create, frames, path, request.param


def write(create, frames, finish=True):
    with create() as writer:
        for frame in frames:
            writer.append(frame)
        if finish:
            writer.finish()


def same(a, b):
    return all(np.array_equal(a.observables[name], b.observables[name]) for name in SHAPES) and a.energy == b.energy


@pytest.mark.parametrize("finish", [True, False])
def test_arrays_come_back(recorded, finish):
    create, frames, path, particles = recorded
    write(create, frames, finish)
    with Trajectory(path) as trajectory:
        assert trajectory.particles == particles
        assert len(trajectory) == len(frames)
        assert all(same(a, b) for a, b in zip(trajectory, frames, strict=True))
        assert same(trajectory[-3], frames[-3])
        assert trajectory.series("grid").shape == (len(frames), 3, 2)
        np.testing.assert_array_equal(trajectory.series("row"), [frame.observables["row"] for frame in frames])
        assert trajectory.series("half").shape == (len(frames),)
    with h5py.File(path) as file:
        assert file["observables/grid/value"].shape[1:] == (3, 2)
        assert file["observables/grid/step"] == file[schema.STEP]
    assert main(["check", str(path)]) == 0


def test_a_file_is_taken_up(recorded):
    create, frames, path, _ = recorded
    write(create, frames)
    whole = path.read_bytes()
    write(create, frames[:5], finish=False)
    with TrajectoryWriter.resume(path) as writer:
        assert same(writer.last(), frames[4])
        for frame in frames[5:]:
            writer.append(frame)
        writer.finish()
    assert path.read_bytes() == whole


def test_every_changed_byte_of_an_array_is_noticed(recorded):
    create, frames, path, _ = recorded
    write(create, frames)
    with h5py.File(path) as file:
        places = [
            (file[f"observables/{name}/value"].id.get_offset(), 8 * size) for name, size in (("grid", 6), ("row", 5))
        ]
    whole = path.read_bytes()
    for offset, size in places:
        for at in range(offset + 3 * size, offset + 4 * size, 7):  # of frame 3
            spoilt = bytearray(whole)
            spoilt[at] ^= 64
            path.write_bytes(spoilt)
            with Trajectory(path) as trajectory:
                assert same(trajectory[2], frames[2])
                with pytest.raises(TrajectoryError, match="frame 3 is damaged"):
                    trajectory[3]
                with pytest.raises(TrajectoryError, match="frame 3 is damaged"):
                    trajectory.series("half")
    copy = path.with_name("copy.h5")
    assert "frame 3" in repair.repair(path, copy).damage
    with Trajectory(copy) as trajectory:
        assert all(same(a, b) for a, b in zip(trajectory, frames[:3] + frames[4:], strict=True))


def test_arrays_have_named_dimensions(recorded):
    xarray = pytest.importorskip("xarray")
    create, frames, path, particles = recorded
    write(create, frames)
    with Trajectory(path) as trajectory:
        found = trajectory.to_xarray()
        assert found["grid"].dims == ("frame", "grid_0", "grid_1")
        assert found["half"].dims == ("frame",)
        assert ("theta" in found) == (particles > 0)
    with xarray.open_datatree(path, engine="h5netcdf") as tree:
        assert tree["observables/row/value"].dims == ("frame", "row_0")


def test_a_run_without_particles_is_no_start(recorded):
    create, frames, path, particles = recorded
    write(create, frames)
    with Trajectory(path) as trajectory:
        frame, flow = trajectory[-1], wgflow.Flow(trajectory.energy(), step=0.1)
        if particles:
            assert next(flow.run(frame, until=2.0)).energy == frame.energy
            return
        with pytest.raises(InputError, match="theta: expected a non-empty matrix"):
            flow.run(frame, until=2.0)
        with pytest.raises(IndexError):
            trajectory.particle(0)
    points = path.with_name("points.h5")
    assert main(["export", str(path), str(points)]) == 2
    assert not points.exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"grid": np.zeros((2, 3))}, r"expected observable 'grid' of shape \(3, 2\)"),
        ({"grid": 1.0}, "expected observable 'grid'"),
        ({"grid": np.full((3, 2), "x")}, "expected observable 'grid'"),
        ({"half": np.zeros(2)}, "frame: expected numbers"),
    ],
)
def test_an_array_of_another_shape_is_refused(recorded, wrong, message):
    create, frames, path, _ = recorded
    with create() as writer:
        writer.append(frames[0])
        with pytest.raises(InputError, match=message):
            writer.append(dataclasses.replace(frames[1], observables=frames[1].observables | wrong))
        writer.append(frames[1])
    with Trajectory(path) as trajectory:
        assert len(trajectory) == 2


@pytest.mark.parametrize("shape", [(2, 2, 2), (0,), (-1,), (2.5,), (2**13, 2**13)])
def test_a_shape_that_is_none_is_refused(run, shape):
    _, _, path, energy = run
    with pytest.raises(InputError, match="shape"):
        TrajectoryWriter.create(path, energy, 4, observables={"odd": shape})
    assert not path.exists()
