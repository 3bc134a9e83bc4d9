"""The picture with a slider: its numbers are the particles', and in a real browser the slider moves them."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest

import wgflow
from wgflow.model.projections import principal_directions, projection_matrix
from wgflow.report import animation
from wgflow.report import page as report
from wgflow.trajectory import TrajectoryWriter

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PROBE = """<script>
addEventListener("load", () => {
  const figure = document.querySelector("figure.moving"), slider = figure.querySelector("input");
  const place = (dot) => [+dot.getAttribute("cx"), +dot.getAttribute("cy")];
  const look = () => [...figure.querySelectorAll("circle")].map(place);
  const seen = { start: look(), said: [figure.querySelector("output").textContent] };
  slider.value = slider.max;
  slider.dispatchEvent(new Event("input"));
  seen.end = look();
  seen.said.push(figure.querySelector("output").textContent);
  seen.trail = figure.querySelector("polyline:not(.loss)").getAttribute("points").split(" ").length;
  document.body.setAttribute("data-seen", JSON.stringify(seen));
});
</script>"""


@pytest.fixture
def trajectory(case, tmp_path):
    problem, rho = case(particles=6)
    energy = wgflow.Energy(problem)
    path = tmp_path / "run.h5"
    with TrajectoryWriter.create(path, energy, 6) as writer:
        for frame in wgflow.Flow(energy, step=0.1).run(rho, until=3.0):
            writer.append(frame)
    with wgflow.Trajectory(path) as found:
        yield found


def data(text):
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', text, re.S)[1])


def test_coordinates_are_those_of_the_particles(trajectory):
    found = data(animation.particle_animation(trajectory))
    frames = list(trajectory)
    onto = projection_matrix(
        ["tau", "pc1"], frames[0].theta.shape[1], lambda: principal_directions(f.theta for f in frames)
    )
    for name, column in (("x", 0), ("y", 1)):
        places = np.stack([np.column_stack([f.theta, f.tau]) @ onto[:, column] for f in frames])
        slope, offset = np.polyfit(places.ravel(), np.ravel(found[name]), 1)
        assert (slope > 0) == (name == "x")  # up is up
        np.testing.assert_allclose(slope * places + offset, found[name], atol=0.1)
    assert [float(s) for s in found["s"]] == pytest.approx(trajectory.series("s"), rel=1e-3)
    assert len(found["colour"]) == 6


def test_many_particles_and_frames_are_thinned_and_few_frames_are_nothing(tmp_path, rng):
    problem = wgflow.Problem.padded(rng.normal(size=(4, 1)), rng.normal(size=4))
    energy = wgflow.Energy(problem, "shallow")
    path = tmp_path / "run.h5"
    with TrajectoryWriter.create(path, energy, 700) as writer:
        for frame in wgflow.Flow(energy, step=0.1).run(wgflow.Particles.draw(problem, 700), until=20.0):
            writer.append(frame)
    with wgflow.Trajectory(path) as found:
        text = animation.particle_animation(found)
        assert np.shape(data(text)["x"]) == (120, 256)
        assert "256 of 700 particles in first principal component of θ and second" in text  # tau never moves here
        assert len(text) < 900_000
    with TrajectoryWriter.create(path, energy, 700) as writer:
        writer.append(frame)
    with wgflow.Trajectory(path) as found:
        assert animation.particle_animation(found) == ""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_in_a_browser_the_slider_moves_the_particles(trajectory, tmp_path):
    study = {"name": "probe", "question": "Does it move?"}
    made_by = {"command": "", "wgflow": "", "started": "", "packages": {}, "kernels": "", "backend": "", "threads": 1}
    text = report.build_page(
        study, [], [], {}, made_by | {"python": "", "machine": ""}, animation=animation.particle_animation(trajectory)
    )
    (tmp_path / "page.html").write_text(text.replace("</body>", f"{PROBE}</body>"), encoding="utf-8")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", f"file://{tmp_path / 'page.html'}"]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "CONSOLE" not in found.stderr
    seen = json.loads(re.search(r'data-seen="(.*?)"', found.stdout)[1].replace("&quot;", '"'))
    expected = data(text)
    for name, k in (("start", 0), ("end", -1)):
        np.testing.assert_array_equal(seen[name], np.column_stack([expected["x"][k], expected["y"][k]]))
    assert seen["start"] != seen["end"]
    assert seen["said"] == [f"s = {expected['s'][k]}, E = {expected['energy'][k]}" for k in (0, -1)]
    assert seen["trail"] > 2


@pytest.mark.parametrize("value", [0.0, 1e17, -1e99, 1e300, np.inf])
def test_constant_and_enormous_coordinates(value, tmp_path):
    problem = wgflow.Problem.padded(np.ones((2, 1)), np.ones(2))
    energy = wgflow.Energy(problem)
    path, count = tmp_path / "run.h5", problem.shape[3]
    with TrajectoryWriter.create(path, energy, 1) as writer:
        for step in range(3):
            theta = np.full((1, count), value)
            writer.append(wgflow.base.types.Frame(step, step / 1.0, theta, np.array([0.5]), np.ones(1), 1.0, 0.0))
    with wgflow.Trajectory(path) as found:
        text = animation.particle_animation(found)
    assert (text == "") == (abs(value) > 1e100)
    if text:
        assert "NaN" not in text
        assert "Infinity" not in text


def test_the_caption_says_that_masses_differ(trajectory, tmp_path):
    """Under Gaps masses of this run differ; of equal ones there is nothing to say."""
    said = "Particles of different mass are drawn alike."
    assert said in animation.particle_animation(trajectory)
    energy, frame = trajectory.energy(), trajectory[0]
    path = tmp_path / "equal.h5"
    with TrajectoryWriter.create(path, energy, 6) as writer:
        for each in wgflow.Flow(energy, step=0.1).run(wgflow.Particles(frame.theta, frame.tau), until=0.3):
            writer.append(each)
    with wgflow.Trajectory(path) as equal:
        assert said not in animation.particle_animation(equal)
