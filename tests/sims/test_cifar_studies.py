"""Training runs of image networks as members of studies."""

import csv
import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import wgflow  # noqa: E402
from wgflow.base.errors import InputError, StudyError  # noqa: E402
from wgflow.base.extras import install  # noqa: E402
from wgflow.cli.runs import report  # noqa: E402
from wgflow.model.particles import BOUNDARIES, TAU_LAWS  # noqa: E402
from wgflow.report.figure import Plan  # noqa: E402
from wgflow.sims import run  # noqa: E402
from wgflow.sims.bundled import studies_folder, study_path  # noqa: E402
from wgflow.stats.paired_test import conclusion, paired_test  # noqa: E402
from wgflow.studies.cifar import reduce  # noqa: E402
from wgflow.studies.cifar.figure import paired  # noqa: E402
from wgflow.study import (  # noqa: E402
    grid,
    schema,
    training_tables,
)
from wgflow.study.workspace import Workspace  # noqa: E402
from wgflow.systems import members  # noqa: E402
from wgflow.systems.images import (  # noqa: E402
    architectures,
    augment,
    checkpoint,
    training,
)
from wgflow.systems.images.members import check  # noqa: E402
from wgflow.trajectory import TrajectoryWriter  # noqa: E402

STUDY = """
name = "pics"
figure = "cifar"
observables = ["heldout", "test_error", "train_error", "epoch_loss", "epoch_switches", "rate"]
[problem]
name = "digit_images"
train = 96
test = 40
[training]
network = "resnet_digits"
batch = 32
lr = 0.05
padding = 1
flip = false
columns = 4
[flow]
step = 1.0
until = 2.0
every = 1.0
[grid]
"training.method" = ["vanilla", "mean_field"]
seed = [0, 1]
"""
ALONE = ["--quiet", "--jobs", "1", "--threads", "1"]
BUNDLED = sorted(path.stem for path in studies_folder().glob("*.toml") if "[training]" in path.read_text())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pics.toml").write_text(STUDY)
    return tmp_path


def of(folder, out="runs"):
    (found,) = (folder / out / "pics").glob("[0-9a-f]*")
    return found


def content(path):
    with wgflow.Trajectory(path) as trajectory:
        frames = [(f.step, f.s, f.theta.tobytes(), f.tau.tobytes(), f.energy, f.switches) for f in trajectory]
        return frames, {name: trajectory.series(name).tobytes() for name in trajectory.observables}


def files(folder, out="runs"):
    return {path.name: content(path) for path in sorted(of(folder, out).glob("members/*.h5"))}


def test_files_of_a_training_that_go_or_are_another_s(folder, monkeypatch, capsys):
    one = ["--set", "training.method=mean_field", "--set", "figure=none", "--set", "flow.until=1.0"]
    command, append = ["pics.toml", *ALONE, *one], TrajectoryWriter.append
    with monkeypatch.context() as patch:

        def attacked(self, frame):
            append(self, frame)
            if self.frames == 2:
                self.path.unlink()

        patch.setattr(TrajectoryWriter, "append", attacked)
        assert run.main(command) == run.DISK
    assert "seed-0.h5: removed while it was written" in capsys.readouterr().err
    assert run.main(command) == 0
    paths = [of(folder) / f"members/seed-{seed}.checkpoint" for seed in (0, 1)]
    with wgflow.Trajectory(paths[0].with_suffix(".h5")) as trajectory:
        documents, first, names = trajectory.parameters, trajectory[0], trajectory.observables
    setup = members.build(schema.Member.model_validate(documents["study"]), "cpu", 1)
    shapes = dict.fromkeys(set(names) - {"energy", "dissipation", "switches", "step_length"}, ())
    rest = {name: documents[name] for name in ("flow", "study", "provenance")}
    with TrajectoryWriter.create(
        paths[0].with_suffix(".h5"), setup.energy, len(setup.energy), observables=shapes, **rest
    ) as writer:
        writer.append(first)
    shutil.copy(paths[1], paths[0])
    capsys.readouterr()
    assert run.main(command) == run.BAD_INPUT
    assert "seed-0.checkpoint: checkpoint: expected one of this training, got one of another" in capsys.readouterr().err
    paths[0].unlink()
    assert run.main(command) == 0


