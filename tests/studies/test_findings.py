"""Every sentence of every figure, from runs that did what nobody hoped for: what it says must have happened.

Each figure of the registry is given results whose series fall, rise, explode, stay, oscillate, are no numbers, or
end before their time. Nothing may raise but an InputError, no sentence may hold a number that is none, and words of
falling, nearing or decay are there only where something fell.
"""

import importlib
import math
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.text import Text
from rich.console import Console

import wgflow
from wgflow.base.errors import InputError
from wgflow.base.types import Frame
from wgflow.cli import runs
from wgflow.report import series_change, style, summary, wording
from wgflow.report.decay_diagnostics import DecayDiagnostics
from wgflow.report.member_selection import describe_unfinished, representative
from wgflow.report.progress import RunProgress, render
from wgflow.report.switch_jumps import Switching
from wgflow.report.theorem_diagnostics import TheoremDiagnostics
from wgflow.sims import run
from wgflow.stats import fit
from wgflow.stats.convergence_rates import Interval, estimate, rms
from wgflow.stats.fit import CrossValidation, LawFit
from wgflow.stats.paired_test import paired_test
from wgflow.studies.cifar.reduce import Comparison
from wgflow.studies.convergence import baselines
from wgflow.studies.convergence import reduce as convergence
from wgflow.studies.degeneracy.figure import Spread
from wgflow.studies.depth_width import reduce as depth_width
from wgflow.studies.ensemble import reduce as measured
from wgflow.studies.feature_rate import reduce as features
from wgflow.studies.hidden_width import reduce as hidden_width
from wgflow.studies.hidden_width_scales import reduce as hidden_width_scales
from wgflow.studies.registry import figures
from wgflow.studies.zero_loss.reduce import Run
from wgflow.study.schema import Member
from wgflow.study.workspace import MemberFile, Workspace
from wgflow.systems.neural_feature_flow import convergence as theorem_8
from wgflow.theory.assumption import Assumption, Condition
from wgflow.theory.certificate import Certificate
from wgflow.theory.decay_bound import decay_bound
from wgflow.theory.envelope import Envelope
from wgflow.theory.reference_laws import IidComparison
from wgflow.theory.separation import Separation
from wgflow.theory.stationarity import Residual, balance, lojasiewicz
from wgflow.theory.support import Support

S = np.linspace(0.0, 20.0, 21)
SERIES = {
    "falling": 0.02 + 0.5 * np.exp(-0.3 * S),
    "rising": 0.52 + 0.079 * S,
    "exploding": 0.52 * np.exp(1.5 * S),
    "flat": np.full(21, 0.52),
    "unsettled": 0.6 - 0.3 * np.cos(2.0 * S),
    "peaked": 0.5 * np.exp(-0.3 * S) + 3.0 * np.exp(-((S - 5.0) ** 2)),
    "nan": np.full(21, np.nan),
    "lost": np.where(S > 10, np.inf, 0.52 + S),
    "one frame": np.array([0.52]),
    "diverged": 0.52 * np.exp(np.arange(8.0) ** 2),
}
WENT_UP = ("rising", "exploding", "flat", "unsettled")
CUT = ("nan", "lost", "one frame", "diverged")
SAYS_IT_FELL = re.compile(
    r"\b(falls (from|to|in width|as|like|with|at (every|\d)|for)|falling there (like|in (all|\d))|approach(es)?\b|"
    r"closer to the limit|down to|grows? nearer|every run ends below|E is .* zero \(.*\) in [1-9])",
    re.IGNORECASE,
)
CLAIMS_SOMETHING = re.compile(
    r"\b(falls|rises|stays|oscillates|diverges|grows|shrinks|nearer|closer|lower|higher|better|best|steepest|"
    r"moves|misses|predicts|settles?|resolved|significant(?:ly)?|inside|outside)\b"
)
UNDECIDED = {"zero_loss", "escape", "landscape"}  # figures whose findings have sentences without a claim
IN_ASCII = re.compile(
    r"<=|>=|!=|->|\+-|\*\*| - |(?<![\w)\]}./])-[\d.]|\d[eE][+-]?\d|\d-\d|\d–\d|"
    r"(?<![\w.])(?:eta|alpha|sigma|theta|tau|rho|lambda|delta|epsilon|sqrt)(?![\w=.])"
)
NO_NUMBER = re.compile(r"(?<![a-zA-Z_\\])(nan|NaN|inf|Inf|None)(?![a-zA-Z])")


