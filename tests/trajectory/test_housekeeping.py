"""python -m wgflow.trajectory: check, repair, export, schema."""

import dataclasses
import hashlib
import json
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest

import wgflow
from wgflow.base.errors import InputError, LostError, TrajectoryError
from wgflow.cli.trajectory import main
from wgflow.trajectory import h5md, new_file, schema
from wgflow.trajectory import writer as writer_module


def spoil(path, *places):
    with h5py.File(path, "r+") as file:
        for name, row in places:
            file[name][row] = file[name][row] + 1


def test_check(run, write, capsys):
    create, frames, path, _ = run
    write(create, frames[:5], finish=False)
    assert main(["check", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}: sound, 5 frames, not finished\n"
    write(create, frames)
    assert main(["check", str(path), str(path)]) == 0
    assert capsys.readouterr().out == f"{path}: sound, 11 frames, finished\n" * 2
    spoil(path, (schema.POSITION, 3), (schema.MASS, 7))
    assert main(["check", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"wgflow: {path}: 11 frames, damaged: frame 3, frame 7\n"
    spoil(path, ("parameters/data/x", 0))
    assert main(["check", str(path)]) == 2
    assert "damaged: outside the frames: parameters/data/x, frame 3, frame 7" in capsys.readouterr().err
    assert main(["check", "nothing.h5"]) == 2
    assert "file not found; expected a trajectory file" in capsys.readouterr().err


def test_check_reads_hdf5_too(run, write, capsys):
    """What only other programs would see."""
    create, frames, path, _ = run
    write(create, frames)
    content = path.read_bytes()
    at = content.index(b"position\0")
    path.write_bytes(content[:at] + b"q" + content[at + 1 :])
    assert main(["check", str(path)]) == 2
    assert "the structure of the HDF5 file" in capsys.readouterr().err


def test_repair_copies_what_is_whole(run, write, same, capsys):
    create, frames, path, energy = run
    write(create, frames)
    spoil(path, (schema.POSITION, 3), ("observables/half/value", 10))
    before = path.read_bytes()
    assert main(["repair", str(path)]) == 0
    assert path.read_bytes() == before
    out = path.with_name("run-repaired.h5")
    assert capsys.readouterr().out == (f"{out}: 9 frames that match their digests; left out: frame 3, frame 10\n")
    kept = [frame for number, frame in enumerate(frames) if number not in (3, 10)]
    with wgflow.Trajectory(out) as trajectory:
        assert all(same(a, b) for a, b in zip(trajectory, kept, strict=True))
        assert trajectory.energy().spec() == energy.spec()
        assert not trajectory.finished
    assert main(["check", str(out)]) == 0
    assert main(["repair", str(path)]) == 2
    assert "expected a name that is free, got a file" in capsys.readouterr().err


def test_repair_of_what_surrounds_the_frames(run, write, same, capsys):
    create, frames, path, energy = run
    write(create, frames)
    spoil(path, ("parameters/data/x", 0))
    content = path.read_bytes()
    at = content.index(json.dumps(energy.spec(), sort_keys=True).encode())
    path.write_bytes(content[:at] + b"[" + content[at + 1 :])
    out = path.with_name("out.h5")
    assert main(["repair", str(path), str(out)]) == 0
    assert "left out: parameters/energy, parameters/data/x" in capsys.readouterr().out
    with wgflow.Trajectory(out) as trajectory:
        assert all(same(a, b) for a, b in zip(trajectory, frames, strict=True))
        assert trajectory.finished
        assert trajectory.parameters["flow"]["integrator"] == "euler"
        with pytest.raises(InputError, match="lost in a repair"):
            trajectory.energy()


@pytest.mark.parametrize("lost", [4096, 300, 1])
def test_repair_without_the_block_in_front(run, write, same, lost, capsys):
    """HDF5 says where the frames are; documents cannot be told from damaged ones, so they stay behind."""
    create, frames, path, _ = run
    write(create, frames)
    content = path.read_bytes()
    path.write_bytes(bytes(lost) + content[lost:])
    out = path.with_name("out.h5")
    assert main(["repair", str(path), str(out)]) == 0
    with wgflow.Trajectory(out) as trajectory:
        assert all(same(a, b) for a, b in zip(trajectory, frames, strict=True))
    path.write_bytes(bytes(20000) + content[20000:])
    assert main(["repair", str(path), str(out.with_name("none.h5"))]) == 2
    assert "got a file without its mark" in capsys.readouterr().err
    assert not list(path.parent.glob("none*"))


def test_export_to_netcdf(run, write, capsys):
    xarray = pytest.importorskip("xarray")
    create, frames, path, _ = run
    write(create, frames)
    for options in ([], ["--series"], ["--compress"]):
        out = path.with_name("run.nc")
        assert main(["export", str(path), str(out), *options]) == 0
        with xarray.open_dataset(out, engine="h5netcdf") as found:
            np.testing.assert_array_equal(found.energy, [frame.energy for frame in frames])
            assert ("theta" in found) == (options != ["--series"])
            if "theta" in found:
                np.testing.assert_array_equal(found.theta[-1], frames[-1].theta)


def test_the_file_itself_has_named_dimensions(run, write):
    """xarray opens a trajectory as it is."""
    xarray = pytest.importorskip("xarray")
    create, frames, path, _ = run
    write(create, frames)
    with xarray.open_datatree(path, engine="h5netcdf") as tree:
        value = tree["particles/rho/position/value"]
        assert value.dims == ("frame", "particle", "component")
        np.testing.assert_array_equal(value[5], np.column_stack([frames[5].theta, frames[5].tau]))
        assert tree["observables/energy/value"].dims == ("frame",)
        np.testing.assert_array_equal(tree["observables/energy/value"], [frame.energy for frame in frames])
        assert tree["parameters/data/x"].dims == ("sample", "input")


@pytest.mark.parametrize("axes", [None, "0,2,tau", "tau,pc1,1"])
def test_export_in_three_dimensions(run, write, capsys, axes):
    import pyh5md

    create, frames, path, _ = run
    write(create, frames)
    out = path.with_name("points.h5")
    assert main(["export", str(path), str(out), *(["--axes", axes] if axes else [])]) == 0
    names = (axes or "pc1,pc2,tau").split(",")
    assert f"axes {', '.join(names)}" in capsys.readouterr().out
    theta = np.concatenate([frame.theta for frame in frames])
    variances, vectors = np.linalg.eigh(np.cov(theta.T))
    with pyh5md.File(str(out), "r") as file:
        group = file.particles_group("rho")
        assert group["box"].attrs["dimension"] == 3
        position = pyh5md.element(group, "position")
        for column, name in enumerate(names):
            got = np.concatenate([position.value[k][:, column] for k in range(11)])
            if name == "tau":
                np.testing.assert_array_equal(got, np.concatenate([frame.tau for frame in frames]))
            elif name.startswith("pc"):
                assert np.var(got, ddof=1) == pytest.approx(variances[-int(name[2])])
                np.testing.assert_allclose(abs(got), abs(theta @ vectors[:, -int(name[2])]), atol=1e-12)
            else:
                np.testing.assert_array_equal(got, theta[:, int(name)])
        np.testing.assert_array_equal(position.step[:], [frame.step for frame in frames])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["export", "run.h5", "out.txt"], "expected a name that ends in .nc or .h5, got .txt"),
        (["export", "run.h5", "run.h5"], "expected a file that may be replaced, got a trajectory"),
        (["export", "run.h5", "out.nc", "--axes", "0,1,2"], "--axes goes with .h5"),
        (["export", "run.h5", "out.h5", "--series"], "--series with .nc"),
        (
            ["export", "run.h5", "out.h5", "--axes", "0,1,99"],
            "axes: expected tau, pc1 to pc3, or components of theta 0..6",
        ),
        (["export", "run.h5", "out.h5", "--axes", "0,1"], "axes: expected three, got 2: 0, 1"),
        (["export", "empty.h5", "out.h5"], "expected frames to project, got none"),
        (["repair", "empty.h5", "out.h5"], "expected at least one frame"),
        (["repair", "run.h5", "run.h5"], "expected a name that is free"),
        (["export", "run.h5", "empty.h5"], "expected a file that may be replaced, got a trajectory"),
        (["export", "run.h5", "nowhere/out.nc"], "expected a folder that is there, got nowhere"),
        (["repair", "run.h5", "."], "expected the name of a file, got a folder"),
        (["export", "no.h5", "out.nc"], "file not found"),
        (["export", "run.h5", "out.h5", "--axes", ""], "axes: expected three, got 1"),
        (["check", "no.h5"], "file not found"),
        (["chekc", "no.h5"], "invalid choice: 'chekc'"),
        (["export", "run.h5"], "the following arguments are required: OUT"),
    ],
)
def test_bad_command_lines_write_nothing(run, write, monkeypatch, capsys, arguments, words):
    create, frames, path, _ = run
    monkeypatch.chdir(path.parent)
    write(create, [], finish=False)
    path.rename("empty.h5")
    write(create, frames)
    before = sorted(Path().iterdir())
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert len(err.splitlines()) == 1
    assert sorted(Path().iterdir()) == before