def table(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def planned(text=STUDY, **overrides):
    path = Path("x.toml")
    path.write_text(text)
    return grid.expand(schema.load(path, {key.replace("__", "."): value for key, value in overrides.items()})[0])


def test_a_study_runs_to_its_page_and_its_table(folder, capsys):
    assert run.main(["pics.toml", "--jobs", "1", "--threads", "1"]) == 0
    told = capsys.readouterr().out
    assert "without a spread over pairs nothing is said of the difference" in " ".join(told.split())  # one pair
    place = of(folder)
    page = (place / "report.html").read_text()
    assert "Test error in %, vanilla beside mean-field" in page
    (row,) = table(place / "cifar.csv")
    summary = json.loads((place / "summary.json").read_text())
    assert "torch" in summary["provenance"]["packages"]
    errors = {}
    for path in place.glob("members/*.h5"):
        with wgflow.Trajectory(path) as trajectory:
            told = trajectory.parameters["study"]
            errors[told["training"]["method"], told["seed"]] = 100 * trajectory[-1].observables["test_error"]
            assert len(trajectory) == 3
            assert trajectory.particles == 9
            assert trajectory.parameters["energy"]["images"] == {
                "name": "digit_images",
                "train": 96,
                "test": 40,
                "verified": True,
                "sha256": trajectory.parameters["energy"]["images"]["sha256"],
            }
            with pytest.raises(InputError, match="got a training run of an image network"):
                trajectory.energy()
    for method in ("vanilla", "mean_field"):
        pair = [errors[method, seed] for seed in (0, 1)]
        assert float(row[method]) == pytest.approx(np.mean(pair))
        assert float(row[f"{method}_sd"]) == pytest.approx(np.std(pair, ddof=1))
    assert row["paper_vanilla"] == ""
    depths = table(place / "cifar_depths.csv")
    assert sum(int(each["last"]) for each in depths) == sum(int(each["first"]) for each in depths) == 2 * 9
    assert {each["stage"] for each in depths} == {"1", "2"}
    assert report([str(place), "--quiet"]) == 2  # theorems are about measures whose energy is known
    assert "got a training run of an image network" in capsys.readouterr().err


def test_processes_and_threads_give_the_same_numbers_and_a_second_run_does_nothing(folder):
    options = ["pics.toml", "--set", "figure=none", "--set", "flow.until=1"]
    assert run.main([*options, *ALONE]) == 0
    assert run.main([*options, "--quiet", "--jobs", "2", "--threads", "2", "--out", "two"]) == 0
    assert files(folder) == files(folder, "two")
    before = {path: path.stat().st_mtime_ns for path in of(folder).glob("members/*")}
    assert run.main(["pics.toml", *ALONE, "--set", "figure=none", "--set", "flow.until=1"]) == 0
    assert {path: path.stat().st_mtime_ns for path in of(folder).glob("members/*")} == before


def test_a_study_killed_on_its_way_ends_with_the_numbers_of_one_left_alone(folder, struck):
    options = [*ALONE, "--set", "figure=none", "--set", "flow.until=5", "--set", "grid.seed=[0]"]
    assert run.main(["pics.toml", *options, "--out", "whole"]) == 0
    for number, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, run.REQUEUE)):
        assert struck(number, 2, "pics.toml", *options, "--jobs", "1").wait() == code
    assert run.main(["pics.toml", *options]) == 0
    assert files(folder) == files(folder, "whole")
    weights = [checkpoint.load(next(of(folder, out).glob("members/*vanilla*.checkpoint"))) for out in ("runs", "whole")]
    assert all(torch.equal(tensor, weights[1]["model"][name]) for name, tensor in weights[0]["model"].items())


