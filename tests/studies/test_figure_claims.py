"""Sentences of figures are true of some runs and false of others, by the inequality that is printed with them."""

from types import SimpleNamespace

import numpy as np
import pytest
from verdict_checks import made_false, made_true

from wgflow.report.series_change import change, courses, joint_change, shift
from wgflow.report.switch_jumps import Switching
from wgflow.stats.convergence_rates import Interval, Rate
from wgflow.stats.fit import CrossValidation
from wgflow.studies.convergence.baselines import Score
from wgflow.studies.convergence.figure import beats
from wgflow.studies.degeneracy import figure as degeneracy
from wgflow.studies.depth_width.figure import verdicts_of_distances
from wgflow.studies.ensemble import figure as ensemble
from wgflow.studies.ensemble.reduce import Group
from wgflow.studies.feature_convergence import figure as feature_convergence
from wgflow.studies.feature_flow import figure as feature_flow
from wgflow.studies.feature_flow.reduce import Bounded
from wgflow.studies.feature_rate import figure as feature_rate
from wgflow.studies.hidden_width import claims as hidden_width
from wgflow.studies.loss_and_particles import figure as loss_and_particles
from wgflow.studies.order_switching import figure as order_switching
from wgflow.studies.sizing import figure as sizing

S = np.linspace(0.0, 8.0, 9)
FALLING, RISING = np.linspace(0.5, 0.1, 9), np.linspace(0.1, 0.5, 9)
SWINGING = np.array([0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.1, 0.6, 0.1])


def course(*series, diverged=False):
    """Verdicts on the loss of runs."""
    return courses("the loss", [change(S[: len(each)], each, diverged) for each in series])


def test_what_a_series_does_is_decided_by_its_ends_and_its_swings():
    (falls,), (rises,), (stays,) = course(FALLING), course(RISING), course(np.full(9, 0.5))
    assert made_true(falls, "course_falls") == (
        "the loss falls from 0.5 to 0.1 (runs that diverge = 0 ≤ 0, up and down over the last quarter of s = 0 ≤ "
        "what passes for noise = 0.08, the loss at the end = 0.1 < at the start = 0.5)"
    )
    made_false(rises, "course_falls")
    assert made_true(rises, "course_rises").startswith("the loss rises from 0.1 to 0.5 (")
    assert made_false(stays, "course_rises").startswith("the loss stays at 0.5 (")
    (swings,) = course(SWINGING)
    assert made_true(swings, "course_oscillates").startswith("the loss oscillates (from 0.5, between 0.1 and 0.6")
    made_false(falls, "course_oscillates")
    (lost,) = course(FALLING, diverged=True)
    assert made_true(lost, "course_diverges").startswith("the loss diverges after s = 8 (from 0.5, last 0.1)")
    made_false(falls, "course_diverges")
    (alone,) = course(FALLING[:1])
    assert (alone.holds, alone.sentence) == (None, "the loss is 0.5 at s = 0, the only frame")


def test_runs_that_differ_get_a_sentence_each():
    falls, rises = course(FALLING, RISING, FALLING)
    assert falls.sentence == "the loss falls from 0.5 to 0.1 in 2 of 3 runs"
    assert rises.sentence == "the loss rises from 0.1 to 0.5 in 1 of 3 runs"
    assert (falls.holds, rises.holds) == (True, True)


def test_means_that_print_alike_do_not_change_the_verb():
    """Both runs fall as printed, by 0.01 of about 1, and so does the sentence on both."""
    runs = [change(S[:2], np.array(ends)) for ends in ((1.04, 0.996), (0.9951, 0.9949))]
    assert joint_change(runs[:1]).startswith("stays") or joint_change(runs[:1]).startswith("falls")
    for each in runs:
        assert str(each).split()[0] == each.kind


def test_two_numbers_shift_as_they_print():
    assert shift("x", 0.5001, 0.4999).sentence == "x stays at 0.5"
    assert made_true(shift("x", 0.5, 0.4), "course_falls").startswith("x falls from 0.5 to 0.4 (")
    assert shift("x", 0.5, np.nan).sentence == "x goes from 0.5 to unknown"


