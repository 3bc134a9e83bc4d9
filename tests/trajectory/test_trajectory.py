import dataclasses
import subprocess
import sys

import h5py
import numpy as np
import pytest

import wgflow
from wgflow.base.errors import InputError, TrajectoryError
from wgflow.trajectory import TrajectoryWriter, schema


@pytest.mark.parametrize("capacity", [1, 3, 11, 64])
def test_frames_come_back_bit_for_bit(run, capacity, write, same):
    create, frames, path, _ = run
    write(create, frames, capacity=capacity)
    with wgflow.Trajectory(path) as trajectory:
        assert len(trajectory) == 11
        assert all(same(a, b) for a, b in zip(trajectory, frames, strict=True))
        assert all(same(a, b) for a, b in zip(trajectory[2:9:3], frames[2:9:3], strict=True))
        assert same(trajectory[-1], frames[-1])
        with pytest.raises(IndexError, match=r"frame number in 0..10, got 11"):
            trajectory[11]
        np.testing.assert_array_equal(trajectory.series("half"), [frame.energy / 2 for frame in frames])
        np.testing.assert_array_equal(trajectory.series("s"), [frame.s for frame in frames])
        with pytest.raises(InputError, match="did you mean 'energy'"):
            trajectory.series("enrgy")


def test_energy_is_rebuilt_from_the_file_alone(run, write, same):
    create, frames, path, energy = run
    write(create, frames, heldout=energy.problem.replace(energy.problem.x[:2], energy.problem.y[:2]))
    with wgflow.Trajectory(path) as trajectory:
        rebuilt, frame = trajectory.energy(), trajectory[3]
        assert rebuilt.spec() == energy.spec()
        assert rebuilt(wgflow.Particles(frame.theta, frame.tau, frame.mass)) == frame.energy
        assert len(trajectory.energy("heldout").problem.x) == 2
        flow = wgflow.Flow.from_spec(trajectory.parameters["flow"], rebuilt)
        assert same(dataclasses.replace(next(flow.run(frame, until=1.0)), observables=frame.observables), frame)


def test_no_heldout_samples_is_said(run, write):
    create, frames, path, _ = run
    write(create, frames)
    with wgflow.Trajectory(path) as trajectory, pytest.raises(InputError, match="without any"):
        trajectory.energy("heldout")


def test_finished_file_is_h5md(run, write):
    import pyh5md

    create, frames, path, _ = run
    write(create, frames, capacity=64)
    with pyh5md.File(str(path), "r") as file:
        group = file.particles_group("rho")
        position = pyh5md.element(group, "position")
        np.testing.assert_array_equal(position.value[5], np.column_stack([frames[5].theta, frames[5].tau]))
        np.testing.assert_array_equal(position.time[:], [frame.s for frame in frames])
        mass = pyh5md.element(group, "mass")
        np.testing.assert_array_equal(mass.value[5], frames[5].mass)
        assert mass.step == position.step
        energy = pyh5md.element(file["observables"], "energy")
        np.testing.assert_array_equal(energy.value[:], [frame.energy for frame in frames])
    with h5py.File(path) as file:
        assert file["h5md"].attrs["version"].tolist() == [1, 1]
        assert file["h5md/creator"].attrs["name"] == b"wgflow"
        box = file["particles/rho/box"].attrs
        assert box["dimension"] == 8
        assert set(box["boundary"]) == {b"none"}


def test_file_holds_the_schema_and_nothing_else(run, write):
    create, frames, path, energy = run
    write(create, frames, heldout=energy.problem)
    elements = (*schema.elements({"half": (), "balance": schema.BALANCE_SHAPE}), *schema.STATIC)
    known = {element.path for element in elements}
    links, axes = {"step", "time"}, {*schema.DIMENSIONS.values(), "balance_0"}
    with h5py.File(path) as file:
        found = []
        file.visititems_links(lambda name, link: found.append(name))
        datasets = {name for name in found if isinstance(file[name], h5py.Dataset)}
        assert {name for name in datasets - axes if name.rsplit("/", 1)[1] not in links or name in known} == known
        for element in elements:
            assert file[element.path].chunks is None  # contiguous
            names = [file[dim[0].name].name for dim in file[element.path].dims]
            assert names == [f"/{schema.DIMENSIONS.get(letter, letter)}" for letter in element.shape]