def test_a_trajectory_that_lost_its_checkpoint_or_its_end_is_made_again(folder):
    options = [*ALONE, "--set", "figure=none", "--set", "grid.seed=[0]"]
    assert run.main(["pics.toml", *options]) == 0
    before = files(folder)
    for path in of(folder).glob("members/*.h5"):
        path.unlink()
    assert run.main(["pics.toml", *options]) == 0  # a checkpoint without frames is no start
    assert files(folder) == before
    (damaged,) = of(folder).glob("members/*vanilla*.checkpoint")
    damaged.write_bytes(damaged.read_bytes()[:-9])
    assert run.main(["pics.toml", *options]) == 0  # nobody looks at it: all members are at their end


def test_threads_of_torch_are_the_studys(folder, capsys, monkeypatch):
    """Its sums depend on them, so they count as other results do; who asks for others is told."""
    options = ["pics.toml", "--jobs", "1", "--set", "figure=none", "--set", "flow.until=1", "--set", "grid.seed=[0]"]
    used = []
    step = training.Trainer._step
    monkeypatch.setattr(training.Trainer, "_step", lambda *given: used.append(torch.get_num_threads()) or step(*given))
    assert run.main([*options, "--threads", "3"]) == 0
    told = "--threads 3 has no effect on training runs: training.threads = 1 is part of the study"
    assert told in capsys.readouterr().out
    (place,) = folder.glob("runs/pics/[0-9a-f]*")
    (one, _) = files(folder).items()
    with wgflow.Trajectory(place / "members" / one[0]) as trajectory:
        assert trajectory.parameters["provenance"]["threads"] == 1
        assert trajectory.parameters["energy"]["training"]["threads"] == 1
    assert run.main([*options, "--quiet", "--set", "training.threads=2", "--set", "training.method=vanilla"]) == 0
    assert set(used[:6]) == {1}
    assert set(used[6:]) == {2}
    assert len(list(folder.glob("runs/pics/[0-9a-f]*"))) == 2


def test_a_training_without_its_checkpoint_says_that_it_begins_again(folder, capsys):
    options = ["pics.toml", *ALONE, "--set", "figure=none", "--set", "grid.seed=[0]"]
    assert run.main(options) == 0
    before = files(folder)
    assert run.main([*options, "--walltime", "0", "--out", "part"]) == run.REQUEUE
    assert run.main([*options, "--walltime", "0", "--out", "part"]) == run.REQUEUE
    (path,) = folder.glob("part/pics/[0-9a-f]*/members/*.h5")
    path.with_suffix(".checkpoint").unlink()
    capsys.readouterr()
    assert run.main([*options, "--out", "part"]) == 0
    assert capsys.readouterr().err == (
        f"wgflow: {path.relative_to(folder)}: has epochs up to 1 and no checkpoint to go on from; it is trained again "
        "from the start\n"
    )
    assert files(folder, "part") == before


