"""What kills and power cuts leave: every beginning of the writes of a run, and writes that were torn."""

import io
import os
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest

import wgflow
from wgflow.base.errors import InputError, TrajectoryError
from wgflow.trajectory import TrajectoryWriter, file_io, layout, repair, schema


@pytest.fixture
def logged(run, monkeypatch):
    """Writes of a run that outgrows its file twice, as (file before them, [(offset, bytes)]); its frames and path."""
    create, frames, path, _ = run
    log = []
    write = file_io._pwrite

    def note(file, data, offset):
        if os.fspath(file.name) == os.fspath(path):  # not a draft, which nobody sees
            if not log or log[-1][0] != os.fstat(file.fileno()).st_ino:
                log.append((os.fstat(file.fileno()).st_ino, path.read_bytes(), []))
            log[-1][2].append((offset, bytes(data)))
        return write(file, data, offset)

    monkeypatch.setattr(file_io, "_pwrite", note)
    with create(capacity=3) as writer:
        for frame in frames:
            writer.append(frame)
        writer.finish()
    monkeypatch.undo()
    return [(base, writes) for _, base, writes in log], frames, path


def commit_places(base, tmp_path):
    (tmp_path / "base").write_bytes(base)
    with open(tmp_path / "base", "rb", buffering=0) as file:
        place = layout.read(file).places[schema.DIGEST]
    return {place.offset + k * place.stride: k + 1 for k in range(place.shape[0])}


