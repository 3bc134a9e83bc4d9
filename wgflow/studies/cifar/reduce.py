"""Paired comparison of vanilla and mean-field trainings: test errors, tests of their differences, published values.

The two members of a pair have the same seed, so the same initial weights, images in the same order, crops and flips.
The error is that of the last epoch; no epoch is selected by its test error.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from wgflow.base.errors import InputError
from wgflow.base.types import Array, Spec
from wgflow.report.member_selection import finished_members
from wgflow.stats.paired_test import PairedTest, conclusion, paired_test
from wgflow.study.workspace import Workspace
from wgflow.trajectory import Trajectory

VANILLA, _WHOLE = "vanilla", 50_000  # images of the paper
OWN = ("tau_rate", "tau_weight_decay", "ends", "tau", "axes")  # keys that affect mean-field trainings only
PUBLISHED: MappingProxyType[tuple[str, str], tuple[float, float]] = MappingProxyType(
    {
        ("cifar10", "resnet20"): (8.75, 8.19),
        ("cifar10", "resnet32"): (7.51, 7.15),
        ("cifar10", "resnet44"): (7.17, 6.91),
        ("cifar10", "resnet56"): (6.97, 6.72),
        ("cifar10", "resnet110"): (6.37, 6.10),
        ("cifar10", "resnet164"): (5.46, 5.19),
        ("cifar100", "resnext29_8x64d"): (17.92, 17.53),
        ("cifar100", "resnext29_16x64d"): (17.65, 16.81),
    }
)  # test errors in %, vanilla and mean-field: Lu et al. (arXiv:2003.05508), table 1


class Comparison(NamedTuple):
    """A network trained with both methods.

    Attributes
    ----------
    network, images, variant : str
        Architecture, data set, and what tells this mean-field network from others of the run ("" if nothing does).
    verified : bool
        Whether the images are the published ones, by their digests.
    train, epochs, backend : int, int, str
        Images trained on, epochs, and where it was trained.
    seeds : tuple of int
        S.
    s : ndarray (F,)
        Epochs of the frames.
    vanilla, mean_field : ndarray (S, F)
        Test error in %.
    switches : ndarray (S, F)
        Pairs of blocks that changed places since the frame before.
    paths : tuple of str
        Trajectories of the mean-field members.
    test : PairedTest
        Errors at the end, mean-field minus vanilla.
    """

    network: str
    images: str
    variant: str
    verified: bool
    train: int
    epochs: int
    backend: str
    seeds: tuple[int, ...]
    s: Array
    vanilla: Array
    mean_field: Array
    switches: Array
    paths: tuple[str, ...]
    test: PairedTest


class Run(NamedTuple):
    """A training that reached its end: documents of its file, the file, and series (F,)."""

    study: Spec
    energy: Spec
    provenance: Spec
    path: str
    s: Array
    error: Array
    switches: Array


def pair_key(study: Spec) -> str:
    """Tables that the two members of a pair share, as JSON."""
    rest = {key: value for key, value in study.items() if key != "seed"}
    training = {key: value for key, value in study["training"].items() if key not in ("method", *OWN)}
    return json.dumps(rest | {"training": training}, sort_keys=True)


def comparisons(work: Workspace) -> list[Comparison]:
    """Comparisons of a run, in the study's order.

    Raises
    ------
    InputError
        If no seed has both members at their end.
    """
    groups: dict[str, list[Run]] = {}
    for _, _, trajectory in finished_members(work):
        if "training" in trajectory.parameters["energy"]:
            run = _run(trajectory)
            groups.setdefault(pair_key(run.study), []).append(run)
    found = [comparison for group in groups.values() for comparison in _comparisons(group)]
    if not found:
        raise InputError(f"{work.folder}: expected a seed whose two trainings came to their end, got none")
    return found


def _run(trajectory: Trajectory) -> Run:
    study, energy, provenance = (trajectory.parameters[name] for name in ("study", "energy", "provenance"))
    s, error, switches = (trajectory.series(name) for name in ("s", "test_error", "switches"))
    return Run(study, energy, provenance, str(trajectory.path), s, error, np.diff(switches, prepend=0))


def _comparisons(group: Sequence[Run]) -> list[Comparison]:
    """Comparisons among members that differ in seed, method and the keys of mean-field trainings."""
    vanilla: dict[int, Run] = {}
    variants: dict[str, dict[int, Run]] = {}
    for run in group:
        training = run.study["training"]
        own = json.dumps({key: training[key] for key in OWN})
        same = vanilla if training["method"] == VANILLA else variants.setdefault(own, {})
        same[run.study["seed"]] = run
    tables = [json.loads(own) for own in variants]
    varied = [key for key in OWN if len({json.dumps(table[key]) for table in tables}) > 1]
    out = []
    for table, members in zip(tables, variants.values(), strict=True):
        seeds = tuple(sorted(members.keys() & vanilla.keys()))
        if seeds:
            label = ", ".join(f"{key} = {table[key]}" for key in varied)
            out.append(_comparison(label, seeds, [vanilla[k] for k in seeds], [members[k] for k in seeds]))
    return out


def _comparison(label: str, seeds: tuple[int, ...], plain: Sequence[Run], moved: Sequence[Run]) -> Comparison:
    first, images = plain[0], plain[0].energy["images"]
    errors = [100 * np.stack([run.error for run in runs]) for runs in (plain, moved)]
    return Comparison(
        network=first.study["training"]["network"],
        images=images["name"],
        variant=label,
        verified=images["verified"],
        train=images["train"],
        epochs=round(float(first.s[-1])),
        backend=first.provenance.get("backend", ""),
        seeds=seeds,
        s=first.s,
        vanilla=errors[0],
        mean_field=errors[1],
        switches=np.stack([run.switches for run in moved]),
        paths=tuple(run.path for run in moved),
        test=paired_test(errors[0][:, -1].tolist(), errors[1][:, -1].tolist()),
    )


def published(of: Comparison) -> tuple[float, float] | None:
    """Test errors of the paper in %, vanilla and mean-field; None if there are none or the images are fewer."""
    return PUBLISHED.get((of.images, of.network)) if of.train == _WHOLE else None


def rows(found: Sequence[Comparison]) -> list[Spec]:
    """Numbers of the comparisons, as plain JSON."""
    out = []
    for of in found:
        paper, test = published(of) or (None, None), of.test._asdict()
        row = {
            "network": of.network,
            "images": of.images,
            "verified": "yes" if of.verified else "no, re-encoded",
            "variant": of.variant,
            "train": of.train,
            "epochs": of.epochs,
            "backend": of.backend,
            "seeds": test.pop("pairs"),
        }
        for method, errors in (("vanilla", of.vanilla[:, -1]), ("mean_field", of.mean_field[:, -1])):
            row[method] = float(errors.mean())
            row[f"{method}_sd"] = float(np.std(errors, ddof=1)) if len(errors) > 1 else np.nan
        switches = {"switches": float(of.switches.sum(axis=1).mean())}
        out.append(row | test | switches | {"paper_vanilla": paper[0], "paper_mean_field": paper[1]})
    return out


def sentence(of: Comparison) -> str:
    """Outcome of a comparison in words, no stronger than its pairs support."""
    row, test = rows([of])[0], of.test
    paper = published(of)
    arm, pairs = f" ({of.variant})" if of.variant else "", "1 pair" if test.pairs == 1 else f"{test.pairs} pairs"
    epochs = f"{of.epochs} epoch{'s' * (of.epochs != 1)}"
    text = (
        f"{of.network}, {of.train} images of {of.images}, {epochs}, {pairs}: test error "
        f"{with_sd(row, 'vanilla')}% vanilla, {with_sd(row, 'mean_field')}% mean-field{arm}, difference "
        f"{_difference(row)}; {', '.join(each.sentence for each in conclusion(test))}"
    )
    text += f"; the paper has {paper[0]:.2f} and {paper[1]:.2f}." if paper else "."
    return text if of.verified else f"{text} The images are a re-encoded copy, not the published files."


def _difference(row: Spec) -> str:
    """Difference with its interval and sign test; a single pair has neither."""
    if row["seeds"] < 2:
        return f"{row['difference']:+.2f} (one pair gives no interval)"
    return (
        f"{row['difference']:+.2f} (95% {row['low']:+.2f} to {row['high']:+.2f}; signs p = {row['p_signs']:.2g}, "
        f"{row['p_least']:.2g} at the least)"
    )


def with_sd(row: Spec, key: str) -> str:
    """Mean of a comparison's errors with their standard deviation over seeds, if there are at least two."""
    sd = row[f"{key}_sd"]
    return f"{row[key]:.2f}" + (f" ± {sd:.2f}" if np.isfinite(sd) else "")