class Fake:
    """A trajectory made of a series."""

    particles = 6

    def __init__(self, path, kind, s, values, diverged=False, study=None, observables=()):
        self.path, self.kind, self.s, self.values = Path(path), kind, s, values
        self.finished, self.observables = True, observables
        flow = {"until": math.inf if diverged else float(s[-1]) if len(s) else 1.0}
        self.parameters = {"study": {"flow": flow, "seed": 0, **(study or {})}, "energy": {"training": {"blocks": [6]}}}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    close = __exit__

    def __len__(self):
        return len(self.s)

    def series(self, name):
        return {"s": self.s, "step": np.arange(len(self.s)), "switches": np.arange(len(self.s))}.get(name, self.values)

    def __getitem__(self, k):
        if isinstance(k, slice):
            return [self[j] for j in range(*k.indices(len(self)))]
        theta = np.full((6, 3), 1.0 + abs(float(np.nan_to_num(self.values[k], posinf=1e9)))) * np.arange(1.0, 4.0)
        tau = np.linspace(0.0, 1.0, 6) ** (1.0 + 0.01 * (k % len(self.s)))
        energy = float(self.values[k])
        return Frame(int(k), float(self.s[k]), theta, tau, np.full(6, 1 / 6), energy, 0.1, 0, 1.0, {})

    def __iter__(self):
        return iter(self[:])


def of_kind(kind):
    """Flow times and series of a kind."""
    return S[: len(SERIES[kind])], SERIES[kind]


def module(name):
    return importlib.import_module(f"wgflow.studies.{name}")


def end(kind, k=-1):
    return float(SERIES[kind][k])


class FakeWork:
    """A run of three members of one kind."""

    folder = Path("runs/fake")

    def __init__(self, kind, count=3):
        self.kind = kind
        self.files = [MemberFile(f"seed={k}", {"seed": k}, Path(f"member-{k}.h5")) for k in range(count)]
        self.study = {"members": [each.label for each in self.files]}

    def members(self):
        return self.files

    def trajectories(self):
        return [each.path for each in self.files]


def opened(kind):
    """What takes the place of Trajectory."""
    return lambda path: Fake(path, kind, *of_kind(kind), diverged=kind == "diverged")


def over_sizes(kind, sizes, name):
    """Estimates whose values go with the size as the series does with s."""
    values = np.interp(np.linspace(0, 1, len(sizes)), np.linspace(0, 1, len(SERIES[kind])), SERIES[kind])
    noise = 1.0 + 0.01 * np.random.default_rng(1).normal(size=(6, len(sizes)))
    with np.errstate(all="ignore"):  # as where figures are drawn for a run
        return estimate(sizes, 6, rms((values * noise) ** 2), name)


def loss_and_particles(monkeypatch, kind):
    monkeypatch.setattr(module("loss_and_particles.figure"), "Trajectory", opened(kind))


def switching(monkeypatch, kind):
    monkeypatch.setattr(module("order_switching.figure"), "Trajectory", opened(kind))
    found = Switching(np.arange(1, 4), S[1:4], np.array([1, 1, 2]), np.array([0.1, -0.2, 0.3]))
    monkeypatch.setattr(module("order_switching.figure"), "order_switching", lambda trajectory: found)


def convergences(monkeypatch, kind):
    sizes, (s, values) = (8, 16, 32, 64, 128), of_kind(kind)
    curve = convergence.Curve(s, np.stack([values, values]), np.stack([values, values]))
    gaps = np.interp(np.arange(5), np.linspace(0, 4, len(values)), values)
    curves = {n: curve._replace(energy=curve.energy + gap) for n, gap in zip(sizes, gaps, strict=True)}
    estimates = {name: [over_sizes(kind, sizes, name)] * len(s) for name in convergence.QUANTITIES}
    group = convergence.Group("", sizes, 1024, curves | {1024: curve}, s, estimates, True, 6, [])
    return [group]


