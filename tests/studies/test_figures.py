import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import pytest

from wgflow.base.errors import InputError
from wgflow.report import style
from wgflow.sims import run
from wgflow.studies.registry import figures
from wgflow.study.workspace import Workspace

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One short run of each bundled study, drawn by the runner."""
    place = tmp_path_factory.mktemp("runs")
    small = ["--out", str(place), "--quiet", "--set", "flow.until=2.0", "--set", "grid.seed=[0]"]
    assert run.main(["quickstart", *small, "--set", "grid.particles.count=[4, 8]"]) == 0
    assert run.main(["order_switching", *small, "--set", "grid.particles.count=[8, 32]"]) == 0
    return {path.parent.name: path for path in place.glob("*/[0-9a-f]*")}


@pytest.mark.parametrize(("study", "figure"), [("quickstart", "loss_and_particles"), ("order_switching", "switching")])
def test_the_command_redraws_the_runners_figure_from_trajectories_alone(runs, study, figure, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(runs[study], bare, ignore=shutil.ignore_patterns("*.png", "*.pdf", "summary.*", "events.jsonl"))
    subprocess.run([sys.executable, "-m", "wgflow", "figure", figure, str(bare)], check=True, capture_output=True)
    for suffix in ("png", "pdf"):
        assert (bare / f"{figure}.{suffix}").read_bytes() == (runs[study] / f"{figure}.{suffix}").read_bytes()


def test_settings_of_matplotlib_are_left_alone(runs):
    before = dict(mpl.rcParams)
    figure = style.draw_styled(figures()["loss_and_particles"](Workspace(runs["quickstart"])))
    style.svg(figure)
    assert dict(mpl.rcParams) == before


def test_a_users_settings_change_no_figure(runs, tmp_path):
    settings = {"text.usetex": True, "font.size": 30, "savefig.format": "jpg", "savefig.dpi": 10, "axes.grid": False}
    with mpl.rc_context(settings | {"font.family": "Nosuch", "figure.constrained_layout.use": False}):
        figure = style.draw_styled(figures()["loss_and_particles"](Workspace(runs["quickstart"])))
        names = style.save(figure, tmp_path / "loss_and_particles")
    for name in names:
        assert (tmp_path / name).read_bytes() == (runs["quickstart"] / name).read_bytes()


@pytest.mark.parametrize(
    "text", ["$", "a$b$", "$\\nosuch{$", "x_1^{", "\\$", "a\x00\x1b\n", "\udcff", "書", "_x", "%s {0}"]
)
def test_text_of_others_is_no_formula(text, tmp_path):
    figure, (axes,) = style.panels(1)
    axes.set_title(f"{style.literal(text)}: $E$ falls")
    style.save(figure, tmp_path / "a")
    assert "<svg" in style.svg(figure)


def test_jumps_are_summarised(runs):
    header = (runs["order_switching"] / "summary.csv").read_text().splitlines()[0]
    assert "jumps,jumps_up,jump_sum,jump_sum_up" in header


def test_a_run_without_switches_is_refused(runs):
    with pytest.raises(InputError, match="expected a frame at every step"):
        figures()["switching"](Workspace(runs["quickstart"]))