def test_the_figure_of_losses_has_the_verdicts_of_its_finding():
    def run(size, values):
        return loss_and_particles.Run("", size, S, values, None, change(S, values))

    result = loss_and_particles.loss_and_particles.present([run(16, FALLING), run(8, RISING)])
    assert result.finding == "At N = 16 the loss falls from 0.5 to 0.1; at N = 8 the loss rises from 0.1 to 0.5."
    assert [verdict.sentence for verdict in result.verdicts] == [
        "at N = 16 the loss falls from 0.5 to 0.1", "at N = 8 the loss rises from 0.1 to 0.5",
    ]  # fmt: skip


def switching(*shares):
    """Runs whose jumps add up to these shares of a descent of 1; None for a run without descent."""
    return [
        order_switching.Run(
            64, S[:2], np.array([1.0, 2.0 if each is None else 0.0]),
            Switching(np.arange(1), S[:1], np.array([1]), np.array([each or 0.5])),
        )
        for each in shares
    ]  # fmt: skip


def test_jumps_are_compared_with_the_descent_of_each_run():
    below, descends = order_switching.verdicts(switching(0.1, 0.5, 0.9))
    assert made_true(below, "jumps_below_descent").startswith(
        "the jumps of every run that descends add up to less than its descent: to 10% to 90% of it, in the median over "
        "the runs of one N to 50% ("
    )
    below, descends = order_switching.verdicts(switching(0.1, None))  # of that without a descent nothing is said
    assert "every run that descends" in made_true(below, "jumps_below_descent")
    assert "in 1 of 2 runs E never falls" in made_false(descends, "switching_runs_descend")
    below, descends = order_switching.verdicts(switching(0.1, 0.5, 0.9))
    made_true(descends, "switching_runs_descend")
    below, descends = order_switching.verdicts(switching(0.1, 1.5, None))
    made_false(below, "jumps_below_descent")
    assert "in 1 of 3 runs E never falls below its start" in made_false(descends, "switching_runs_descend")
    assert order_switching.verdicts(switching(None))[0].holds is None


def spread(power, trained=2.0):
    m = np.array([8.0, 16, 32, 64, 128])
    first = np.ones((4, 1, 2)) * (m**power)[:, None] * (1.0 + 0.01 * np.arange(4.0))[:, None, None]
    return degeneracy.Spread("dnn", "standard", (8, 16, 32, 64, 128), first, trained * first)


def test_units_approach_only_where_every_layer_falls():
    said = degeneracy.verdicts(spread(-0.5))
    assert "m^-0.50 (0.50 to 0.50), m^-0.50" in made_true(said, "units_approach")
    made_true(said, "training_separates_units")
    mixed = spread(-0.5, 0.5)
    mixed.first[:, :, 1] = spread(0.3).first[:, :, 1]
    said = degeneracy.verdicts(mixed)
    made_false(said, "units_approach")
    assert "not move the closest units apart" in made_false(said, "training_separates_units")
    equal = spread(0.0)
    equal.first[:] = 0.0
    assert degeneracy.verdicts(equal)[0].holds is None


def feature_run(method, energy, defect=0.0, last=0.0):
    defects = np.full(9, defect)
    defects[-1] = defect + last
    return feature_flow.Run("dnn", 16, method, S, np.asarray(energy), defects, np.ones((9, 2)), S, np.nan)


def test_a_flow_that_is_not_resolved_is_the_first_thing_said():
    descent = feature_run("descent", FALLING)
    good, bad = feature_run("flow", FALLING * 1.1, 0.01), feature_run("flow", RISING, 0.01, 0.5)
    made_true(feature_flow.is_resolved(good), "flow_resolved")
    text = made_false(feature_flow.is_resolved(bad), "flow_resolved")
    assert "is resolved until s = 7 only, where its features leave its weights" in text
    made_true(feature_flow.verdicts(descent, good), "descent_follows_flow")
    made_false(feature_flow.verdicts(descent, bad), "descent_follows_flow")
    shown = feature_flow.flow_and_descent.present(feature_flow.FlowAndDescent([descent, bad], []))
    assert shown.finding.startswith("The flow of the DNN of m = 16 is resolved until s = 7 only, where")
    assert made_false(shown.verdicts, "flow_resolved")
    shown = feature_flow.flow_and_descent.present(feature_flow.FlowAndDescent([descent, good], []))
    assert shown.finding.startswith("With m = 16 the DNN's loss falls from 0.5 to 0.1")


def test_the_convex_gap_is_compared_with_that_at_the_start():
    made_true(feature_flow.nearer(Bounded("dnn", 8, S[:2], np.array([0.5, 0.1]))), "convex_gap_shrinks")
    made_false(feature_flow.nearer(Bounded("dnn", 8, S[:2], np.array([0.1, 0.1]))), "convex_gap_shrinks")