def convergence_models(monkeypatch, kind):
    monkeypatch.setattr(baselines, "groups", lambda work: convergences(monkeypatch, kind))
    score = baselines.Score("network", 8, end(kind), end(kind), math.nan, math.nan)
    problem = SimpleNamespace()
    monkeypatch.setattr(baselines, "networks", lambda files, name: (score._replace(model=name), problem, problem))
    others = [score._replace(model=name) for name in ("ridge regression", "kernel ridge")]
    monkeypatch.setattr(baselines, "others", lambda *_: [others[0], others[1]._replace(heldout=math.nan)])


def theorems(monkeypatch, kind):
    s, energy = of_kind(kind)
    beside = IidComparison(end(kind), 0.95, 0.1)
    support = Support(beside, {"theta": beside}, beside, beside, beside, beside, (0.4, 1.0))
    value = -end(kind)
    certificate = Certificate(value, np.zeros((1, 3)), np.zeros(1), np.ones(1), 1.0, 9, 2, 0, end(kind), False, 1e-6)
    ratio = np.full(5, end(kind))
    envelope = Envelope(
        np.linspace(0, 1, 5), ratio, np.full(5, 0.5), np.full(5, 2.0), ratio, ratio, ratio[1:], 1.0, None, 1.0
    )
    found = TheoremDiagnostics(
        balance(s, energy, np.full(len(s), 0.01)), lojasiewicz(s, energy, np.full(len(s), 0.01)),
        DecayDiagnostics(
            decay_bound("2 λ_min(Θ)/M", s, energy, np.full(len(s), 0.01), np.full(len(s), 0.001)), [],
            np.full(len(s), end(kind)), {}, "", "too large", "",
        ), s[:2],
        [Residual(end(kind), 0.0, 1.0)] * 2, [support] * 2, [0.0, end(kind)], "sliced", 1.0, [], s[:2],
        [certificate] * 2, {"start": envelope, "end": envelope},
        [Assumption("one", "unknown", end(kind), "Not told.", "nobody")], opened(kind)("a.h5")[-1],
    )  # fmt: skip
    return found, "a"


def ensemble(monkeypatch, kind):
    def frame(value):
        left = np.full((4, len(measured.SCALES)), value)
        slope = np.full(4, value)
        one, six = np.full((2, 9), 0.5), np.full(6, value)
        share = np.full(4, 0.25)
        return measured.Measured(
            0.0, value, left, left[3], slope, value, one, share, np.full(3, value), np.arange(6.0), six
        )

    frames = [frame(end(kind, 0)), frame(end(kind))]
    return [measured.Group("", frames, np.array([np.full(3, each.energy) for each in frames]))]


def envelope(monkeypatch, kind):
    Run, (s, values) = module("envelope.figure").Run, of_kind(kind)

    def made(value):
        five = np.full(5, value)
        return Envelope(np.linspace(0, 1, 5), five, five, five, five, five, five[1:], 1.0, None, 1.0)

    member = Run("", list(s), [made(value) for value in values])
    return [member] * 3


def landscape(monkeypatch, kind):
    figure, (s, values) = module("landscape.figure"), of_kind(kind)
    supports = ("full", "point", "origin")
    return figure.Landscape(
        1.0, [figure.Run("deposit", support, "0", s, values, values, -values) for support in supports]
    )


def escape(monkeypatch, kind):
    Run, (s, values) = module("escape.figure").Run, of_kind(kind)
    return [Run("births", support, s, values, kind == "diverged") for support in ("full", "point", "origin")]