@pytest.mark.parametrize("kept", [0, 1, 6])
def test_resume_goes_on_after_the_last_committed_frame(run, kept, write, same):
    create, frames, path, _ = run
    write(create, frames[:kept], finish=False)
    with TrajectoryWriter.resume(path) as writer:
        assert writer.frames == kept
        assert writer.last() is None if not kept else same(writer.last(), frames[kept - 1])
        for frame in frames[kept:]:
            writer.append(frame)
        writer.finish()
    with wgflow.Trajectory(path) as trajectory:
        assert all(same(a, b) for a, b in zip(trajectory, frames, strict=True))


def test_a_frame_without_its_digest_was_never_there(run, write):
    """What a kill between the numbers and the commit leaves."""
    create, frames, path, _ = run
    write(create, frames[:5], finish=False)
    with h5py.File(path, "r+") as file:
        file["particles/rho/position/value"][5] = 1.0
    with wgflow.Trajectory(path) as trajectory:
        assert len(trajectory) == 5
    with TrajectoryWriter.resume(path) as writer:
        assert writer.frames == 5


def test_a_torn_commit_is_dropped_on_resume(run, write):
    create, frames, path, _ = run
    write(create, frames[:5], finish=False)
    with h5py.File(path, "r+") as file:
        file[schema.DIGEST][4, 16:] = 0
    with TrajectoryWriter.resume(path) as writer:
        assert writer.frames == 4
    with wgflow.Trajectory(path) as trajectory:
        assert len(trajectory) == 4


def test_a_changed_number_is_an_error_not_a_wrong_number(run, write, same):
    create, frames, path, _ = run
    write(create, frames)
    with h5py.File(path, "r+") as file:
        file["particles/rho/position/value"][3, 0, 0] += 1e-9
    with wgflow.Trajectory(path) as trajectory:
        assert same(trajectory[2], frames[2])
        with pytest.raises(TrajectoryError, match="frame 3 is damaged"):
            trajectory[3]
        with pytest.raises(TrajectoryError, match="frame 3 is damaged"):
            list(trajectory)
        with pytest.raises(TrajectoryError, match="frame 3 is damaged"):
            trajectory.particle(0)
        np.testing.assert_array_equal(trajectory.series("energy"), [frame.energy for frame in frames])  # is whole


def test_a_changed_number_of_a_series(run, write):
    create, frames, path, _ = run
    write(create, frames)
    with h5py.File(path, "r+") as file:
        file["observables/half/value"][3] += 1e-9
    with wgflow.Trajectory(path) as trajectory:
        for name in ("half", "energy", "s"):
            with pytest.raises(TrajectoryError, match="frame 3 is damaged"):
                trajectory.series(name)
        with pytest.raises(TrajectoryError, match="frame 3 is damaged"):
            trajectory[3]


def test_reading_while_it_is_written(run):
    create, frames, path, _ = run
    script = "import sys, wgflow\nwith wgflow.Trajectory(sys.argv[1]) as t: print(len(t), t[-1].energy)"
    with create() as writer:
        for number, frame in enumerate(frames, 1):
            writer.append(frame)
            if number in (1, 7):
                out = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
                assert out.stdout.split() == [str(number), str(frame.energy)]
                with wgflow.Trajectory(path) as trajectory:  # and in this process
                    assert len(trajectory) == number


def test_a_second_writer_is_refused(run):
    create, frames, path, _ = run
    script = (
        "import sys, wgflow.trajectory as t, wgflow.base.errors as e\n"
        "try: t.TrajectoryWriter.resume(sys.argv[1])\n"
        "except e.TrajectoryError as error: print(error)"
    )
    with create() as writer:
        writer.append(frames[0])
        out = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
    assert "another process is writing this file" in out.stdout


