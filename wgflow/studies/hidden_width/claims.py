"""Claims on output errors over depth and width: that they fall, how the law fits, what moves its constants."""

from __future__ import annotations

import numpy as np

from wgflow.base.types import Array
from wgflow.base.verdict import Claim, Verdict
from wgflow.report.wording import interval, number
from wgflow.stats.trends import best_law
from wgflow.studies.hidden_width.reduce import HAND_FIT, Errors

_KNOWN = 30.0  # ratio of the ends of an interval up to which a constant is known to be there
_NEAR, _FAR = 1.5, 3.0  # factors by which a law may miss the errors in the mean, and at any size

SHRINKS = Claim(
    "output_error_shrinks", "rms output error at the largest size", "<", "at the smallest",
    holds="from (L, M) = {least} to {most} the rms output error falls from {first} to {last}",
    fails="from (L, M) = {least} to {most} the rms output error does not shrink: {first} and {last}",
    unknown="the rms output error at (L, M) = {least} and {most} is not known",
)  # fmt: skip
ALONG = Claim(
    "output_error_falls_along", "largest ratio of the last error to the first, of all {of}s", "<", "",
    holds="the error falls at every {of}",
    fails="the error falls at {count} {of}s",
    unknown="the error at each {of}",
)  # fmt: skip
NEAR = Claim(
    "hidden_width_law_near", "factor by which it misses the errors in the mean", "<", "",
    holds="the law c1 √(D/(LM)) + c2/L fits it with c1 = {c1} and c2 = {c2}, within a factor of {worst} at every size "
    "and of {left:.2g} in the mean",
    fails="the law c1 √(D/(LM)) + c2/L with its best c1 = {c1} and c2 = {c2} misses it by a factor of {mean} in "
    "the mean",
    unknown="the law c1 √(D/(LM)) + c2/L was not fitted",
)  # fmt: skip
TERMS = Claim(
    "hidden_width_law_terms", "largest ratio of the ends of an interval, of $c_1$ and $c_2$", "<", "",
    holds="Both constants of the law are known",
    fails="Error against the number of blocks: $c_1$ or $c_2$ is not known",
    unknown="Error against the number of blocks",
)  # fmt: skip
TRADED = Claim(
    "depth_width_traded", "factor by which the law misses the errors in the mean", "<", "",
    holds="Depth and width traded: $LM$ decides until $c_2/L$",
    fails="Error against the number of blocks: the law misses it",
    unknown="Error against the number of blocks",
)  # fmt: skip
STOPS = Claim(
    "width_stops_at_depth_term", "least error over $c_2/L$", ">", "",
    holds="it stops at $c_2/L$",
    fails="the error falls at every depth, below $c_2/L$",
    unknown="the error at each depth",
)  # fmt: skip
DATA_MATTERS = Claim(
    "data_move_constants", "least factor between single draws, of c1 and c2", ">", "",
    holds="Constants: the draw of the data matters",
    fails="Constants: alike for all draws of the data",
    unknown="Constants of the law",
)  # fmt: skip
INSIDE = Claim(
    "hand_constant_inside", "distance of {name} from the middle of the interval, of its half width", "<=", "",
    holds="{name} = {value} is inside its interval",
    fails="{name} = {value} is outside its interval",
    unknown="{name} = {value} has no interval to compare with",
)  # fmt: skip


def shrinks(found: Errors) -> Verdict:
    """Whether the error of the largest network is below that of the smallest."""
    sizes, rms = found.sizes, found.letter.rms
    there = np.argwhere(np.isfinite(rms))
    least, most = ((sizes.depths[i], sizes.widths[j]) for i, j in (there[0], there[-1]))
    first, last = (float(rms[tuple(place)]) for place in (there[0], there[-1]))
    return SHRINKS(last, first, least=least, most=most, first=number(first), last=number(last))


def near(found: Errors) -> Verdict:
    """Whether the law fits the errors within a factor of 1.5 in the mean."""
    law = found.letter
    ratio, mean = law.rms / law.predicted, float(np.exp(law.residual**0.5))
    worst = number(float(np.nanmax(np.maximum(ratio, 1 / ratio))))
    c1, c2 = (interval(*each[:3], ".3g") for each in (law.width, law.depth))
    return NEAR(mean, _NEAR, c1=c1, c2=c2, worst=worst, mean=number(mean))


def along(rms: Array, of: str) -> Verdict:
    """Whether the last error is below the first in every column of errors (n, m) that has two."""
    columns = [column[np.isfinite(column)] for column in rms.T]
    ends = [(column[-1], column[0]) for column in columns if len(column) > 1]
    ratio = np.array([last / first if first > 0 else np.inf for last, first in ends])
    falling = int((ratio < 1).sum())
    return ALONG.of_all(ratio, 1.0, of=of, count=f"{falling} of {len(ratio)}" if falling else "none of the")


def traded(found: Errors) -> Verdict:
    """Whether both constants of the law are known within a factor of 30, and it is near the errors in the mean.

    Intervals of the logarithms never reach 0, so that their width says whether a term is there.
    """
    law = found.letter
    ratio = [each.high / each.low if each.low > 0 else each.high * np.inf for each in (law.depth, law.width)]
    terms = TERMS(max(ratio), _KNOWN)
    if not terms.holds:
        return terms
    fits = TRADED(float(np.exp(law.residual**0.5)), _NEAR)
    return Verdict(fits.sentence, terms.inequalities + fits.inequalities)


def stops(found: Errors) -> Verdict:
    """Whether more width lowers every error, none far below the law's term of depth, where the law holds."""
    falling, law = along(found.letter.rms.T, "depth"), traded(found)
    if not (falling.holds and law.holds):
        return falling
    term = found.letter.depth.value / np.array(found.sizes.depths, float)[:, None]
    least = STOPS(float(np.nanmin(found.letter.rms / term)), 1 / _FAR)
    return Verdict(least.sentence, falling.inequalities + law.inequalities + least.inequalities)


def data_matters(found: Errors) -> Verdict:
    """Whether both constants differ by a factor of 1.5 between single draws of the data."""
    single = found.single[np.isfinite(found.single).all(axis=1)]
    if len(single) < 2:
        return DATA_MATTERS(np.nan, _NEAR)
    with np.errstate(divide="ignore", invalid="ignore"):
        return DATA_MATTERS(float((single.max(axis=0) / single.min(axis=0)).min()), _NEAR)


def by_hand(found: Errors) -> list[Verdict]:
    """Whether each constant that the paper's code has by hand is inside the interval of the fit."""
    out = []
    for name, fit, value in zip(("c1", "c2"), (found.letter.width, found.letter.depth), HAND_FIT, strict=True):
        middle, half = (fit.low + fit.high) / 2, (fit.high - fit.low) / 2
        off = abs(value - middle) / half if np.isfinite(half) and half > 0 else np.nan
        out.append(INSIDE(off, 1.0, name=name, value=value))
    return out


def verdicts(found: Errors) -> list[Verdict]:
    """All claims on the errors and on the law."""
    return [
        shrinks(found), along(found.letter.rms, "width"), stops(found), near(found), traded(found),
        best_law(found.choice), data_matters(found), *by_hand(found),
    ]  # fmt: skip