def hidden_widths(monkeypatch, kind):
    def read_run(file):
        layers, width, seed = file.values["L"], file.values["M"], file.values["seed"]
        size = math.log2(layers * width) / 6 * (len(SERIES[kind]) - 1)
        value = 0.0 if file.reference else float(np.interp(size, np.arange(len(SERIES[kind])), SERIES[kind]))
        study = {
            "seed": seed,
            "depth": {"name": "layers", "layers": layers},
            "particles": {"per_layer": width, "scale": {"a": 0.1 * layers}},
        }
        outputs = np.full((3, 2), value * (1.0 + 0.01 * seed))
        return hidden_width.Run(Member.of(study), outputs, np.full(3, end(kind)), *of_kind(kind))

    sizes = [(layers, width) for layers in (1, 2, 4, 8) for width in (1, 2, 4, 8)]
    files = [MemberFile("", {"L": a, "M": b, "seed": k}, Path("a.h5")) for a, b in sizes for k in range(4)]
    files.append(MemberFile("", {"L": 64, "M": 64, "seed": 9}, Path("a.h5"), reference=True))
    runs = [(file.reference, read_run(file)) for file in files]
    monkeypatch.setattr(fit, "RESAMPLES", 10)  # intervals do not matter here
    monkeypatch.setattr(hidden_width, "read_runs", lambda work: runs)
    monkeypatch.setattr(hidden_width_scales, "read_runs", lambda work: runs[:-1])


def sizing(monkeypatch, kind):
    files, studies = [], {}
    for depth in (2, 4, 8):
        for width in (2, 4, 8):
            for seed in range(8):
                path = Path(f"{depth}-{width}-{seed}.h5")
                files.append(MemberFile("", {}, path))
                studies[path] = {
                    "seed": seed, "depth": {"name": "layers", "layers": depth},
                    "particles": {"coupling": "path", "part": 0, "per_layer": width, "count": 6},
                }  # fmt: skip

    def open_one(path):
        study, (s, values) = studies[path], of_kind(kind)
        scale = 1.0 + 0.1 * np.sin(7.0 * study["seed"] + study["particles"]["per_layer"])
        return Fake(path, kind, s, values * scale, kind == "diverged", study)

    monkeypatch.setattr(FakeWork, "members", lambda work: files)
    monkeypatch.setattr(module("sizing.reduce"), "Trajectory", open_one)
    make = FakeWork.__init__

    def with_target(work, *args):
        make(work, *args)
        work.study = {"target": {"eps": 0.3, "eta": 0.5}, "members": files}

    monkeypatch.setattr(FakeWork, "__init__", with_target)


def feature_flow(monkeypatch, kind):
    reduce, (s, values) = module("feature_flow.reduce"), of_kind(kind)
    spread = np.repeat(values[:, None], 2, axis=1)
    found = [
        reduce.Run(net, 8, method, s, values, values, spread, values, end(kind), kind == "diverged")
        for net in ("resnet", "dnn") for method in ("descent", "flow")
    ]  # fmt: skip
    bounded = reduce.Bounded("resnet", 8, s[[0, -1]], np.array([end(kind), end(kind)]))
    return reduce.FlowAndDescent(found if len(s) > 1 else [], [bounded])


def feature_rate(monkeypatch, kind):
    sizes = (8, 16, 32, 64, 128)
    one = over_sizes(kind, sizes, "units")
    by_rate = {"loss": over_sizes(kind, tuple(float(n) for n in sizes), "rate")}
    return [
        features.Gaps(0.0, {"weights": one}, {"epsilon": one}, {}, 0, end(kind), "resnet"),
        features.Gaps(
            2.0, {"weights": one, "loss": one}, {"weights": one, "loss": one}, by_rate, 8, end(kind), "resnet"
        ),
    ]


def feature_convergence(monkeypatch, kind):
    reduce, (s, values) = module("feature_convergence.reduce"), of_kind(kind)
    top = values[:, None, None] * np.ones((1, 3, 2))
    found = theorem_8.windows(s, top, top[:, :, 0])
    verdict = theorem_8.convergence(found, Condition("phi convex in the output", "proved", ""))
    run = reduce.Run("loss=huber", 3, s, values, values, values, found, [verdict], kind == "diverged")
    return [run] if len(s) > 1 else []


def degeneracy(monkeypatch, kind):
    values = np.interp(np.arange(5), np.linspace(0, 4, len(SERIES[kind])), SERIES[kind])
    first = values[None, :, None] * (1.0 + 0.01 * np.arange(4.0)[:, None, None]) * np.ones((1, 1, 2))
    return [Spread("dnn", "standard", (8, 16, 32, 64, 128), first, first * np.linspace(1, 2, 5)[:, None])]


