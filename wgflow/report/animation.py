"""Animation of the particles in depth and parameters for the page, with a slider over flow time."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from importlib import resources
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from wgflow.base.errors import InputError
from wgflow.base.types import Array, Frame
from wgflow.model.projections import principal_directions, projection_matrix
from wgflow.report import style
from wgflow.report.member_selection import LEGIBLE, evenly_spaced, representative
from wgflow.study.workspace import Workspace
from wgflow.trajectory import Trajectory

MAX_PARTICLES, MAX_FRAMES = LEGIBLE, 120  # drawn; of more an evenly spaced subset
_LARGEST = 1e100  # parameter that can be drawn
_AXES = {"tau": "depth τ", "pc1": "first principal component of θ", "pc2": "second principal component of θ"}
_WIDTH, _HEIGHT, _LOSS, _LEFT, _BOTTOM, _TOP = 820, 400, 90, 62, 44, 12


def particle_animation(trajectory: Trajectory) -> str:
    """Self-contained HTML figure with the particles of a run, a slider and a play button.

    Drawn are depth and the first principal component of theta, or the first two components if tau does not move. Empty
    if there are fewer than two frames.
    """
    frames = _frames(trajectory)
    if len(frames) < 2:
        return ""
    tau = np.stack([frame.tau for frame in frames])
    axes = ["tau", "pc1"] if (tau != tau[0]).any() else ["pc1", "pc2"]
    chosen = np.unique(np.linspace(0, tau.shape[1] - 1, MAX_PARTICLES).astype(int))
    onto = projection_matrix(
        axes, frames[0].theta.shape[1], lambda: principal_directions(frame.theta for frame in frames)
    )
    places = np.stack([np.column_stack([frame.theta, frame.tau])[chosen] @ onto for frame in frames])  # (F, n, 2)
    inner = (_LEFT, _WIDTH - 12, _HEIGHT - _BOTTOM, _TOP)
    x, x_ticks = _scaled(places[:, :, 0], *inner[:2], unit=axes[0] == "tau")
    y, y_ticks = _scaled(places[:, :, 1], *inner[2:])
    s, energy = np.array([frame.s for frame in frames]), np.array([frame.energy for frame in frames])
    cursor, s_ticks = _scaled(s, *inner[:2])
    logarithmic = bool((energy > 0).all())
    loss, loss_ticks = _scaled(np.log10(energy) if logarithmic else energy, _HEIGHT + _LOSS, _HEIGHT + 14)
    loss_ticks = [(at, 10**value) for at, value in loss_ticks] if logarithmic else loss_ticks
    order = np.argsort(np.argsort(tau[0][chosen], kind="stable"))
    colours = style.SEQUENCE
    data = {
        "x": _rounded(x), "y": _rounded(y), "cursor": _rounded(cursor), "r": 4 if len(chosen) <= 64 else 2.6,
        "s": [f"{value:.4g}" for value in s], "energy": [f"{value:.4g}" for value in energy],
        "colour": [f"var(--{colours[k * len(colours) // len(chosen)][1:]})" for k in order],
    }  # fmt: skip
    curve = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(cursor, loss, strict=True))
    drawing = "".join(
        [
            _ticks(x_ticks, "x", inner[2], inner[3]),
            _ticks(y_ticks, "y", inner[0], inner[1]),
            _ticks(s_ticks, "x", _HEIGHT + _LOSS, _HEIGHT + 14),
            _ticks(loss_ticks, "y", *inner[:2], form="{:.2g}"),
            _label(_AXES[axes[0]], (inner[0] + inner[1]) / 2, _HEIGHT - 6),
            _label(_AXES[axes[1]], 14, (inner[2] + inner[3]) / 2, turned=True),
            _label("flow time s", (inner[0] + inner[1]) / 2, _HEIGHT + _LOSS + 34),
            _label("E", 14, _HEIGHT + (_LOSS + 14) / 2, turned=True),
            f'<polyline class="loss" points="{curve}"/>',
            f'<line class="cursor" y1="{_HEIGHT + 14}" y2="{_HEIGHT + _LOSS}"/>',
            '<g class="trails"></g><g class="dots"></g>',
        ]
    )
    equal = all(frame.mass.min() == frame.mass.max() for frame in frames)
    masses = "" if equal else " Particles of different mass are drawn alike."
    count = f"{len(chosen)} of {tau.shape[1]}" if len(chosen) < tau.shape[1] else str(tau.shape[1])
    caption = (
        f"{count} particles in {_AXES[axes[0]]} and {_AXES[axes[1]]}, coloured by their depth at the start "
        f"(light to dark); below, the loss. Use the slider or the arrow keys.{masses} {trajectory.path.stem}"
    )
    script = resources.files(__package__).joinpath("animation.js").read_text(encoding="utf-8")
    return (
        '<figure class="moving"><div class="controls"><button type="button">Play</button>'
        '<input type="range" min="0" max="1" value="0" step="1" aria-label="flow time"><output></output></div>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT + _LOSS + 42}" role="img" aria-label="particles moving">{drawing}</svg>'
        f"<figcaption>{html.escape(caption)}</figcaption>"
        f'<script type="application/json">{json.dumps(data)}</script><script>{script}</script></figure>'
    )


def run_animation(work: Workspace) -> str:
    """Animation of a run's member with the largest N that can be drawn in full; empty if none has two frames."""
    try:
        path = representative(work, most=MAX_PARTICLES)
    except InputError:
        return ""
    with Trajectory(path) as trajectory:
        return particle_animation(trajectory)


