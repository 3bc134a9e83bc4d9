"""The registry finds what lies in the folders of studies, and nothing else needs to know of it."""

import subprocess
import sys
import tomllib

import pytest

import wgflow
from wgflow import studies
from wgflow.cli import main as cli
from wgflow.sims import run
from wgflow.sims.bundled import studies_folder
from wgflow.studies.registry import figures

TOY = """
from matplotlib.figure import Figure
from wgflow.report import style
from wgflow.report.figure import Result, TableText, figure
from wgflow.studies.requirements import varies
from wgflow.trajectory import Trajectory

def last_energies(work):
    found = []
    for path in work.trajectories():
        with Trajectory(path) as trajectory:
            found.append(float(trajectory.series("energy")[-1]))
    return found

def words(rows):
    return [{"E at the end": row["energy"]} for row in rows]

@figure("toy", last_energies, needs=(varies("seed"),), tables={"toy": TableText("Energies of the toy", words)})
def toy(energies):
    def draw():
        drawing, (axes,) = style.panels(1)
        axes.plot(energies)
        return drawing

    rows = [{"energy": energy} for energy in energies]
    return Result(f"{len(energies)} toys.", "Toys.", draw, {"toy": rows})
"""
STUDY = """
name = "toy"
figure = "toy"
[problem]
name = "sine"
samples = 8
[particles]
count = 4
[flow]
until = 0.2
step = 0.1
[grid]
seed = [0, 1]
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A study of one folder and one file."""
    (tmp_path / "toy_study").mkdir()
    (tmp_path / "toy_study" / "__init__.py").write_text('"""A toy."""\n')
    (tmp_path / "toy_study" / "figure.py").write_text(TOY)
    (tmp_path / "toy.toml").write_text(STUDY)
    monkeypatch.setattr(studies, "__path__", [*studies.__path__, str(tmp_path)])
    figures.cache_clear()
    yield tmp_path / "toy.toml"
    figures.cache_clear()
    sys.modules.pop("wgflow.studies.toy_study.figure", None)


def test_a_study_is_one_folder_and_one_file(toy, tmp_path, capsys):
    assert run.main([str(toy), "--out", str(tmp_path / "runs"), "--quiet"]) == run.DONE
    (folder,) = (tmp_path / "runs" / "toy").glob("[0-9a-f]*")
    assert {"toy.png", "toy.pdf", "toy.csv"} <= {path.name for path in folder.iterdir()}
    assert "Energies of the toy" in (folder / "report.html").read_text()
    assert "2 toys." in (folder / "report.html").read_text()
    changes = ["--set", "grid={}", "--set", "seed=1"]
    assert run.main([str(toy), "--out", str(tmp_path / "runs"), *changes]) == run.BAD_INPUT
    assert "grid.seed: expected several values to draw 'toy'" in capsys.readouterr().err


def test_a_run_without_what_a_figure_requires_is_one_line(toy, tmp_path, capsys):
    out = ["--out", str(tmp_path / "runs"), "--quiet", "--set", "figure=none"]
    assert run.main([str(toy), *out, "--set", "grid={}"]) == run.DONE
    folder = tmp_path / "runs" / "toy" / "latest"
    for name, missing in [("toy", "grid.seed: expected several values"), ("escape", "grid.flow.ingredients: expected")]:
        assert cli.main(["figure", name, str(folder)]) == run.BAD_INPUT
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"wgflow: {missing}")
        assert "--set" not in line
        assert line.endswith("; run a study that has it, or draw another figure of this run")
    assert cli.main(["figure", "loss_and_particles", str(folder)]) == run.DONE


def test_a_figure_of_a_run_with_members_missing_is_drawn(toy, tmp_path):
    assert run.main([str(toy), "--out", str(tmp_path / "runs"), "--quiet", "--set", "figure=none"]) == run.DONE
    folder = tmp_path / "runs" / "toy" / "latest"
    next(folder.resolve().glob("members/*.h5")).unlink()
    assert cli.main(["figure", "toy", str(folder)]) == run.DONE
    assert (folder / "toy.png").is_file()


@pytest.mark.parametrize(
    ("command", "otherwise"), [("'figure', 'switching', 'runs'", False), ("'run', 'quickstart', '--dry-run'", True)]
)
def test_without_matplotlib_it_is_one_line(command, otherwise):
    code = (
        f"import sys; sys.modules['matplotlib'] = None; from wgflow.cli.main import main; sys.exit(main([{command}]))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == run.BAD_INPUT
    (line,) = found.stderr.splitlines()
    assert "figure: expected matplotlib, got no such package; pip install" in line
    assert ("--set figure=none" in line) == otherwise


def test_every_figure_of_a_study_file_is_there():
    named = set()
    for path in studies_folder().glob("*.toml"):
        names = tomllib.loads(path.read_text()).get("figure", [])
        named |= {names} if isinstance(names, str) else set(names)
    assert named <= set(figures())
    assert set(figures()) - named <= {"theorems"}  # which a command draws of any run


def test_folders_of_studies_are_looked_at_only_when_a_figure_is_asked_for():
    """Help, the list of studies and a study without figures need no Matplotlib, and reductions do not either."""
    modules = ["wgflow.sims.run", "wgflow.studies.registry", "wgflow.report.summary"]
    modules += [f"wgflow.studies.{name}.reduce" for name in ("sizing", "convergence", "depth_width", "cifar")]
    code = f"import sys, {', '.join(modules)}; sys.exit(any(name.startswith('matplotlib') for name in sys.modules))"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=wgflow.__path__[0] + "/..")