def test_gram_matrices_are_regular_only_above_rounding():
    def gaps(least):
        return [SimpleNamespace(by_units={}, by_rate={}, largest={}, eigenvalue=least, m=8)]

    made_true(feature_rate.verdicts(gaps(0.01)), "gram_matrices_positive")
    made_false(feature_rate.verdicts(gaps(1e-17)), "gram_matrices_positive")
    assert feature_rate.verdicts(gaps(np.nan))[-1].holds is None


def test_top_features_settle_only_if_their_last_change_is_smaller():
    def run(before, last, least):
        windows = [
            SimpleNamespace(low=low, high=2 * low, beta=beta, outer=0.1) for low, beta in ((2, before), (4, last))
        ]
        return SimpleNamespace(
            label="m=8", s=S, gap=FALLING, windows=windows, eigenvalue=np.full(9, least), verdicts=[], diverged=False
        )

    said = feature_convergence.verdicts(run(0.5, 0.2, 0.01))
    assert "β_L changes less from s = 4 to 8" in made_true(said, "top_features_settle")
    made_true(said, "top_features_independent")
    said = feature_convergence.verdicts(run(0.2, 0.5, 1e-18))
    made_false(said, "top_features_settle")
    made_false(said, "top_features_independent")


def errors(rms, low=0.1, residual=0.01, single=((0.2, 0.1), (0.4, 0.2)), predicted=None):
    """Errors of networks of L = 2, 4 and M = 1, 8."""
    told = Interval(0.3, low, 0.5)
    rms = np.array(rms, float)
    letter = SimpleNamespace(
        rms=rms, predicted=rms if predicted is None else predicted, residual=residual, depth=told, width=told
    )
    choice = CrossValidation(("additive", "independent"), np.ones(2), (Interval(0, 0, 0), Interval(1, low, 2)), "size")
    sizes = SimpleNamespace(depths=(2, 4), widths=(1, 8))
    return SimpleNamespace(sizes=sizes, letter=letter, choice=choice, single=np.array(single))


def test_the_titles_of_hidden_width_follow_from_their_inequalities():
    good, bad = errors([[0.4, 0.2], [0.3, 0.1]]), errors([[0.1, 0.2], [0.3, 0.4]], low=-0.1, residual=1.0)
    assert "falls from 0.4 to 0.1" in made_true(hidden_width.shrinks(good), "output_error_shrinks")
    made_false(hidden_width.shrinks(bad), "output_error_shrinks")
    assert "at every width" in made_true(hidden_width.along(good.letter.rms, "width"), "output_error_falls_along")
    text = made_false(hidden_width.along(bad.letter.rms, "width"), "output_error_falls_along")
    assert text.startswith("the error falls at none of the widths (")
    made_true(hidden_width.near(good), "hidden_width_law_near")
    made_false(hidden_width.near(bad), "hidden_width_law_near")
    made_true(hidden_width.traded(good), "depth_width_traded")
    made_true(hidden_width.traded(good), "hidden_width_law_terms")
    made_false(hidden_width.traded(bad), "hidden_width_law_terms")
    made_false(hidden_width.traded(errors([[0.4, 0.2], [0.3, 0.1]], residual=1.0)), "depth_width_traded")


def test_width_stops_only_where_the_law_holds_and_no_error_is_far_below_its_term():
    assert "it stops" in made_true(hidden_width.stops(errors([[0.4, 0.2], [0.3, 0.1]])), "width_stops_at_depth_term")
    deep = hidden_width.stops(errors([[0.4, 0.2], [0.3, 0.001]]))
    assert "below $c_2/L$" in made_false(deep, "width_stops_at_depth_term")
    assert len(hidden_width.stops(errors([[0.1, 0.2], [0.3, 0.4]])).inequalities) == 1


def test_data_matter_where_both_constants_move():
    rms = [[0.4, 0.2], [0.3, 0.1]]
    made_true(hidden_width.data_matters(errors(rms)), "data_move_constants")
    made_false(hidden_width.data_matters(errors(rms, single=((0.2, 0.1), (0.21, 0.3)))), "data_move_constants")
    assert hidden_width.data_matters(errors(rms, single=((0.2, 0.1),))).holds is None