def test_an_older_check_of_a_newer_file(run, write, capsys, monkeypatch):
    """Format 2.3 has one more array, and one more number a frame: 2.2 reads it, and does not write to it."""
    create, frames, path, energy = run
    more = [*schema.STATIC, schema.Element("parameters/data/weight", "<f8", ("M",), "of a sample")]
    stored = new_file._stored
    with monkeypatch.context() as patch:
        patch.setattr(schema, "STATIC", tuple(more))
        patch.setattr(schema, "MODULE_VERSION", (2, 3))
        weight = {"parameters/data/weight": np.ones(len(energy.problem.x))}
        patch.setattr(new_file, "_stored", lambda group, arrays: stored(group, arrays) | weight)
        odd = [dataclasses.replace(frame, observables=frame.observables | {"added": 3.0}) for frame in frames]
        write(create, odd, observables=("half", "added"))
    with wgflow.Trajectory(path) as trajectory:
        np.testing.assert_array_equal(trajectory.series("half"), [frame.energy / 2 for frame in frames])
        assert trajectory[3].observables["added"] == 3.0
        assert trajectory.energy().problem.spec() == energy.problem.spec()
    with pytest.raises(TrajectoryError, match=r"expected format version 2.2 or before to continue, got 2.3"):
        wgflow.trajectory.TrajectoryWriter.resume(path)


