"""Verdicts on power laws: whether something falls or grows with a size, decided by the interval of its exponent."""

from __future__ import annotations

from wgflow.base.verdict import Claim, Verdict, first_that_holds
from wgflow.stats.convergence_rates import Interval, Rate
from wgflow.stats.fit import CrossValidation

FALLS = Claim(
    "power_law_falls", "low end of the 95% interval of its exponent", ">", "",
    holds="{what} falls like {power}",
    fails="{what} shows no significant trend, {power}",
    unknown="{what} has no rate ({reason})",
)  # fmt: skip
GROWS = Claim(
    "power_law_grows", "high end", "<", "",
    holds="{what} grows like {power}",
    fails="{what} shows no significant trend, {power}",
    unknown="{what} has no rate ({reason})",
)  # fmt: skip

BEST = Claim(
    "best_law", "low end of the 95% interval of how much worse {other!r} predicts them", ">", "",
    holds="of the laws {first!r} predicts sizes left out of its fit best",
    fails="of the laws {first!r} predicts sizes left out of its fit best, but not significantly before {other!r}",
    unknown="of the laws {first!r} predicts sizes left out of its fit best, by an unknown margin over {other!r}",
)  # fmt: skip


def trend(exponent: Interval, what: str, power: str, reason: str = "its interval is unknown") -> Verdict:
    """Whether C x**(-r) falls, grows, or does neither significantly, each with an error of at most 2.5%.

    Parameters
    ----------
    exponent : Interval
        r with its 95% interval.
    what, power, reason : str
        What follows the power law, the power in words, and why there is no interval if there is none.
    """
    said = {"what": what, "power": power, "reason": reason}
    return first_that_holds([FALLS(exponent.low, 0.0, **said), GROWS(exponent.high, 0.0, **said)])


def decay(rate: Rate, what: str, power: str) -> Verdict:
    """Whether a statistic falls with the size at a fitted rate; a rate is fitted only where it does."""
    shown = power if rate else rate.reason.removeprefix("no decay: ")
    return FALLS(rate.tested, 0.0, what=what, power=shown, reason=rate.reason)


def best_law(found: CrossValidation) -> Verdict:
    """Whether the law that predicts best does so significantly before the one that comes nearest to it."""
    nearest = min(range(1, len(found.laws)), key=lambda k: found.behind[k].low)
    return BEST(found.behind[nearest].low, 0.0, first=found.laws[0], other=found.laws[nearest])