def test_create_replaces_whole_files_only(run, write):
    create, frames, path, _ = run
    write(create, frames)
    write(create, frames[:2])
    with wgflow.Trajectory(path) as trajectory:
        assert len(trajectory) == 2
    assert [file.name for file in path.parent.iterdir()] == ["run.h5"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "file not found"),
        (b"", "got an empty file"),
        (b"not HDF5 at all", "without its mark"),
        (schema.MAGIC + b"\0" * 9000, "damaged or made before format version 2"),
    ],
)
def test_foreign_files(tmp_path, content, words):
    path = tmp_path / "foreign.h5"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TrajectoryError, match=words):
        wgflow.Trajectory(path)


def test_other_versions_and_missing_parts(run, write):
    create, frames, path, _ = run
    write(create, frames)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"version":[2,2]', b'"version":[3,0]'))
    with pytest.raises(TrajectoryError, match=r"expected format version 2.x, got 3.0"):
        wgflow.Trajectory(path)
    path.write_bytes(whole.replace(b'"observables/energy/value"', b'"observables/enrgie/value"'))
    with pytest.raises(TrajectoryError, match="observables/energy/value is missing"):
        wgflow.Trajectory(path)
    path.write_bytes(whole.replace(b'"version":[2,2]', b'"version":[2,7]'))
    with pytest.raises(TrajectoryError, match="data outside the frames have changed"):
        wgflow.Trajectory(path)


def test_frames_that_do_not_fit_are_refused(run):
    create, frames, _, _ = run
    with create() as writer:
        with pytest.raises(InputError, match=r"expected observables \['half'\], as the file has, got \[\]"):
            writer.append(dataclasses.replace(frames[0], observables={}))
        with pytest.raises(InputError, match=r"expected 4 particles of 7 parameters, got theta \(4, 3\)"):
            writer.append(dataclasses.replace(frames[0], theta=np.zeros((4, 3))))
        assert writer.frames == 0
    with pytest.raises(InputError, match="expected at most 100 characters without '/'"):
        create(observables=("energy",))


def test_to_xarray_names_the_dimensions(run, tmp_path, write):
    xarray = pytest.importorskip("xarray")
    create, frames, path, _ = run
    write(create, frames)
    with wgflow.Trajectory(path) as trajectory:
        whole, series = trajectory.to_xarray(), trajectory.to_xarray(particles=False)
    assert dict(whole.sizes) == {"frame": 11, "particle": 4, "component": frames[0].theta.shape[1]}
    for number, frame in enumerate(frames):
        part = whole.isel(frame=number)
        assert part.s == frame.s
        assert part.step == frame.step
        assert part.energy == frame.energy
        assert part.half == frame.observables["half"]
        np.testing.assert_array_equal(part.theta, frame.theta)
        np.testing.assert_array_equal(part.tau, frame.tau)
        np.testing.assert_array_equal(part.mass, frame.mass)
    assert set(series.data_vars) == set(whole.data_vars) - {"theta", "tau", "mass"}
    whole.to_netcdf(tmp_path / "run.nc", engine="h5netcdf")
    with xarray.open_dataset(tmp_path / "run.nc", engine="h5netcdf") as found:
        xarray.testing.assert_identical(found.load(), whole)


def test_to_xarray_without_the_package(run, monkeypatch, write):
    create, frames, path, _ = run
    write(create, frames)
    monkeypatch.setitem(sys.modules, "xarray", None)
    with (
        wgflow.Trajectory(path) as trajectory,
        pytest.raises(InputError, match=r"expected xarray, got no such package; pip install .*\[xarray\]"),
    ):
        trajectory.to_xarray()


def test_to_xarray_checks_every_frame(run, write):
    create, frames, path, _ = run
    write(create, frames)
    with h5py.File(path, "r+") as file:
        file[f"{schema.GROUP}/position/value"][3, 0, 0] += 1e-9
    with wgflow.Trajectory(path) as trajectory, pytest.raises(TrajectoryError, match="frame 3 is damaged"):
        trajectory.to_xarray()
