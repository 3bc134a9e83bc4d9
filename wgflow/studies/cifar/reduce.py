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
from wgflow.report.member_selection import reached_end
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
    train, epochs : int
        Images trained on, and epochs.
    backend : str
        Where it was trained.
    seeds : tuple of int
        S.
    s : ndarray (F,)
        Epochs of the frames.
    vanilla, mean_field : ndarray (S, F)
        Test error in %.
    switches : ndarray (S, F)
        Pairs of blocks that changed places since the frame before.
    paths : tuple of Path-like str
        Trajectories of the mean-field members.
    test : Paired
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
    """A training that reached its end.

    Attributes
    ----------
    study, energy, provenance : dict
        Documents of its file.
    path : str
        The file.
    s, error, switches : ndarray (F,)
        Series.
    """

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
    for member in work.members():
        ended = _run(member.path)
        if ended is not None:
            groups.setdefault(pair_key(ended.study), []).append(ended)
    found = [each for group in groups.values() for each in _comparisons(group)]
    if not found:
        raise InputError(f"{work.folder}: expected a seed whose two trainings came to their end, got none")
    return found


def _run(path: object) -> Run | None:
    with Trajectory(str(path)) as trajectory:
        if not reached_end(trajectory) or "training" not in trajectory.parameters["energy"]:
            return None
        told = trajectory.parameters
        s, error, switches = (trajectory.series(name) for name in ("s", "test_error", "switches"))
        since = np.diff(switches, prepend=0)
        return Run(told["study"], told["energy"], told["provenance"], str(path), s, error, since)


def _comparisons(group: Sequence[Run]) -> list[Comparison]:
    """Comparisons among members that differ in seed, method and the keys of mean-field trainings."""
    vanilla = {each.study["seed"]: each for each in group if each.study["training"]["method"] == VANILLA}
    variants: dict[str, dict[int, Run]] = {}
    for each in group:
        if each.study["training"]["method"] != VANILLA:
            own = json.dumps({key: each.study["training"][key] for key in OWN})
            variants.setdefault(own, {})[each.study["seed"]] = each
    told = [json.loads(own) for own in variants]
    varied = [key for key in OWN if len({json.dumps(each[key]) for each in told}) > 1]
    out = []
    for own, members in zip(told, variants.values(), strict=True):
        seeds = tuple(sorted(members.keys() & vanilla.keys()))
        if seeds:
            label = ", ".join(f"{key} = {own[key]}" for key in varied)
            out.append(_comparison(label, seeds, [vanilla[k] for k in seeds], [members[k] for k in seeds]))
    return out


def _comparison(label: str, seeds: tuple[int, ...], plain: Sequence[Run], moved: Sequence[Run]) -> Comparison:
    first, images = plain[0], plain[0].energy["images"]
    errors = [100 * np.stack([each.error for each in some]) for some in (plain, moved)]
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
        switches=np.stack([each.switches for each in moved]),
        paths=tuple(each.path for each in moved),
        test=paired_test(errors[0][:, -1].tolist(), errors[1][:, -1].tolist()),
    )


def published(of: Comparison) -> tuple[float, float] | None:
    """Test errors of the paper in %, vanilla and mean-field; None if there are none or the images are fewer."""
    return PUBLISHED.get((of.images, of.network)) if of.train == _WHOLE else None


def rows(found: Sequence[Comparison]) -> list[Spec]:
    """Numbers of the comparisons, as plain JSON."""
    out = []
    for each in found:
        paper, test = published(each) or (None, None), each.test
        spread = [float(np.std(some[:, -1], ddof=1)) if test.pairs > 1 else np.nan for some in each[9:11]]
        out.append(
            {
                "network": each.network,
                "images": each.images,
                "verified": "yes" if each.verified else "no, re-encoded",
                "variant": each.variant,
                "train": each.train,
                "epochs": each.epochs,
                "backend": each.backend,
                "seeds": test.pairs,
                "vanilla": float(each.vanilla[:, -1].mean()),
                "vanilla_sd": spread[0],
                "mean_field": float(each.mean_field[:, -1].mean()),
                "mean_field_sd": spread[1],
                "difference": test.difference,
                "low": test.low,
                "high": test.high,
                "p_signs": test.p_signs,
                "p_least": test.p_least,
                "lower": test.lower,
                "higher": test.higher,
                "equal": test.equal,
                "switches": float(each.switches.sum(axis=1).mean()),
                "paper_vanilla": paper[0],
                "paper_mean_field": paper[1],
            }
        )
    return out


def sentence(of: Comparison) -> str:
    """Outcome of a comparison in words, no stronger than its pairs support."""
    row, test = rows([of])[0], of.test
    paper = published(of)
    arm, pairs = f" ({of.variant})" if of.variant else "", "1 pair" if test.pairs == 1 else f"{test.pairs} pairs"
    told = (
        f"{of.network}, {of.train} images of {of.images}, {of.epochs} epochs, {pairs}: test error "
        f"{with_sd(row, 'vanilla')}% vanilla, {with_sd(row, 'mean_field')}% mean-field{arm}, difference "
        f"{told_difference(row)}; {conclusion(test)}"
    )
    told += f"; the paper has {paper[0]:.2f} and {paper[1]:.2f}." if paper else "."
    return told if of.verified else f"{told} The images are a re-encoded copy, not the published files."


def told_difference(row: Spec) -> str:
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
    for each in found:
        counts = sum(_first_and_last(path, bins) for path in each.paths)
        assert isinstance(counts, np.ndarray)  # there is a path
        for stage, part in itertools.product(range(counts.shape[1]), range(bins)):
            out.append(
                {
                    "network": each.network,
                    "variant": each.variant,
                    "stage": stage + 1,
                    "low": part / bins,
                    "high": (part + 1) / bins,
                    "first": int(counts[0, stage, part]),
                    "last": int(counts[1, stage, part]),
                }
            )
    return out