def _frames(trajectory: Trajectory) -> list[Frame]:
    """Evenly spaced frames, without those whose numbers are not finite or too large to be scaled."""
    frames = (trajectory[number] for number in evenly_spaced(len(trajectory), MAX_FRAMES))
    return [
        frame
        for frame in frames
        if np.isfinite(frame.energy) and (np.abs(frame.theta) < _LARGEST).all() and (np.abs(frame.tau) < _LARGEST).all()
    ]


def _scaled(values: Array, start: float, end: float, unit: bool = False) -> tuple[Array, list[tuple[float, float]]]:
    """Values mapped to coordinates from start to end, and ticks (coordinate, value)."""
    low, high = (min(0.0, values.min()), max(1.0, values.max())) if unit else (values.min(), values.max())
    margin = max(0.02 * (high / 2 - low / 2) * 2, 1e-6 * max(abs(low), abs(high))) or 1.0
    low, high = low - margin, high + margin
    ticks = [tick for tick in MaxNLocator(6, min_n_ticks=2).tick_values(low, high) if low <= tick <= high]

    def to(value: Any) -> Any:
        return start + (value - low) / (high - low) * (end - start)

    return to(values), [(float(to(tick)), float(tick)) for tick in ticks]


def _ticks(ticks: Sequence[tuple[float, float]], axis: str, start: float, end: float, form: str = "{:.4g}") -> str:
    """Grid lines and tick labels."""
    out = []
    for at, value in ticks:
        text = form.format(value).replace("e-0", "e-").replace("e+0", "e").replace("-", "−")
        if axis == "x":
            out.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{start}" y2="{end}"/>')
            out.append(f'<text x="{at:.1f}" y="{start + 17}" text-anchor="middle">{text}</text>')
        else:
            out.append(f'<line x1="{start}" x2="{end}" y1="{at:.1f}" y2="{at:.1f}"/>')
            out.append(f'<text x="{start - 6}" y="{at + 4:.1f}" text-anchor="end">{text}</text>')
    return f'<g class="grid">{"".join(out)}</g>'


def _label(text: str, x: float, y: float, turned: bool = False) -> str:
    turn = f' transform="rotate(-90 {x} {y})"' if turned else ""
    return f'<text class="label" x="{x}" y="{y}" text-anchor="middle"{turn}>{html.escape(text)}</text>'


def _rounded(values: Array) -> Any:
    return np.round(values, 1).tolist()