def histograms(trajectory: Trajectory, bins: int = 10) -> Array:
    """Histograms of the blocks' depths in [0, 1] for every frame and stage, (F, stages, bins).

    Depths outside [0, 1], possible with free ends, count in the nearest bin.
    """
    blocks = trajectory.parameters["energy"]["training"]["blocks"]
    cuts = np.cumsum(blocks)[:-1]
    edges = np.linspace(0.0, 1.0, bins + 1)
    counted = [
        [np.histogram(np.clip(part, 0.0, 1.0), edges)[0] for part in np.split(frame.tau, cuts)] for frame in trajectory
    ]
    return np.array(counted, float)


def _first_and_last(path: str, bins: int) -> Array:
    with Trajectory(path) as trajectory:
        return histograms(trajectory, bins)[[0, -1]]


def depth_rows(found: Sequence[Comparison], bins: int = 10) -> list[Spec]:
    """Histograms of depth at the start and at the end, over all seeds, as plain JSON."""
    out = []
    for of in found:
        counts = np.sum([_first_and_last(path, bins) for path in of.paths], axis=0)
        for stage, part in itertools.product(range(counts.shape[1]), range(bins)):
            first, last = counts[:, stage, part]
            ends = {"low": part / bins, "high": (part + 1) / bins, "first": int(first), "last": int(last)}
            out.append({"network": of.network, "variant": of.variant, "stage": stage + 1} | ends)
    return out