def depth_widths(monkeypatch, kind):
    def family(coupling):
        runs = {(depth, width): {(0, 0): depth_width.Run(np.array([end(kind)]), np.zeros((1, 2)))}
                for depth in (2, 4, 8) for width in (2, 4, 8)}  # fmt: skip
        limit = depth_width.Run(np.array([end(kind)]), np.zeros((1, 2)))
        return depth_width.Family(coupling, np.array([2.0]), runs, limit, (64, 64), True)

    first, last = end(kind, 0), end(kind)
    slope = math.log(first / last) if min(first, last) > 0 and math.isfinite(last) else math.nan
    told = Interval(slope, slope - 0.01, slope + 0.01)
    rms_ = np.full((3, 3), first)
    rms_[-1, -1] = last
    fitted = LawFit("free", told, told, (told, told, told), rms_, np.ones((3, 3)), 0.1)
    chosen = CrossValidation(
        ("path", "independent"), np.ones(2), (Interval(0, 0, 0), Interval(1, math.nan, math.nan)), "size"
    )
    gain = depth_width.DepthFluctuation((2, 4, 8), 8, np.full(3, first), told)
    depth = over_sizes(kind, (2, 4, 8, 16, 32), "depth")
    found = depth_width.FamilyFit(2.0, fitted, chosen, fitted, depth, depth, 8, slope, gain)
    return [(family(coupling), [found]) for coupling in ("path", "independent")]


def depth_width_clouds(monkeypatch, kind):
    values = np.interp(np.arange(3), np.linspace(0, 2, len(SERIES[kind])), SERIES[kind])
    return [
        {"coupling": "path", "layers": n, "per_layer": m, "coupled": value, "conditional": value, "lipschitz": value,
         "holder": None}
        for n, value in zip((2, 4, 8), values, strict=True) for m in (2, 4)
    ]  # fmt: skip


def zero_loss(monkeypatch, kind):
    s, values = of_kind(kind)
    there = IidComparison(0.9, 0.95, 0.1)
    separation = Separation(
        "2-homogeneous", there, IidComparison(1.0, 1.0, 0.1), 2.0, 1.0, 1.0, True, False, False, math.inf, 4
    )
    separates = Assumption("separation", "unknown", end(kind), "Not told.", "nobody")
    runs = [
        Run("relu", support, "0", "2-homogeneous", 0.5, separates, s, values, 2.0, 1.0, math.nan,
               np.zeros(len(s), bool), s[:1], [separation])
        for support in ("full", "point", "full")
    ]  # fmt: skip
    return runs, {}


def cifar(monkeypatch, kind):
    figure, (s, values) = module("cifar.figure"), of_kind(kind)
    if not np.isfinite(values).all():  # a training's series are cut at their last finite number
        s, values = S[:2], np.array([0.5, 0.6])
    pairs = 1 if kind == "flat" else 3
    plain = 100 * np.stack([values] * pairs)
    moved = plain + np.linspace(-0.1, 0.2, pairs)[:, None]
    found = Comparison(
        "resnet20", "cifar10", "", True, 50_000, 3, "", tuple(range(pairs)), s, plain, moved, np.zeros_like(plain),
        ("a.h5",) * pairs, paired_test(plain[:, -1].tolist(), moved[:, -1].tolist()),
    )  # fmt: skip
    monkeypatch.setattr(figure, "depth_rows", lambda found: [])
    monkeypatch.setattr(figure, "Trajectory", lambda path: Fake(path, kind, s, values))
    return [found]


CASES = {
    "loss_and_particles": loss_and_particles,
    "switching": switching,
    "convergence_rates": convergences,
    "convergence_loss": convergences,
    "convergence_models": convergence_models,
    "theorems": theorems,
    "ensemble": ensemble,
    "envelope": envelope,
    "landscape": landscape,
    "escape": escape,
    "hidden_width": hidden_widths,
    "hidden_width_scales": hidden_widths,
    "sizing": sizing,
    "feature_flow": feature_flow,
    "feature_rate": feature_rate,
    "feature_convergence": feature_convergence,
    "degeneracy": degeneracy,
    "depth_width": depth_widths,
    "depth_width_clouds": depth_width_clouds,
    "zero_loss": zero_loss,
    "cifar": cifar,
}


