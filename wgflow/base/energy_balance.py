"""Energy balance along a run: how well the dissipation explains the change of E in every step, and where E rises."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

# Largest change of E that may be rounding, relative to E or to its change so far, by precision.
ROUNDING = {"float64": 64 * 2.0**-52, "float32": 64 * 2.0**-23}


class EnergyBalance(NamedTuple):
    """Sums over the steps of a run without noise and minibatches, since its start.

    Where operators that lower E act after a step (births, birth-death), E_1 below is that of the moved particles before
    they act; of what they do only rises of E count.

    Over a step from E_0 to E_1 the flow's change of E is c = E_1 - E_0, less the integral of dE/ds at a fixed measure
    where E depends on s (trapezoid rule); the dissipation predicts -q with q = h sum_j b_j D_j, the integral of the
    dissipation D by the integrator's own rule over its stages. c + q is the step's defect, O(h**(p + 1)) for a method
    of order p where E is smooth enough, so that the sum of its absolute values is O(h**p). Under Gaps E jumps in steps
    in which particles change places; the defects of such steps, mostly jumps, are summed separately.

    Attributes
    ----------
    steps : float
        Steps measured; all numbers are floats, as in files.
    descent : float
        Sum of |c| over these steps.
    dissipated : float
        Sum of q; NaN where the dissipation is not known between frames.
    defect : float
        Sum of |c + q| over the steps without an order switch; NaN likewise.
    rises : float
        Steps without an order switch in which c > 0 beyond rounding, and others in which operators raised E.
    rise, rise_s : float
        The largest such rise, and the flow time at the end of that step; 0 if there was none.
    risen : float
        Sum of these rises.
    switched : float
        Steps in which particles changed places in depth (Gaps).
    at_switches, risen_at_switches : float
        Sums of |c + q| and of positive c over these steps.
    """

    steps: float = 0.0
    descent: float = 0.0
    dissipated: float = 0.0
    defect: float = 0.0
    rises: float = 0.0
    rise: float = 0.0
    rise_s: float = 0.0
    risen: float = 0.0
    switched: float = 0.0
    at_switches: float = 0.0
    risen_at_switches: float = 0.0

    def after(
        self,
        start: float,
        end: float,
        explicit: float,
        dissipated: float,
        s: float,
        switched: bool,
        rounding: float,
        acted: float = 0.0,
    ) -> EnergyBalance:
        """Balance after one more step.

        Parameters
        ----------
        start, end, s : float
            E before and after the motion, and the flow time at its end.
        explicit, dissipated : float
            Integral of dE/ds at a fixed measure, and q, or NaN.
        switched : bool
            Whether particles changed places in depth.
        rounding : float
            Of :data:`ROUNDING`, for the precision of E.
        acted : float, optional
            Change of E by operators after the motion.
        """
        found = self.after_steps(start, [(end, explicit, dissipated, s, switched)], rounding)
        if not acted > rounding * max(abs(start), abs(end), self.descent):
            return found
        largest = {"rise": acted, "rise_s": s} if acted > found.rise else {}
        return found._replace(rises=self.rises + 1, risen=found.risen + acted, **largest)

    def after_steps(
        self, start: float, steps: Iterable[tuple[float, float, float, float, bool]], rounding: float
    ) -> EnergyBalance:
        """Balance after some more steps, with the bits of one after the other.

        Parameters
        ----------
        start : float
            E before the first.
        steps : iterable of tuple
            ``end``, ``explicit``, ``dissipated``, ``s`` and ``switched`` of each, as in :meth:`after`.
        rounding : float
            Of :data:`ROUNDING`, for the precision of E.
        """
        # One name for each sum, since this runs at every step; the device has the same rule in particles.cu.
        count, descent, total, defects, rises, rise, rise_s, risen, switches, at_switches, risen_at_switches = self
        for end, explicit, dissipated, s, switched in steps:
            change = end - start - explicit
            defect = abs(change + dissipated)
            if switched:
                switches += 1
                at_switches += defect
                risen_at_switches += max(change, 0.0)
            else:
                defects += defect
                if change > rounding * max(abs(start), abs(end), descent):
                    rises += 1
                    risen += change
                    if change > rise:
                        rise, rise_s = change, s
            count += 1
            descent += abs(change)
            total += dissipated
            start = end
        return EnergyBalance(
            count, descent, total, defects, rises, rise, rise_s, risen, switches, at_switches, risen_at_switches
        )

    @property
    def relative(self) -> float:
        """Defect of the steps without an order switch over the descent; NaN if E never changed or it is unknown."""
        return self.defect / self.descent if self.descent > 0 else math.nan


EMPTY = EnergyBalance()
LENGTH = len(EMPTY)
