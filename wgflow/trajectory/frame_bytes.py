"""Bytes of a frame as the file holds them."""

from __future__ import annotations

import math
import struct
from dataclasses import replace

import numpy as np

from wgflow.base.energy_balance import EMPTY
from wgflow.base.errors import InputError, describe
from wgflow.base.types import Array, Frame
from wgflow.base.validate import refuse_masked
from wgflow.trajectory import schema
from wgflow.trajectory.layout import Layout


def encode(frame: Frame, layout: Layout, out_position: Array) -> tuple[Array, Array, bytes, list[bytes]]:
    """Positions (N, P + 1), masses (N,), numbers (eight bytes for each) and arrays of a frame, in the file's types.

    Positions are written into ``out_position``.

    Raises
    ------
    InputError
        If the frame does not have the file's shape or observables, or not real numbers.
    """
    if set(frame.observables) != set(layout.callers):
        names = f"{list(layout.callers)}, as the file has, got {sorted(frame.observables)}"
        raise InputError(f"frame: expected observables {names}")
    measured = {schema.BALANCE: frame.balance or (math.nan,) * len(EMPTY)} | dict(frame.observables)
    if not layout.particles:
        frame = replace(frame, theta=np.empty((0, layout.width - 1)), tau=np.empty(0), mass=np.empty(0))
    for name in ("theta", "tau", "mass"):
        refuse_masked(f"frame: {name}", getattr(frame, name))
    for name, value in frame.observables.items():
        refuse_masked(f"frame: observable {name!r}", value)
    theta, tau, mass = np.asarray(frame.theta), np.asarray(frame.tau), np.ascontiguousarray(frame.mass)
    if any(array.dtype.kind not in "biuf" for array in (theta, tau, mass)):
        raise InputError(f"frame: expected real numbers, got {theta.dtype}, {tau.dtype}, {mass.dtype}")
    count, parameters = layout.particles, layout.width - 1
    if theta.shape != (count, parameters) or tau.shape != (count,) or mass.shape != (count,):
        got = f"theta {theta.shape}, tau {tau.shape}, mass {mass.shape}"
        raise InputError(f"frame: expected {count} particles of {parameters} parameters, got {got}")
    out_position[:, :-1], out_position[:, -1] = theta, tau
    others = [measured[name] for name, shape in layout.observables.items() if not shape]
    arrays = [_array(name, measured[name], shape) for name, shape in layout.observables.items() if shape]
    known = (frame.step, frame.s, frame.energy, frame.dissipation, frame.switches, frame.h)
    try:
        numbers = struct.pack(f"<qdddqd{len(others)}d", *known, *others)
    except (struct.error, TypeError) as error:
        raise InputError(f"frame: expected numbers, got {describe([*known, *others])} ({error})") from error
    return out_position, mass.astype("<f8", copy=False), numbers, arrays


def _array(name: str, value: object, shape: tuple[int, ...]) -> bytes:
    """Bytes of an observable that is an array."""
    values = np.asarray(value)
    if values.shape != shape or values.dtype.kind not in "biuf":
        raise InputError(f"frame: expected observable {name!r} of shape {shape}, got {describe(value)}")
    return values.astype("<f8").tobytes()