def drawn(monkeypatch, name, kind):
    """Result and drawing of a figure for a kind of run: of what its case has reduced it to, or else of a fake run."""
    reduced, figure = CASES[name](monkeypatch, kind), figures()[name]
    with np.errstate(all="ignore"):  # as where figures are drawn for a run
        result = figure(FakeWork(kind)) if reduced is None else figure.present(reduced)
        drawn = style.draw_styled(result)
        return result, drawn


def written(figure):
    """Titles, labels, legends and notes of a figure."""
    legends = [*figure.legends, *(legend for axes in figure.axes if (legend := axes.get_legend()))]
    texts = [text for legend in legends for text in [legend.get_title(), *legend.get_texts()]]
    texts += [text for axes in figure.axes for text in [axes.xaxis.label, axes.yaxis.label, *axes.texts]]
    return [each.get_text() for each in texts] + [axes.get_title(loc="left") for axes in figure.axes]


def cells(drawing, figure):
    """Text of a figure's tables, as a page and a terminal show them."""
    return [
        text
        for rows in summary.readable(drawing.tables, [figure]).values()
        for row in rows
        for text in map(summary._cell, row.values())
    ]


@pytest.fixture(autouse=True)
def closed():
    """No figure outlives its test."""
    yield
    plt.close("all")


def test_every_figure_is_tried():
    assert set(CASES) <= set(figures())
    for name in set(figures()) - set(CASES):  # a study of which its own test tries this
        assert any(name in path.read_text() for path in Path(__file__).parent.glob("test_*.py"))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("kind", [*WENT_UP, *CUT])
def test_nothing_is_said_that_did_not_happen(monkeypatch, name, kind):
    refused = ""
    try:
        drawing, figure = drawn(monkeypatch, name, kind)
    except InputError as error:
        refused = str(error)
    if refused:
        assert kind in CUT or name == "sizing", refused  # a law of energies needs some that differ
        return
    assert isinstance(figure, Figure)
    said = [drawing.finding, drawing.caption, *written(figure), *cells(drawing, figures()[name])]
    check_signs(said)
    if name not in UNDECIDED:
        check_claims(drawing)
    for text in said:
        assert not NO_NUMBER.search(text), text
    for text in [drawing.finding, *(axes.get_title(loc="left") for axes in figure.axes)]:
        assert not SAYS_IT_FELL.search(text), text


def check_claims(result):
    """Assert that every verb of change or comparison in a finding is that of one of its verdicts."""
    decided = " ".join(map(str, result.verdicts))
    claimed = set(CLAIMS_SOMETHING.findall(result.finding))
    assert claimed <= set(CLAIMS_SOMETHING.findall(decided)), (result.finding, decided)


def check_signs(texts):
    """Assert that sentences have the signs of mathematics, by the rule of wgflow.report.wording."""
    for text in texts:
        assert not IN_ASCII.search(re.sub(r"\$[^$]*\$|\S+=\S+", "", text)), text


@pytest.mark.parametrize(
    "name",
    ["loss_and_particles", "convergence_rates", "convergence_loss", "landscape", "hidden_width", "feature_flow",
     "feature_rate", "depth_width", "zero_loss"],
)  # fmt: skip
def test_what_fell_is_said_to_fall(monkeypatch, name):
    """The words that are looked for are those that the figures use."""
    drawing, figure = drawn(monkeypatch, name, "falling")
    assert SAYS_IT_FELL.search(drawing.finding), drawing.finding
    check_signs([drawing.finding, drawing.caption, *written(figure), *cells(drawing, figures()[name])])
    if name not in UNDECIDED:
        check_claims(drawing)


@pytest.mark.parametrize(
    ("name", "covered"),
    [
        ("convergence_rates", "Intervals cover initial particles, for these data and this reference"),
        ("depth_width", "Intervals cover initial particles, for these data and this reference"),
        ("feature_rate", "Intervals cover initial weights, for these data"),
        ("degeneracy", "Intervals cover initial weights, for these data"),
        ("hidden_width", "Intervals cover 4 initialisations of one draw of the data, not other data"),
        ("hidden_width_scales", "One draw of the data for each D"),
        ("sizing", "Probabilities are over initial particles, for these data"),
    ],
)
def test_what_intervals_cover_is_said(monkeypatch, name, covered):
    drawing, _ = drawn(monkeypatch, name, "falling")
    assert covered in drawing.finding


