"""Baselines on the same samples: ridge regression, kernel ridge and a perceptron.

They come from scikit-learn; their hyperparameters are chosen on the training samples alone.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from wgflow.base.errors import InputError
from wgflow.base.types import Array
from wgflow.model.problem import Problem
from wgflow.studies.convergence.reduce import COUNT, groups
from wgflow.study.workspace import MemberFile, Workspace
from wgflow.trajectory import Trajectory

_SHRINK = np.logspace(-3, 4, 29)  # strengths of ridge regression
_KERNEL = {"alpha": np.logspace(-2, 1, 4), "gamma": np.logspace(-2, 1, 4)}  # gamma in units of 1 / D_in
_DECAY = {"alpha": [1e-3, 1e-1, 1.0, 10.0]}  # weight decay of the perceptron


class Score(NamedTuple):
    """Score of a model.

    Attributes
    ----------
    model, parameters : str, int
        Its name, and how many numbers are fitted.
    train, heldout : float
        The problem's loss on the training and on the held-out samples; NaN where the model gives no probabilities.
    train_error, heldout_error : float
        Fraction of samples whose class is wrong; NaN for a regression.
    """

    model: str
    parameters: int
    train: float
    heldout: float
    train_error: float
    heldout_error: float


def scores(work: Workspace) -> list[tuple[str, list[Score]]]:
    """Scores by group: largest fitted N, its reference, other models; raises InputError without held-out samples."""
    out = []
    for group in groups(work):
        own = []
        for n in (group.sizes[-1], group.reference):
            same = [file for file in group.files if file.reference == (n == group.reference)]
            files = [file for file in same if file.values.get(COUNT) == n]
            own.append(networks(files, f"mean-field network, N = {n}"))
        score, train, heldout = own[0]
        out.append((group.label, [network[0] for network in own] + others(train, heldout, score.parameters)))
    return out


def networks(files: Sequence[MemberFile], name: str) -> tuple[Score, Problem, Problem]:
    """Mean score of members at the end, and the two problems scored on; raises InputError without held-out samples."""
    scores = []
    for file in files:
        with Trajectory(file.path) as trajectory:
            train, heldout, rho = trajectory.energy("data"), trajectory.energy("heldout"), trajectory[-1].particles
        predict = functools.partial(train.predict, rho)
        scores.append(_score(name, rho.theta.size, train.problem, heldout.problem, predict))
    if not scores:
        raise InputError("models: expected members to score, got none")
    means = np.mean([score[2:] for score in scores], axis=0)
    return Score(name, scores[0].parameters, *map(float, means)), train.problem, heldout.problem


def others(train: Problem, heldout: Problem, parameters: int) -> list[Score]:
    """Scores of other models, a perceptron of about so many parameters; raises InputError for too few samples."""
    from threadpoolctl import threadpool_limits

    inputs, outputs = train.x.shape[1], train.y.shape[1]
    width = max(1, round((parameters - outputs) / (inputs + 1 + outputs)))
    models = _models(width, inputs, classes=train.loss.name == "cross_entropy")
    sizes = {"perceptron": width * (inputs + 1 + outputs) + outputs, "kernel ridge": train.y.size}
    scores = []
    with warnings.catch_warnings(), threadpool_limits(1):  # one thread: the same bits whatever the machine
        warnings.simplefilter("ignore")  # a perceptron that has not converged, constant features
        for name, (model, labels) in models.items():
            target = train.y.argmax(axis=1) if labels else train.y
            try:
                model.fit(train.x, target[:, 0] if target.ndim == 2 and target.shape[1] == 1 else target)
            except ValueError as error:  # too few samples, or a class without any
                raise InputError(f"models: expected samples that {name} can be fitted to ({error})") from error
            predict = model.predict_log_proba if labels else lambda x, model=model: model.predict(x).reshape(len(x), -1)
            count = sizes.get(name.split(",")[0], (inputs + 1) * outputs)
            scores.append(_score(name, count, train, heldout, predict, probabilities=labels))
    return scores


def _score(
    name: str, parameters: int, train: Problem, heldout: Problem, outputs: Any, probabilities: bool = True
) -> Score:
    """Losses, and for classes the error rates; logarithms of probabilities serve as outputs of cross-entropy."""
    classes = train.loss.name == "cross_entropy"
    loss, error = [], []
    for problem in (train, heldout):
        answer: Array = outputs(problem.x)
        wrong = answer.argmax(axis=1) != problem.y.argmax(axis=1)
        error.append(float(np.mean(wrong)) if classes else np.nan)
        known = probabilities or not classes
        loss.append(float(np.mean(problem.loss.value(answer, problem.y))) if known else np.nan)
    return Score(name, parameters, *loss, *error)


def _models(width: int, inputs: int, classes: bool) -> dict[str, tuple[Any, bool]]:
    """Models by name, and whether they are fitted to class numbers."""
    from sklearn.kernel_ridge import KernelRidge
    from sklearn.linear_model import LogisticRegressionCV, RidgeCV
    from sklearn.model_selection import GridSearchCV, ShuffleSplit
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    logistic = LogisticRegressionCV(Cs=6, cv=4, scoring="neg_log_loss", max_iter=500)
    kernel = {"alpha": _KERNEL["alpha"], "gamma": _KERNEL["gamma"] / inputs}
    network = MLPClassifier if classes else MLPRegressor
    perceptron = network(hidden_layer_sizes=(width,), activation="tanh", random_state=0)
    kernel_ridge = GridSearchCV(KernelRidge(kernel="rbf"), kernel, cv=4, scoring="neg_mean_squared_error")
    tuned = GridSearchCV(perceptron, _DECAY, cv=ShuffleSplit(1, test_size=0.2, random_state=0))
    models = {
        "ridge regression": (RidgeCV(_SHRINK), False),
        "logistic regression": (logistic, True),
        "kernel ridge": (kernel_ridge, False),
        f"perceptron, {width} units": (tuned, classes),
    }
    if not classes:
        del models["logistic regression"]
    return models