def states(logged, tmp_path):
    """Contents a kill may leave, with the number of frames committed in them: before and in the midst of each write."""
    parts, _, _ = logged
    for base, writes in parts:
        commits = commit_places(base, tmp_path)
        (tmp_path / "base").write_bytes(base)
        with wgflow.Trajectory(tmp_path / "base") as begun:
            committed = len(begun)
        content = bytearray(base)
        for offset, data in writes:
            for torn in sorted({0, 1, len(data) // 2, len(data) - 1}):
                state = bytearray(content)
                state[offset : offset + torn] = data[:torn]
                yield bytes(state), committed
            content[offset : offset + len(data)] = data
            committed = commits.get(offset, committed)
        yield bytes(content), committed


def test_every_beginning_of_the_writes_is_a_file_with_its_committed_frames(logged, tmp_path, same):
    _, frames, _ = logged
    path, seen = tmp_path / "left.h5", 0
    for content, committed in states(logged, tmp_path):
        path.write_bytes(content)
        with wgflow.Trajectory(path) as trajectory:
            assert len(trajectory) == committed
            assert all(same(a, b) for a, b in zip(trajectory, frames, strict=False))
        with h5py.File(io.BytesIO(content), "r") as file:  # and other programs read it too
            assert np.array_equal(file[schema.TIME][:committed], [frame.s for frame in frames[:committed]])
            position = file[schema.POSITION][:committed]
        assert all(np.array_equal(a[:, :-1], b.theta) for a, b in zip(position, frames, strict=False))
        seen += 1
    assert seen > 300


def test_every_beginning_goes_on_to_the_same_file(logged, tmp_path, same):
    _, frames, done = logged
    path, whole = tmp_path / "left.h5", done.read_bytes()
    for number, (content, committed) in enumerate(states(logged, tmp_path)):
        if number % 7:
            continue
        path.write_bytes(content)
        (tmp_path / ".left.h5.4711.new").write_bytes(b"half a draft")
        with TrajectoryWriter.resume(path) as writer:
            assert writer.frames == committed
            assert writer.dropped == 0
            for frame in frames[committed:]:
                writer.append(frame)
            writer.finish()
        assert path.read_bytes() == whole
        assert sorted(tmp_path.glob(".left*")) == []


def test_writes_that_a_power_cut_lost_are_never_wrong_numbers(logged, tmp_path, same, rng):
    """Any of the writes may be missing, not only the last ones."""
    parts, frames, _ = logged
    path, said = tmp_path / "left.h5", []
    for trial in range(150):
        base, writes = parts[trial % len(parts)]
        content = bytearray(base)
        for offset, data in writes[: rng.integers(len(writes) + 1)]:
            if rng.random() < 0.8:
                content[offset : offset + len(data)] = data
        path.write_bytes(content)
        try:
            with wgflow.Trajectory(path) as trajectory:
                assert all(same(a, b) for a, b in zip(trajectory, frames, strict=False))
        except TrajectoryError as error:
            said.append(str(error))
        with TrajectoryWriter.resume(path) as writer:  # goes on after the last frame that is whole
            assert all(same(a, b) for a, b in zip(wgflow.Trajectory(path), frames, strict=False))
            for frame in frames[writer.frames :]:
                writer.append(frame)
            writer.finish()
        with wgflow.Trajectory(path) as trajectory:
            assert all(same(a, b) for a, b in zip(trajectory, frames, strict=True))
    assert said
    assert all("left.h5: frame" in each for each in said)


def test_what_changed_while_a_file_was_open_is_not_sealed_again(run, monkeypatch):
    """Growing and finishing copy what never changes, after looking at it once more."""
    create, frames, path, energy = run
    for capacity, then in ((3, lambda writer: writer.append(frames[3])), (64, lambda writer: writer.finish())):
        with create(capacity=capacity, heldout=energy.problem) as writer:
            for frame in frames[:3]:
                writer.append(frame)
            with h5py.File(path, "r+") as file:
                file["parameters/heldout/y"][0] += 1
            with pytest.raises(TrajectoryError, match="parameters/heldout/y has changed since the file was sealed"):
                then(writer)
        with pytest.raises(TrajectoryError, match="outside the frames"):
            wgflow.Trajectory(path)
        assert not list(path.parent.glob("*.new"))


def test_damage_at_the_end_is_told_from_a_frame_in_flight(run, write, same):
    create, frames, path, _ = run
    write(create, frames[:8], finish=False)
    with h5py.File(path, "r+") as file:
        file[schema.POSITION][7, 0, 0] += 1e-9
    with wgflow.Trajectory(path) as trajectory:  # one: what a kill leaves
        assert len(trajectory) == 7
    with h5py.File(path, "r+") as file:
        file[schema.POSITION][4:7, 0, 0] += 1e-9
    with wgflow.Trajectory(path) as trajectory, pytest.raises(TrajectoryError, match="frame 6 is damaged"):
        trajectory[-1]
    with TrajectoryWriter.resume(path) as writer:
        assert (writer.frames, writer.dropped) == (4, 3)


def test_one_writer_however_the_file_is_called(run, write):
    create, frames, path, _ = run
    write(create, frames[:3], finish=False)
    link = path.with_name("link.h5")
    link.symlink_to(path)
    with TrajectoryWriter.resume(link) as writer:
        with pytest.raises(TrajectoryError, match="another process is writing this file"):
            TrajectoryWriter.resume(path)
        for frame in frames[3:]:
            writer.append(frame)
        writer.finish()
    assert link.is_symlink()
    with wgflow.Trajectory(path) as trajectory:
        assert len(trajectory) == 11


def test_a_file_holds_so_many_frames_and_no_more(run, monkeypatch):
    create, frames, path, _ = run
    monkeypatch.setattr(schema, "MOST_FRAMES", 4)
    with create(capacity=3) as writer:
        for frame in frames[:4]:
            writer.append(frame)
        with pytest.raises(InputError, match="expected at most 4 frames"):
            writer.append(frames[4])
    assert repair.check(path).damage == []


def test_a_kill_before_the_file_is_there_leaves_the_old_one(run, write, same, monkeypatch):
    create, frames, path, _ = run
    write(create, frames)

    def killed(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        create()
    with wgflow.Trajectory(path) as trajectory:
        assert all(same(a, b) for a, b in zip(trajectory, frames, strict=True))
    assert [file.name for file in path.parent.iterdir()] == ["run.h5"]


@pytest.mark.parametrize("at", [0, 1, 5, 9, 10])
def test_a_disk_that_fills_up_keeps_what_is_committed(run, same, monkeypatch, at):
    """The write takes a part, then fails, as on a full disk."""
    create, frames, path, _ = run
    write, left = file_io._pwrite, [None]

    def full(file, data, offset):
        if left[0] is None:
            return write(file, data, offset)
        if left[0] == 0:
            raise OSError(28, "No space left on device", str(path))
        left[0] -= 1
        view = memoryview(data).cast("B")
        return write(file, view[: max(1, len(view) // 2)], offset)

    monkeypatch.setattr(file_io, "_pwrite", full)
    with create() as writer:
        for frame in frames[:4]:
            writer.append(frame)
        left[0] = at
        with pytest.raises(OSError, match="No space left"):
            writer.append(frames[4])
        left[0] = None
        assert writer.frames == 4
        for frame in frames[4:]:  # space was made
            writer.append(frame)
    with wgflow.Trajectory(path) as trajectory:
        assert all(same(a, b) for a, b in zip(trajectory, frames, strict=True))


def test_a_full_disk_while_the_file_grows(run, same, monkeypatch):
    create, frames, path, _ = run
    with create(capacity=3) as writer:
        for frame in frames[:3]:
            writer.append(frame)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(28, "No space left on device")))
            with pytest.raises(OSError, match="No space left"):
                writer.append(frames[3])
        assert not list(path.parent.glob("*.new"))
        writer.append(frames[3])
    with wgflow.Trajectory(path) as trajectory:
        assert all(same(a, b) for a, b in zip(trajectory, frames[:4], strict=True))


WRITER = """
import sys, numpy as np, wgflow
from wgflow.trajectory import TrajectoryWriter
problem = wgflow.Problem.padded(np.linspace(-1, 1, 20)[:, None], np.linspace(0, 1, 20))
energy = wgflow.Energy(problem, backend="reference")
frame = next(wgflow.Flow(energy).run(wgflow.Particles.draw(problem, 200), until=1.0))
with TrajectoryWriter.create(sys.argv[1], energy, 200, capacity=4) as writer:
    for step in range(6000):
        theta = np.full_like(frame.theta, float(step))
        writer.append(wgflow.base.types.Frame(step, step / 8, theta, frame.tau, frame.mass, float(-step), 0.0))
    writer.finish()
"""


def test_thousands_of_reads_while_it_is_written_and_grows(tmp_path):
    """Nothing is wrong, nothing is refused, and the writer does not notice; plain h5py reads along, with its lock."""
    path, reads, longest = tmp_path / "live.h5", 0, 0
    writer = subprocess.Popen([sys.executable, "-c", WRITER, path])
    while not path.exists():
        assert writer.poll() is None
    while writer.poll() is None or not reads:
        with wgflow.Trajectory(path) as trajectory:
            assert len(trajectory) >= longest
            longest = len(trajectory)
            for number in {0, longest // 2, longest - 1} if longest else ():
                frame = trajectory[number]
                assert (frame.step, frame.s, frame.energy) == (number, number / 8, -number)
                assert (frame.theta == number).all()
                reads += 1
            if reads % 50 == 0:
                assert np.array_equal(trajectory.series("step"), np.arange(longest))
        with h5py.File(path, "r") as file:
            assert np.array_equal(file[schema.STEP][:longest], np.arange(longest))
    assert writer.returncode == 0
    assert reads > 300
    with wgflow.Trajectory(path) as trajectory:
        assert len(trajectory) == 6000
        assert trajectory.finished


def test_a_lock_left_by_a_kill_is_nobody_s(run, write):
    create, frames, path, _ = run
    write(create, frames[:2], finish=False)
    shutil.copy(path, path.with_name(".run.h5.lock"))
    with TrajectoryWriter.resume(path) as writer:
        assert writer.frames == 2
    assert not path.with_name(".run.h5.lock").exists()