def test_a_search_that_ran_out_of_steps_is_the_first_thing_said(monkeypatch):
    """The certificate of this case has one minimum, which did not converge; its slope is called one found so far."""
    result, figure = drawn(monkeypatch, "theorems", "falling")
    assert result.finding.startswith("The search for a direction of descent ran out of steps at 1 of its 1 minima: ")
    assert "so far" in result.finding
    assert any("1 of 1 minima not converged" in text for text in written(figure))


def test_the_least_spread_is_that_of_each_seed():
    """Two seeds, in which another layer has the least spread; of their means it would be 0.3."""
    ends = np.array([[0.1, 0.5], [0.5, 0.2]])
    values = ends[:, None, :] * np.array([1.0, 1.0, 1.0, 1.0, 1.0])[:, None]
    said = module("degeneracy.figure")._said([Spread("dnn", "standard", (8, 16, 32, 64, 128), values, values)])
    assert "the layer with the least is 0.1 to 0.2 over 2 seeds" in said


@pytest.mark.parametrize("name", ["loss_and_particles", "feature_flow", "escape"])
def test_a_divergence_is_said_with_its_flow_time(monkeypatch, name):
    drawing, _ = drawn(monkeypatch, name, "diverged")
    assert "diverges after s = 7" in drawing.finding


@pytest.mark.parametrize(
    ("kind", "said", "brief"),
    [
        ("falling", "falls from 0.52 to 0.021", "falls from 0.52 to 0.021"),
        ("rising", "rises from 0.52 to 2.1", "rises from 0.52 to 2.1"),
        ("flat", "stays at 0.52", "stays at 0.52"),
        ("unsettled", "oscillates (from 0.3, between 0.31 and 0.85 over the last quarter)",
         "oscillates: 0.31 to 0.85"),
        ("peaked", "falls from 0.5 to 0.0012 (with a peak of 3.1 at s = 5)", "falls from 0.5 to 0.0012"),
        ("nan", "has no finite value", "has no finite value"),
        ("lost", "diverges after s = 10 (from 0.52, last 11)", "diverges after s = 10"),
        ("one frame", "is 0.52 at s = 0, the only frame", "is 0.52 at s = 0, the only frame"),
        ("diverged", "diverges after s = 7 (from 0.52, last 9.9e+20)", "diverges after s = 7"),
    ],
)  # fmt: skip
def test_changes_in_words(kind, said, brief):
    found = series_change.change(*of_kind(kind), diverged=kind == "diverged")
    assert (str(found), found.brief) == (said, brief)


def test_runs_that_went_different_ways_are_counted():
    changes = [series_change.change(*of_kind(kind)) for kind in ("falling", "rising", "falling")]
    said = "falls from 0.52 to 0.021 in 2 of 3 runs and rises from 0.52 to 2.1 in 1"
    assert series_change.joint_change(changes) == said
    assert series_change.joint_change_brief(changes) == "falls in 2, rises in 1"
    assert series_change.joint_change(changes[:1]) == str(changes[0])


def test_what_prints_alike_does_not_change():
    """Whatever the exact numbers, nobody reads "falls from 0.5 to 0.5"."""
    assert series_change.shift("it", 0.5001, 0.4999).sentence == "it stays at 0.5"
    assert series_change.change(S[:2], np.array([0.5001, 0.4999])).kind == series_change.STAYS
    assert wording.number(1.6e21, ".2f") == "1.6e+21"
    assert wording.share(1.2e17) == "1.2e+17 times"
    assert wording.interval(0.5, math.nan, math.nan) == "0.50"


def test_values_near_the_largest_number_are_averaged():
    huge = [series_change.change(S[:2], np.array([0.5, 1.7e308])) for _ in range(3)]
    assert series_change.joint_change(huge) == "rises from 0.5 to 1.7e+308"


