"""The backend of a run: asked for or chosen, said at its head, recorded with the device, and never mixed unasked."""

import pytest

import wgflow
from wgflow.kernels import auto
from wgflow.kernels import select as kernels
from wgflow.kernels.gpu import device, diagnose
from wgflow.kernels.reference import Reference
from wgflow.sims import pool, run
from wgflow.sims.bundled import study_path
from wgflow.study import grid
from wgflow.systems import residual

STUDY = """
name = "small"
figure = "none"
[problem]
name = "sine"
samples = 20
[particles]
count = 3
[flow]
until = 1.0
step = 0.1
[grid]
seed = [0, 1]
"""


class Card:
    name = "Testing GPU"


class StandIn(Reference):
    """The definition, called a GPU."""

    name, device = "gpu", Card()


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.toml").write_text(STUDY)
    return "small.toml"


@pytest.fixture
def with_gpu(monkeypatch):
    """A machine with a GPU that works, and whatever name the test gives it."""

    def select(backend, problem, *rest):
        return StandIn(problem) if backend == "gpu" else kernels.select(backend, problem, *rest)

    monkeypatch.setattr("wgflow.energy.select", select)
    monkeypatch.setattr(
        "wgflow.systems.residual.choose_backend",
        lambda problems: auto.Choice("gpu", f"Testing GPU, {len(list(problems))}"),
    )
    monkeypatch.setattr(Card, "name", "Testing GPU")


def recorded(tmp_path):
    files = sorted(tmp_path.glob("runs/small/[0-9a-f]*/members/*.h5"))
    assert len(files) == 2
    with wgflow.Trajectory(files[0]) as trajectory:
        return trajectory.parameters["provenance"]


def test_head_of_a_run_says_what_auto_took_and_why(study, tmp_path, capsys, with_gpu):
    assert run.main([study, "--set", "figure=loss_and_particles"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "backend gpu: Testing GPU, 1"
    made_by = recorded(tmp_path)
    assert (made_by["backend"], made_by["device"]) == ("gpu", "Testing GPU")
    page = next(tmp_path.glob("runs/small/[0-9a-f]*/report.html")).read_text()
    assert "gpu, Testing GPU, " in page
    assert run.main([study, "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines()[0].startswith("backend gpu: ")


def test_small_studies_stay_on_the_cpu(study, tmp_path, capsys):
    assert run.main([study]) == 0
    assert capsys.readouterr().out.splitlines()[0].startswith("backend cpu: ")
    made_by = recorded(tmp_path)
    assert made_by["backend"] == "cpu"
    assert "device" not in made_by


@pytest.mark.parametrize("arguments", [["--quiet"], ["--backend", "cpu"]])
def test_nothing_is_said_of_what_was_asked_for(study, capsys, arguments):
    assert run.main([study, *arguments]) == 0
    assert "backend" not in capsys.readouterr().out


def test_another_device_is_refused_unless_mixed(study, capsys, with_gpu, monkeypatch):
    assert run.main([study, "--quiet"]) == 0
    assert run.main([study, "--quiet"]) == 0  # the same one goes on
    monkeypatch.setattr(Card, "name", "Another GPU")
    assert run.main([study, "--quiet"]) == run.BAD_INPUT
    assert "made on a device 'Testing GPU', now 'Another GPU'" in capsys.readouterr().err
    assert run.main([study, "--quiet", "--mixed"]) == 0
    assert run.main([study, "--quiet", "--backend", "cpu"]) == run.BAD_INPUT
    assert "made by backend 'gpu', now 'cpu'" in capsys.readouterr().err


def test_gpu_that_cannot_be_used_is_one_line_and_nothing_is_written(study, tmp_path, capsys, monkeypatch):
    def none():
        raise diagnose.Fault("the driver shows no CUDA device; check nvidia-smi")

    monkeypatch.setattr(device, "current", none)
    assert run.main([study, "--backend", "gpu"]) == run.BAD_INPUT
    out, err = capsys.readouterr()
    assert out == ""
    assert err == ("wgflow: backend 'gpu': the driver shows no CUDA device; check nvidia-smi; or use --backend cpu\n")
    assert not (tmp_path / "runs").exists()


def test_broken_gpu_under_auto_is_said_and_the_cpu_used(tmp_path, study, capsys, monkeypatch):
    monkeypatch.setattr(
        "wgflow.systems.residual.choose_backend",
        lambda problems: auto.Choice("cpu", "NVRTC was not found", broken=True),
    )
    assert run.main([study]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "backend cpu: NVRTC was not found"


def test_members_on_one_device_run_one_after_another(study, with_gpu, monkeypatch):
    asked = []
    real = pool.split_cores
    monkeypatch.setattr(pool, "split_cores", lambda *args: asked.append(args[2]) or real(*args))
    assert run.main([study, "--dry-run"]) == 0
    assert run.main([study, "--dry-run", "--jobs", "2"]) == 0
    assert run.main([study, "--dry-run", "--backend", "cpu"]) == 0
    assert asked == [1, 2, None]


def test_largest_member_decides_for_all(study, monkeypatch):
    from wgflow.sims import preparation
    from wgflow.study.schema import load

    made, _ = load(study_path(study), {"grid": {"problem.samples": [10, 50]}})
    planned = grid.expand(made)
    looked_at = []
    monkeypatch.setattr(
        residual, "choose_backend", lambda problems: looked_at.extend(problems) or auto.Choice("cpu", "x")
    )
    preparation.choose_backend(planned, "auto")
    assert sorted(problem.shape[0] for problem, _ in looked_at) == [10, 50]
    assert {dtype for _, dtype in looked_at} == {"float64"}
    assert preparation.choose_backend(planned, "gpu") == ("gpu", "", False)