def test_a_digest_made_from_the_page_alone(run, write):
    """What docs/trajectory-format.md says a digest is, written down again."""
    create, frames, path, _ = run
    write(create, frames)
    with h5py.File(path) as file:
        count, width = file["particles/rho/position/value"].shape[1:]
        numbers = ["particles/rho/position/step", "particles/rho/position/time"]
        own = ["energy", "dissipation", "switches", "step_length"]
        rest = sorted(set(file["observables"]) - {*own, "balance"})
        numbers += [f"observables/{name}/value" for name in (*own, *rest)]
        balance = file["observables/balance/value"]
        block = max(1, 10240 // (8 * (width + 1)), -(-count // 1024))
        named = [[name, file[name].dtype.str] for name in numbers]
        datasets = [["particles/rho/position/value", "<f8", count, width], ["particles/rho/mass/value", "<f8", count]]
        arrays = [["observables/balance/value", "<f8", balance.shape[1]]]
        text = json.dumps([named + arrays, *datasets, block]).encode()
        for k in range(11):
            position, mass = file["particles/rho/position/value"][k], file["particles/rho/mass/value"][k]
            checksums = b"".join(
                zlib.crc32(position[a : a + block].tobytes() + mass[a : a + block].tobytes()).to_bytes(4, "little")
                for a in range(0, count, block)
            )
            rest = b"".join(file[name][k].tobytes() for name in numbers) + balance[k].tobytes()
            expected = hashlib.sha256(text + b"frame" + k.to_bytes(8, "little") + rest + checksums).digest()
            assert file["wgflow/digest"][k].tobytes() == expected
        end = hashlib.sha256(text + b"finished" + (11).to_bytes(8, "little")).digest()
        assert file["wgflow/finished"][()].tobytes() == end


def test_a_file_of_format_2_1_is_read_and_gone_on_with(run, write, same, monkeypatch):
    """It has no balance of energy, and gets none when it goes on or grows."""
    create, frames, path, energy = run
    made = h5md.create

    def before(path, observables, **options):
        made(path, observables={name: observables[name] for name in observables if name != "balance"}, **options)

    bare = [dataclasses.replace(frame, balance=None) for frame in frames]
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MODULE_VERSION", (2, 1))
        patch.setattr(h5md, "create", before)
        write(create, frames[:3], finish=False, capacity=4)
    with wgflow.Trajectory(path) as trajectory:
        assert "balance" not in trajectory.observables
        assert all(same(a, b) for a, b in zip(trajectory, bare, strict=False))
        rest = list(wgflow.Flow(energy, step=0.1).run(trajectory[-1], until=1.0))
    assert frames[2].balance.steps == 2
    assert [frame.balance.steps for frame in rest] == list(range(9))  # of those made from there on
    with wgflow.trajectory.TrajectoryWriter.resume(path) as writer:
        for frame in frames[3:]:
            writer.append(frame)
        writer.finish()
    with wgflow.Trajectory(path) as trajectory:
        assert all(same(a, b) for a, b in zip(trajectory, bare, strict=True))
    assert main(["check", str(path)]) == 0


def test_an_observable_of_format_2_1_that_is_called_balance(run, write, monkeypatch):
    create, frames, path, _ = run
    monkeypatch.setattr(schema, "RESERVED", frozenset())
    monkeypatch.setattr(schema, "BALANCE", "another")  # what this format adds, under another name
    write(
        create, [dataclasses.replace(each, observables={"balance": 3.0}) for each in frames], observables=("balance",)
    )
    monkeypatch.undo()
    with wgflow.Trajectory(path) as trajectory:
        assert trajectory[2].observables["balance"] == 3.0
        assert trajectory[2].balance is None


@pytest.mark.parametrize("name", ["s", "theta", "frame", "a/b", "", ".", "x" * 101, "energy", "balance"])
def test_names_an_observable_cannot_have(run, name):
    create, _, path, _ = run
    with pytest.raises(InputError, match="expected at most 100 characters without '/', and none of the names"):
        create(observables=(name,))
    assert not path.exists()


def test_names_in_other_letters(run, write, same):
    create, frames, path, _ = run
    names = ["é" * 100, '"' * 100, "Größe λ", *(f"{k:099d}" for k in range(30))]
    odd = [dataclasses.replace(frame, observables=dict.fromkeys(names, frame.energy)) for frame in frames]
    write(create, odd, observables=tuple(names))
    with wgflow.Trajectory(path) as trajectory:
        assert all(same(a, b) for a, b in zip(trajectory, odd, strict=True))
    assert main(["check", str(path)]) == 0


def test_wrong_frames_are_refused(run):
    create, frames, _, _ = run
    with create() as writer:
        for change, words in (
            ({"observables": {"half": None}}, "frame: expected numbers"),
            ({"step": 0.5}, "frame: expected numbers"),
            ({"theta": frames[0].theta + 1j}, "frame: expected real numbers"),
            ({"observables": {"half": np.ma.masked}}, "frame: observable 'half': .* got 1 masked;"),
            ({"mass": np.ma.masked_array(frames[0].mass, mask=[0, 0, 1, 0])}, "frame: mass: .* 1 masked, the first at"),
        ):
            with pytest.raises(InputError, match=words):
                writer.append(dataclasses.replace(frames[0], **change))
        assert writer.frames == 0
    with pytest.raises(TrajectoryError, match="this writer has been closed"):
        writer.append(frames[0])


def test_the_documentation_has_the_schema(capsys):
    assert main(["schema"]) == 0
    table = capsys.readouterr().out
    page = (Path(__file__).parents[2] / "docs" / "trajectory-format.md").read_text()
    assert table in page
    assert ".".join(map(str, schema.MODULE_VERSION)) in page


def test_a_particle_is_the_same_in_the_path_and_in_the_frames(run, write):
    create, frames, path, _ = run
    write(create, frames)
    with wgflow.Trajectory(path) as trajectory:
        for index in (0, 3, -1):
            found = trajectory.particle(index)
            np.testing.assert_array_equal(found.theta, [frame.theta[index] for frame in frames])
            np.testing.assert_array_equal(found.tau, [frame.tau[index] for frame in frames])
            np.testing.assert_array_equal(found.mass, [frame.mass[index] for frame in frames])
        with pytest.raises(IndexError, match=r"expected a particle in 0..3, got 4"):
            trajectory.particle(4)


def test_large_frames_have_several_blocks(tmp_path, rng):
    """A path reads one block of each frame, so damage in another one does not touch it."""
    problem = wgflow.Problem.padded(rng.normal(size=(5, 30)), rng.normal(size=5))
    energy = wgflow.Energy(problem)
    rho = wgflow.Particles.draw(problem, 150)
    path = tmp_path / "large.h5"
    frames = list(wgflow.Flow(energy).run(rho, until=0.3))
    with wgflow.trajectory.TrajectoryWriter.create(path, energy, 150) as writer:
        for frame in frames:
            writer.append(frame)
    block = schema.block_particles(150, frames[0].theta.shape[1] + 1)
    assert 1 < block < 75
    with h5py.File(path, "r+") as file:
        file[schema.POSITION][2, block, 0] += 1e-9
    with wgflow.Trajectory(path) as trajectory:
        np.testing.assert_array_equal(trajectory.particle(block - 1).tau, [f.tau[block - 1] for f in frames])
        np.testing.assert_array_equal(trajectory.particle(149).tau, [f.tau[149] for f in frames])
        for index in (block, 2 * block - 1):
            with pytest.raises(wgflow.base.errors.TrajectoryError, match="frame 2 is damaged"):
                trajectory.particle(index)


def test_appending_frames_of_another_type(run, same):
    """Float32 and arrays laid out otherwise come back as the numbers they are."""
    create, frames, path, _ = run
    odd = dataclasses.replace(
        frames[0],
        theta=np.asfortranarray(frames[0].theta).astype(np.float32),
        tau=frames[0].tau[::-1],
        mass=np.broadcast_to(np.float64(0.25), 4),
    )
    with create() as writer:
        writer.append(odd)
    with wgflow.Trajectory(path) as trajectory:
        assert same(trajectory[0], dataclasses.replace(odd, theta=odd.theta.astype(float)))


@pytest.mark.parametrize("moving", [True, False])
def test_points_in_three_dimensions_have_the_masses_of_their_frame(run, write, moving, capsys):
    """As birth-death leaves them, a row a frame; masses that never change are one row for all, as H5MD has it."""
    create, frames, path, _ = run
    shares = [np.roll([0.1, 0.2, 0.3, 0.4], k if moving else 0) for k in range(len(frames))]
    frames = [dataclasses.replace(frame, mass=mass) for frame, mass in zip(frames, shares, strict=True)]
    write(create, frames)
    out = path.with_name("points.h5")
    assert main(["export", str(path), str(out)]) == 0
    with h5py.File(out) as file:
        group = file["particles/rho/mass"]
        if moving:
            np.testing.assert_array_equal(group["value"], shares)
            assert group["step"] == file["particles/rho/position/step"]
            np.testing.assert_array_equal(group["time"], [frame.s for frame in frames])
        else:
            np.testing.assert_array_equal(group, shares[0])


def test_a_file_removed_as_soon_as_it_is_there_is_lost(run, monkeypatch):
    create, _, path, _ = run
    begin = writer_module.TrajectoryWriter.__init__

    def remove(writer, place, **options):
        place.unlink()
        begin(writer, place, **options)

    monkeypatch.setattr(writer_module.TrajectoryWriter, "__init__", remove)
    with pytest.raises(LostError, match=r"run\.h5: removed while it was written; the same command runs"):
        create()
    assert not path.exists()


@pytest.mark.parametrize(
    ("path", "words"), [(123, "expected the path"), (b"a.h5", "expected the path"), (".", "got a folder"),
                        ("a\nb.h5", "file not found")],
)  # fmt: skip
def test_what_is_no_file_is_one_line(path, words):
    with pytest.raises((InputError, TrajectoryError), match=words) as caught:
        wgflow.Trajectory(path)
    assert len(str(caught.value).splitlines()) == 1


def test_a_new_file_takes_no_longer_among_many_unless_a_writer_was_killed(run, monkeypatch):
    create, _, path, _ = run
    swept, sweep = [], writer_module.remove_drafts
    monkeypatch.setattr(writer_module, "remove_drafts", lambda place: (swept.append(place), sweep(place)))
    create().close()
    assert not swept
    draft, lock = path.with_name(f".{path.name}.4711.new"), path.with_name(f".{path.name}.lock")
    draft.write_bytes(b"half a file")
    lock.touch()  # as the writer of the draft leaves it
    create().close()
    assert swept == [path]
    assert not draft.exists()
    assert not lock.exists()
