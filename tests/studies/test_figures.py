import re
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest

from wgflow.base.errors import InputError
from wgflow.report import style
from wgflow.sims import run
from wgflow.studies.loss_and_particles import figure as losses
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


def test_losses_of_many_runs_are_one_artist_a_size_within_the_same_axes(runs, monkeypatch):
    def drawn(most):
        monkeypatch.setattr(losses, "_LINES", most)
        left = style.draw_styled(figures()["loss_and_particles"](Workspace(runs["quickstart"]))).axes[0]
        curves = [path for artist in left.collections for path in artist.get_paths()]
        return [line.get_xydata() for line in left.lines], [path.vertices for path in curves], left.axis()

    lines, none, limits = drawn(64)
    some, curves, same = drawn(1)  # of two sizes, each with a loss and a held-out loss
    assert (len(lines), len(none), len(some), len(curves)) == (4, 0, 2, 2)
    assert same == limits
    assert all(map(np.array_equal, lines, some + curves))


def test_settings_of_matplotlib_are_left_alone(runs):
    before = dict(mpl.rcParams)
    figure = style.draw_styled(figures()["loss_and_particles"](Workspace(runs["quickstart"])))
    style.svg(figure)
    assert dict(mpl.rcParams) == before


def test_a_narrow_page_has_the_panels_in_one_column(runs):
    """As wide as a panel, with all of them, and with names of its own, since both are in one page."""
    result = figures()["switching"](Workspace(runs["order_switching"]))
    drawn = style.draw_styled(result)
    wide, narrow = style.for_page(result, drawn)
    width = {name: float(re.search(r'width="([\d.]+)pt"', text)[1]) for name, text in (("w", wide), ("n", narrow))}
    assert width["w"] == pytest.approx(3 * 4.9 * 72)
    assert width["n"] == pytest.approx(4.4 * 72)
    one = style.draw_styled(result, narrow=True)
    assert [axes.get_gridspec().ncols for axes in one.axes] == [1] * len(drawn.axes)
    titles = [[axes.get_title(loc="left").replace("\n", " ") for axes in each.axes] for each in (one, drawn)]
    assert titles[0] == titles[1]
    clips = [set(re.findall(r'<clipPath id="(\w+)"', text)) for text in (wide, narrow)]
    assert all(clips)
    assert not clips[0] & clips[1]
    page = (runs["order_switching"] / "report.html").read_text()
    assert page.count('<div class="on-wide">') == page.count('<div class="on-narrow">') == 1


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
