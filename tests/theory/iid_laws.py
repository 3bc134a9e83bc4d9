"""Laws of full support on Theta x [0, 1] for tests: uniform on sphere, ball and box, as picklable functions."""

from functools import partial

import numpy as np

from wgflow.base import rng


def sphere(parameters, radius=1.0):
    return partial(_in_ball, "sphere", parameters, radius, 0.0)


def ball(parameters, radius=1.0):
    return partial(_in_ball, "ball", parameters, radius, 1.0 / parameters)


def box(parameters, radius=1.0):
    return partial(_in_box, parameters, radius)


LAWS = {"sphere": sphere, "ball": ball, "box": box}


def _in_ball(name, parameters, radius, power, count, seed):
    direction = rng.normal(seed, f"reference {name}", (count, parameters))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    depth, share = rng.uniform(seed, f"reference {name}, depth and radius", (count, 2)).T
    return radius * (share**power)[:, None] * direction, depth


def _in_box(parameters, radius, count, seed):
    numbers = rng.uniform(seed, "reference box", (count, parameters + 1))
    return radius * (2 * numbers[:, :-1] - 1), numbers[:, -1]