def test_constants_set_by_hand_are_inside_or_outside_the_interval():
    found = errors([[0.4, 0.2], [0.3, 0.1]])
    assert "c1 = 0.22 is inside its interval" in made_true(hidden_width.by_hand(found), "hand_constant_inside")
    made_false(hidden_width.by_hand(errors([[0.4, 0.2], [0.3, 0.1]], low=0.3)), "hand_constant_inside")


def group(slope=(1.0, 2.0, 3.0, 4.0), shallow=(0.1, 0.3), worst=(1.04, 1.05), exchanged=1.5):
    frames = [
        SimpleNamespace(left=np.full((4, 3), miss), slope=np.array(slope), permuted=np.array([1.0, exchanged]))
        for miss in shallow
    ]
    return Group("a = 1", frames, np.array([np.ones(len(worst)), np.array(worst)]))


def test_ensembles_are_what_their_numbers_say():
    made_true(ensemble._orders(group()), "expansion_orders")
    text = made_false(ensemble._orders(group(slope=(1.0, 2.0, 2.5, 4.0))), "expansion_orders")
    assert "leave α^2.00, α^2.50, α^4.00" in text
    assert ensemble._orders(group(slope=(1.0, np.nan, np.nan, np.nan))).holds is None
    up, down = ensemble.verdicts(group()), ensemble.verdicts(group(shallow=(0.3, 0.1), worst=(0.9, 1.1), exchanged=0.8))
    assert "10.0% of them at the start and 30.0% at the end" in made_true(up, "training_departs_from_shallow")
    made_false(down, "training_departs_from_shallow")
    assert "changes by +4.0% to +5.0% over 2 runs" in made_true(up, "deletion_raises_loss")
    assert "does not rise in every run" in made_false(down, "deletion_raises_loss")
    assert "E changes by +50.0% on average: it rises" in made_true(up, "exchange_raises_loss")
    assert "E changes by −20.0% on average: it does not rise" in made_false(down, "exchange_raises_loss")
    assert "not finite in 1 of 2 runs" in ensemble.verdicts(group(worst=(np.nan, 1.0)))[1].sentence


def test_a_network_beats_other_models_only_with_a_lower_heldout_loss():
    scores = [Score(name, 3, 0.1, loss, np.nan, np.nan) for name, loss in
              (("network, N = 8", 0.2), ("network, N = 64", 0.2), ("ridge", 0.3), ("kernel", np.nan))]  # fmt: skip
    assert "the best of them, ridge, 0.3" in made_true(beats("", scores), "network_beats_models")
    assert "no lower than that of ridge: 0.1" in made_false(
        beats("", [*scores[:2], scores[2]._replace(heldout=0.1)]), "network_beats_models"
    )


def test_larger_networks_are_nearer_only_if_they_are():
    def rows(near, far):
        return [
            {"coupling": "path", "layers": n, "per_layer": n, "coupled": at} for n, at in ((2, near), (8, far))
        ]  # fmt: skip

    made_true(list(verdicts_of_distances(rows(0.4, 0.1)).values()), "larger_network_nearer")
    made_false(list(verdicts_of_distances(rows(0.1, 0.4)).values()), "larger_network_nearer")


@pytest.mark.parametrize("worse", [True, False])
def test_a_larger_network_fails_more_often_only_significantly(monkeypatch, worse):
    odd = SimpleNamespace(p=0.01 if worse else 0.4, larger=(4, 4), smaller=(2, 4))
    monkeypatch.setattr(sizing, "monotonicity_violations", lambda *_: [odd])
    said = sizing.monotone(SimpleNamespace(energies=None, sizes=None, eps=0.1))
    if worse:
        assert "L = 4, M_l = 4 fails more often than L = 2, M_l = 4" in made_true(said, "larger_fails_more_often")
    else:
        made_false(said, "larger_fails_more_often")


def test_rates_of_distances_have_their_verdicts():
    falls = Rate(0.5, 0.4, 0.6, 1.0, (8, 16), tested=0.4)
    none = Rate(np.nan, np.nan, np.nan, np.nan, (), "no decay: 0.1 (-0.1 to 0.3)", tested=-0.1)
    one = [
        SimpleNamespace(
            by_units={"loss": SimpleNamespace(rate=falls), "outputs": SimpleNamespace(rate=none)}, by_rate={},
            largest={}, eigenvalue=np.nan, m=8,
        )
    ]  # fmt: skip
    said = feature_rate.verdicts(one)
    made_true(said[0], "power_law_falls")
    made_false(said[1], "power_law_falls")