def small(place, *options):
    fixed = ("problem.name=sine", "problem.samples=12", "grid.particles.count=[16]", "problem.heldout=0.25")
    sets = [part for each in (*fixed, *options) for part in ("--set", each)]
    code = run.main(["quickstart", "--out", str(place), "--threads", "1", "--jobs", "1", *sets])
    (folder,) = place.glob("quickstart/[0-9a-f]*")
    return code, Workspace(folder)


def test_a_step_that_is_too_large_has_no_headline_of_success(tmp_path, capsys):
    """From the command to its page: E grows by many orders of magnitude, and the run comes to its end."""
    code, work = small(tmp_path, "flow.step=5.0", "flow.until=100.0", "flow.every=5.0", "grid.seed=[0, 1]")
    out = " ".join(capsys.readouterr().out.split())
    page = (work.folder / "report.html").read_text()
    assert code == 0
    for text in (out, page):
        assert "rises from" in text or "oscillates" in text
        assert not SAYS_IT_FELL.search(text)


def test_divergences_are_named_wherever_results_are_told(tmp_path, capsys):
    code, work = small(tmp_path, "flow.until=100000.0", "flow.every=500.0", "flow.step=500.0", "grid.seed=[0, 1]")
    out = " ".join(capsys.readouterr().out.split())
    ends = []
    for path in work.trajectories():
        with wgflow.Trajectory(path) as trajectory:
            ends.append(trajectory[-1].s)
    assert code == 3
    said = describe_unfinished(work)
    assert (
        said == f"2 of 2 runs diverged: count=16, seed=0 after s = {ends[0]:g}; count=16, seed=1 after s = {ends[1]:g}."
    )
    assert said in out
    assert said in (work.folder / "report.html").read_text()
    assert "diverges after s = " in out
    progress = RunProgress(work.trajectories()[0])
    with (console := Console(width=200)).capture() as seen:
        console.print(render(progress, 200, 20))
    assert "0 of 1 finished, 1 diverged" in seen.get()
    assert progress.done()
    assert representative(work) == work.trajectories()[0]  # there is no other
    capsys.readouterr()
    assert runs.report([str(work.folder), "--quiet", "--starts", "3"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "where it diverges" in err


def test_means_over_seeds_leave_diverged_runs_out():
    rows = [
        {"seed": k, "particles.count": 8, "energy_first": 0.5, "energy_last": last, "status": status}
        for k, (last, status) in enumerate([(0.1, "finished"), (0.3, "finished"), (1e300, "diverged")])
    ]
    (mean,) = summary.averages(rows)
    assert (mean["energy last"], mean["diverged"]) == (pytest.approx(0.2), 1)


def test_titles_fit_into_their_panels():
    figure, (left, right) = style.panels(2)
    left.set_title(
        loc="left", label="Loss at N = 1024: falls in 100 of 120 runs, rises in 10, oscillates in 5, diverges in 5"
    )
    right.set_title("short", loc="left")
    style.svg(figure)
    (title,) = [each for each in left.findobj(Text) if each.get_text().startswith("Loss at")]
    assert title.get_window_extent().x1 <= right.get_tightbbox().x0
    assert "N = 1024" in title.get_text()
    assert right.get_title(loc="left") == "short"


def test_a_gap_to_a_lower_bound_is_an_upper_bound(monkeypatch):
    drawing, _ = drawn(monkeypatch, "feature_flow", "falling")
    assert re.search(r"it is at most \S+ above it at the start and at most \S+ at the end", drawing.finding)


def test_the_title_of_degeneracy_is_the_power_that_was_fitted(monkeypatch):
    """No limit is claimed: spreads that rise, fall or stay get their exponent, equal units none."""
    m = np.array([8.0, 16, 32, 64, 128])
    for power in (-1.5, -0.1, 0.0, 0.3):
        first = np.ones((4, 1, 1)) * (m**power)[:, None]
        spread = Spread("dnn", "standard", (8, 16, 32, 64, 128), first, 2 * first)
        figure = style.draw_styled(figures()["degeneracy"].present([spread]))
        (title,) = {axes.get_title(loc="left") for axes in figure.axes} - {""}
        assert title.endswith(f"$m^{{{power:.1f}}}$, trained $m^{{{power:.1f}}}$")
