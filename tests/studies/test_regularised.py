"""The study of the decaying regulariser: what it computes from a run, and what it claims."""

import csv

import numpy as np
import pytest

from tests.verdict_checks import made_false, made_true
from wgflow.sims import run
from wgflow.studies.regularised.figure import Run, regularised, runs, verdicts
from wgflow.study.workspace import Workspace
from wgflow.trajectory import Trajectory

S = np.array([0.0, 1.0, 4.0, 20.0])


def made(kind="decaying", loss=(0.5, 0.3, 0.1, 0.001), moment=(4.0, 1.0, 2.0, 3.0), seed=0):
    strength, decay = {"none": (0.0, 1.0), "decaying": (1.0, 1.0), "constant": (0.01, 0.0)}[kind]
    loss, moment = np.array(loss), np.array(moment)
    return Run(kind, seed, strength, decay, S, loss + strength * np.exp(-decay * S) * moment, moment)


PLAIN = made("none", moment=(4.0, 4.5, 5.0, 6.0))


def test_claims_hold_and_fail():
    good = verdicts([PLAIN, made()])
    made_true(good, "second_moment_bound")
    made_true(good, "decaying_term_lowers_moments")
    made_true(good, "regulariser_fades")
    made_true(good, "loss_falls_to_share")
    made_false(verdicts([PLAIN, made(moment=(4.0, 1.0, 2.0, 900.0))]), "second_moment_bound")
    made_false(verdicts([PLAIN, made(moment=(4.0, 1.0, 2.0, 6.5))]), "decaying_term_lowers_moments")
    made_false(verdicts([PLAIN, made("constant")]), "regulariser_fades")
    made_false(verdicts([PLAIN, made(loss=(0.5, 0.3, 0.1, 0.01))]), "loss_falls_to_share")
    alone = {each.claim: each.holds for verdict in verdicts([made()]) for each in verdict.inequalities}
    assert alone["decaying_term_lowers_moments"] is None  # nothing to compare with


def test_a_run_whose_term_is_all_of_its_energy_has_not_vanished():
    """Its loss, E_s less the term, may be 0 or below by rounding: it was left out, and the others decided."""
    gone = made(loss=(0.5, 0.3, 0.1, 0.05), seed=1)
    for rest in (0.0, -1e-16):
        kept = made()._replace(decay=0.0, energy=np.array([5.0, 5.0, 5.0, 0.5 + rest]), moment=np.full(4, 0.5))
        made_false(verdicts([gone, kept]), "regulariser_fades")
    made_true(verdicts([gone]), "regulariser_fades")


def test_runs_are_those_of_the_trajectories(tmp_path):
    """The loss is that of the network without the term, and both energies are in balance."""
    small = ("problem.samples=20", "particles.per_layer=4", "flow.until=12.0", "grid.seed=[0]")
    changes = [part for one in small for part in ("--set", one)]
    assert run.main(["regularised", "--out", str(tmp_path), *changes]) == 0
    folder = (tmp_path / "regularised" / "latest").resolve()
    work = Workspace(folder)
    found = {each.kind: each for each in runs(work)}
    assert set(found) == {"none", "decaying", "constant"}
    for member in work.members():
        with Trajectory(member.path) as trajectory:
            energy = trajectory.energy()
            frames = list(trajectory)
            factor = energy.regulariser.factor
            kind = "none" if factor(0.0) == 0 else "decaying" if factor(1.0) < factor(0.0) else "constant"
            mine = found[kind]
            moments = [energy.weights(frame.particles) @ (frame.theta**2).sum(axis=1) for frame in frames]
            np.testing.assert_allclose(mine.moment, moments, rtol=1e-12)
            np.testing.assert_allclose(mine.term, [factor(f.s) * m for f, m in zip(frames, moments, strict=True)])
            energy.regulariser = None
            np.testing.assert_allclose(mine.loss, [energy(frame.particles) for frame in frames], rtol=1e-9, atol=1e-12)
            assert trajectory.balance.relative < 0.05
            assert trajectory.balance.rises == 0
    with (folder / "regularised.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [float(row["loss_end"]) for row in table] == pytest.approx([each.loss[-1] for each in runs(work)])
    said = regularised(work)
    made_true([verdict for verdict in said.verdicts if "stays" not in verdict.sentence], "regulariser_fades")
    made_false(said.verdicts, "regulariser_fades")
    made_true(said.verdicts, "second_moment_bound")