def test_a_divergence_keeps_what_there_was(folder, capsys):
    options = [*ALONE, "--set", "training.lr=1e20", "--set", "grid.seed=[0]", "--set", "figure=none"]
    assert run.main(["pics.toml", *options]) == run.DIVERGED
    assert "the network diverged in epoch 1" in capsys.readouterr().err
    assert [len(frames) for frames, _ in files(folder).values()] == [1, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("training.network=resnet21", "unknown architecture 'resnet21'"),
        ("training.batch=97", r"training\.batch: expected at most the 96 images, got 97"),
        ("training.lr=0.0", r"training\.lr: expected a number greater than 0"),
        ("training.nesterov=1", r"training\.nesterov: expected a valid boolean"),
        ("training.milestones=[5, 5]", "milestones: expected increasing epochs"),
        ("training.rate=1", r"training\.rate: unknown key"),
        ("flow.step=0.5", r"flow\.step: expected 1, an epoch"),
        ("flow.until=1.5", "whole number of steps"),
        ("flow.boundary=reflect", r"flow\.boundary: a training run of an image network has no use for it"),
        ("particles.count=5", r"particles\.count: a training run of an image network has no use for it"),
        ("dtype=float32", "dtype: a training run of an image network has no use for it"),
        ("record=numbers", "record: expected 'particles'"),
        ("problem.train=5000", r"problem: train: expected at most the 1348 images"),
        ("problem={name='diabetes'}", r"problem\.name: expected one of cifar10, cifar100, digit_images"),
        ("problem={name='cifar10'}", r"problem\.path: expected where cifar10 lies, got none; get cifar-10-binary"),
        ("problem={name='cifar10', path='no'}", "expected data files of CIFAR, got none there; get cifar-10-binary"),
        ("grid.seed=[0]", "the same two seeds or more"),
        ("figure=switching", "expected residual blocks to draw 'switching', got training runs of image networks"),
        ("observables=['outputs']", "unknown observable 'outputs'"),
    ],
)
def test_bad_input_is_one_clear_line_and_nothing_is_written(folder, capsys, change, message):
    assert run.main(["pics.toml", *ALONE, "--set", change]) == run.BAD_INPUT
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("wgflow: ")
    assert re.search(message, lines[0]), lines[0]
    assert not (folder / "runs").exists()


def test_images_without_a_training_and_figures_of_others_are_refused(folder, capsys):
    del folder
    text = STUDY.split("[training]")[0] + "[flow]\nuntil = 1.0\n"
    Path("y.toml").write_text(text)
    assert run.main(["y.toml", "--set", "figure=none"]) == run.BAD_INPUT
    assert "training: expected a table of it beside images 'digit_images', got none" in capsys.readouterr().err
    assert run.main(["quickstart", "--set", "figure=cifar"]) == run.BAD_INPUT
    assert "training: expected members with one to draw 'cifar'" in capsys.readouterr().err
    assert run.main(["pics.toml", "--backend", "reference"]) == run.BAD_INPUT
    assert "expected auto, cpu or gpu" in capsys.readouterr().err


def test_without_torch_it_is_one_clear_line(folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in ("pics.toml", "cifar10_resnet20"):
        assert run.main([name, "--quiet"]) == run.BAD_INPUT
        assert capsys.readouterr().err == (
            f"wgflow: training: expected torch, got no such package; the study needs torch: {install('cifar')}\n"
        )
    assert not (folder / "runs").exists()


def test_other_studies_never_import_torch():
    script = (
        "import sys\nfrom pathlib import Path\nfrom wgflow.sims import bundled, trial\nfrom wgflow.study import grid\n"
        "from wgflow.study import schema\n"
        "s = schema.load(bundled.study_path('quickstart'), {})[0]\n"
        "trial.each(grid.expand(s), 'cpu', 1, lambda one, setup: 0)\nprint('torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "False"


def test_a_dry_run_says_how_long_it_takes_and_writes_nothing(folder, capsys):
    assert run.main(["pics.toml", "--dry-run", "--jobs", "1", "--threads", "1"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "4 members, 1 thread each: about" in out
    assert "method=vanilla, seed=0 9 2 3" in out  # N, epochs, frames
    assert not (folder / "runs").exists()


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_studies_are_whole(name, tmp_path):
    (tmp_path / "cifar-10-batches-bin").mkdir()
    (tmp_path / "cifar-10-batches-bin" / "test_batch.bin").write_bytes(b"")
    for each in ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"):
        (tmp_path / "cifar-10-batches-bin" / f"{each}.bin").write_bytes(b"")
    overrides = {} if name == "digits_resnet" else {"problem.path": str(tmp_path)}
    found = grid.expand(schema.load(study_path(name), overrides)[0])
    paired(Plan("cifar", found))
    for each in found:
        table, problem = check(each.member)
        assert table.network in architectures.ARCHITECTURES
        assert len(each.member.observables) == 6
        of_table = {"cifar10": ("resnet", 160.0), "cifar100": ("resnext29", 300.0)}.get(problem.name)
        if of_table and name != "cifar10_few":
            assert table.network.startswith(of_table[0])
            assert each.member.flow.until == of_table[1]
            assert (problem.name, table.network) in reduce.PUBLISHED
            assert table.milestones == ([80, 120] if problem.name == "cifar10" else [150, 225])
    if name == "cifar_table":
        told = {(each.member.problem.name, each.member.training.network) for each in found}
        assert told == set(reduce.PUBLISHED)


def test_the_data_of_a_study_is_known_by_content_not_by_place(folder):
    texts = []
    for k, byte in enumerate((0, 0, 1)):
        place = folder / f"data{k}" / "cifar-10-batches-bin"
        place.mkdir(parents=True)
        for name in (*(f"data_batch_{j}.bin" for j in range(1, 6)), "test_batch.bin"):
            (place / name).write_bytes(bytes([byte]))
        path = folder / "x.toml"
        path.write_text(STUDY.replace('name = "digit_images"', f'name = "cifar10"\npath = "data{k}"'))
        texts.append(schema.load(path, {})[1])
    assert texts[0] == texts[1]
    assert texts[0]["problem"]["path"] != texts[2]["problem"]["path"]


def test_a_re_encoded_copy_is_said_in_words(folder):
    assert run.main(["pics.toml", *ALONE, "--set", "figure=none", "--set", "flow.until=1"]) == 0
    (found,) = reduce.comparisons(Workspace(of(folder)))
    assert "re-encoded" not in reduce.sentence(found)
    (row,) = reduce.rows([found])
    assert row["verified"] == "yes"
    other = found._replace(verified=False, images="cifar10", network="resnet20", train=50_000)
    assert reduce.published(other._replace(train=4000)) is None
    assert reduce.sentence(other).endswith(
        "the paper has 8.75 and 8.19. The images are a re-encoded copy, not the published files."
    )
    (row,) = reduce.rows([other])
    assert (row["verified"], row["paper_vanilla"], row["paper_mean_field"]) == ("no, re-encoded", 8.75, 8.19)


def test_comparisons_pair_by_seed_and_tell_variants_apart(folder):
    text = STUDY + '\n[[also]]\ntraining.method = "mean_field"\ntraining.tau_rate = 5.0\n'
    (folder / "pics.toml").write_text(text)
    assert run.main(["pics.toml", *ALONE, "--set", "figure=none", "--set", "flow.until=1"]) == 0
    found = reduce.comparisons(Workspace(of(folder)))
    assert [each.variant for each in found] == ["tau_rate = 1.0", "tau_rate = 5.0"]
    assert all(each.seeds == (0, 1) for each in found)
    np.testing.assert_array_equal(found[0].vanilla, found[1].vanilla)
    for path in of(folder).glob("members/*vanilla*seed-1*.h5"):
        path.unlink()
    assert [each.seeds for each in reduce.comparisons(Workspace(of(folder)))] == [(0,), (0,)]
    for path in of(folder).glob("members/*vanilla*.h5"):
        path.unlink()
    with pytest.raises(InputError, match="expected a seed whose two trainings came to their end"):
        reduce.comparisons(Workspace(of(folder)))


def test_switches_between_frames_are_all_counted(folder):
    fast = [
        "training.tau_rate=200.0",
        "training.ends=reflect",
        "training.tau=uniform",
        "flow.until=4",
        "flow.every=2",
        "grid.seed=[0, 1]",
    ]
    options = [*ALONE, "--set", "figure=none", *(part for each in fast for part in ("--set", each))]
    assert run.main(["pics.toml", *options]) == 0
    (found,) = reduce.comparisons(Workspace(of(folder)))
    for path, row in zip(found.paths, found.switches, strict=True):
        with wgflow.Trajectory(path) as trajectory:
            assert row.tolist() == np.diff([0, *(frame.switches for frame in trajectory)]).tolist()
            assert row[0] == 0
            last = sum(frame.observables["epoch_switches"] for frame in trajectory)  # of every second epoch alone
            assert row.sum() > last > 0


def test_pairs_against_numbers_worked_out_by_hand():
    found = paired_test([8.0, 9.0, 10.0], [7.0, 8.5, 8.5])  # differences -1, -0.5, -1.5: mean -1, sd 0.5
    assert found.difference == pytest.approx(-1)
    half = 4.302652729911275 * 0.5 / np.sqrt(3)  # Student's t, 97.5%, two degrees of freedom
    assert (found.low, found.high) == pytest.approx((-1 - half, -1 + half))
    assert found.p_signs == found.p_least == 0.25  # three pairs cannot show more
    assert (found.lower, found.higher, found.equal) == (3, 0, 0)
    assert [each.sentence for each in conclusion(found)] == ["the difference is not significant"]
    tight = paired_test([8.0, 9.0, 10.0], [7.0, 8.01, 8.99])
    assert tight.high < 0
    assert [each.holds for each in conclusion(tight)] == [True, False]
    six = paired_test([0.0] * 6, [1.0, 1.1, 0.9, 1.05, 1.0, 0.95])
    assert six.p_signs == 2 / 2**6
    assert conclusion(six)[0].sentence == "vanilla is lower"
    # differences 1, 2, -3: |sums| over the 8 choices of signs are 6, 6, 4, 4, 2, 2, 0, 0; the one seen is 0
    assert paired_test([0, 0, 0], [1, 2, -3]).p_signs == 1.0
    assert paired_test([0, 0, 0], [1, 2, 3]).p_signs == 0.25
    assert paired_test([0, 0, 0], [1, -2, 3]).p_signs == 0.75  # 2 or more: all but the two zeros
    alone = paired_test([1.0], [0.0])
    assert (alone.low, alone.high, alone.p_signs) == (-np.inf, np.inf, 1.0)
    with pytest.raises(InputError, match="expected equally many numbers on both sides"):
        paired_test([1.0], [])


def test_the_p_value_of_signs_is_exact_under_no_effect():
    """P(p <= 0.1) is at most 0.1 for symmetric differences; seen in 2000 draws, 5 sd above which is once in 3
    million."""
    draws = wgflow.base.rng.normal(0, "pairs under no effect", (2000, 6))
    hits = np.mean([paired_test(np.zeros(6), each).p_signs <= 0.1 for each in draws])
    exact = 6 / 64  # the share of choices that a p-value of 0.1 allows
    assert abs(hits - exact) < 5 * np.sqrt(exact * (1 - exact) / 2000)
    many = paired_test(np.zeros(20), np.full(20, 0.5) + draws[:20, 0])  # signs drawn, not enumerated
    assert many.p_least == 1 / (2**14 + 1)
    assert paired_test(np.zeros(20), np.ones(20)).p_signs == pytest.approx(1 / (2**14 + 1))


def test_keys_of_a_training_are_what_networks_and_figures_take():
    fields = training_tables.TrainingTable.model_fields
    for name, known in (("outside", augment.MODES), ("ends", BOUNDARIES), ("tau", TAU_LAWS)):
        assert set(fields[name].annotation.__args__) == set(known), name
    assert set(reduce.OWN) < set(fields)
    assert {network for _, network in reduce.PUBLISHED} <= set(architectures.ARCHITECTURES)


def test_unknown_tables_and_keys_of_images(folder):
    del folder
    with pytest.raises(StudyError, match=r"problem\.heldout: unknown key"):
        planned(problem__heldout=0.5)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("training.axes=9", "training.axes: expected at most the"),
        ("training.padding=8", "training.padding: expected less than the images' 8 pixels, got 8"),
    ],
)
def test_what_some_members_cannot_have_is_said_before_any_is_trained(folder, capsys, key, words):
    Path("z.toml").write_text(STUDY)
    assert run.main(["z.toml", "--set", key]) == run.BAD_INPUT
    assert words in capsys.readouterr().err
    assert not Path("runs").exists()
