"""What the runner asks of a system: the objects of a member, their cost, and what is measured of them.

A system is a kind of member: a measure of residual blocks, a feature network, a training run of an image network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from wgflow.base.errors import InputError
from wgflow.base.types import Array, Frame, Spec
from wgflow.kernels.auto import Choice
from wgflow.study.grid import RunPlan
from wgflow.study.schema import Member
from wgflow.study.tables import FlowTable

STEP_OVERHEAD = 2e4  # work of a step of any size


class Setup(NamedTuple):
    """Objects of a member.

    Attributes
    ----------
    system : System
        The kind of member.
    energy : Energy, PackedNetwork or Trained
        What is minimised.
    heldout : Energy or PackedNetwork or None
        The same on the held-out samples.
    flow : Flow, Motion or Course
        The flow.
    start : Particles, Begin or Trained
        The initial measure.
    """

    system: System
    energy: Any
    heldout: Any
    flow: Any
    start: Any

    def run(
        self,
        frame: Frame | None,
        member: Member,
        on_step: Callable[[int, float], None] | None = None,
        every: float | None = None,
    ) -> Iterator[Frame]:
        """Frames after a frame, or from the start; those the member asks for, or one every so much flow time."""
        until, every = member.flow.until, every or member.flow.every
        frames: Iterator[Frame] = self.flow.run(frame or self.start, until, every, on_step)
        return frames

    def measure(self, frame: Frame, names: Sequence[str]) -> dict[str, float | Array]:
        """Observables of a frame by name."""
        return {name: self.system.observables[name].measure(frame, self) for name in names}

    def shapes(self, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
        """Shapes of observables by name."""
        return {name: self.system.observables[name].shape(self) for name in names}


class Observable(NamedTuple):
    """Quantity recorded with every frame.

    Attributes
    ----------
    measure : callable
        From a frame and the member's objects to a number or an array.
    shape : callable
        From the member's objects to the array's shape, () for a number.
    """

    measure: Callable[[Frame, Setup], float | Array]
    shape: Callable[[Setup], tuple[int, ...]] = lambda _: ()


class System(Protocol):
    """Kind of member: how it is built, what it costs, what is measured.

    Attributes
    ----------
    observables : mapping of str to Observable
        What may be measured.
    packages : tuple of str
        Packages it needs beside those of every run.
    largest_timed : int
        Particles beyond which the time of a step grows in proportion to :meth:`size`.
    """

    observables: Mapping[str, Observable]
    packages: tuple[str, ...] = ()
    largest_timed: int = 256

    def owns(self, member: Member) -> bool:
        """Whether a member is of this kind."""
        ...

    def build(self, member: Member, backend: str, threads: int | None) -> Setup:
        """Build the objects of a member.

        Raises
        ------
        InputError
            If the tables do not fit together or the data cannot be read.
        BackendError
            If the backend is not available.
        """
        ...

    def auto(self, plans: Sequence[RunPlan]) -> Choice:
        """Backend that ``auto`` stands for, for members of this kind."""
        ...

    def device(self, setup: Setup) -> str | None:
        """Name of the GPU that a member runs on; None on a CPU."""
        return None

    def threads(self, member: Member) -> int | None:
        """Threads that the member's tables ask for; None if the command line decides."""
        return None

    def size(self, member: Member) -> int:
        """Number in which the time of a step is linear."""
        return member.count

    def work(self, setup: Setup, member: Member) -> float:
        """Work of one unit of flow time, in units that take about equally long."""
        ...

    def memory(self, setup: Setup, threads: int) -> int:
        """Bytes of a step at its largest."""
        ...

    def chunks(self, setup: Setup, member: Member) -> int:
        """Chunks of samples of a step that processes can share; 0 if they cannot."""
        return 0

    def probe(self, setup: Setup, budget: float) -> tuple[float, float] | None:
        """Seconds of a step and of a frame, measured in about so many seconds; None to have steps of the flow timed."""
        return None

    def bytes_beside(self, setup: Setup) -> int:
        """Checkpoint bytes: those of files next to the trajectory."""
        return 0

    def keep_beside(self, setup: Setup, path: Path) -> None:
        """Have the flow write a checkpoint next to the trajectory, if a frame is not enough to resume from."""
        return

    def not_resumable(self, path: Path, s: float) -> str:
        """Why a trajectory with frames up to s cannot be resumed; empty if it can."""
        return ""

    def same_for_all_seeds(self, setup: Setup) -> bool:
        """Whether members that differ in the seed alone can be built if this one can."""
        return True

    def data(self, spec: Spec) -> object:
        """Identity of the data in the spec of an energy."""
        return spec.get("problem", {}).get("data")


def refuse_unused(member: Member, used: Mapping[str, Sequence[str]], who: str) -> None:
    """Refuse keys of a member that have no effect in its system.

    Parameters
    ----------
    member : Member
        Its tables.
    used : mapping of str to sequence of str
        Keys that have an effect, by table.
    who : str
        The system, for the message.

    Raises
    ------
    InputError
        If any other key differs from its default.
    """
    plain = Member(problem=member.problem, flow=FlowTable(until=member.flow.until))
    for name, kept in used.items():
        table, default = getattr(member, name), getattr(plain, name)
        for key in type(table).model_fields:
            if key not in kept and getattr(table, key) != getattr(default, key):
                raise InputError(f"{name}.{key}: {who} has no use for it; leave it out")
    for name in ("depth", "regulariser", "dtype"):
        if getattr(member, name) != getattr(plain, name):
            raise InputError(f"{name}: {who} has no use for it; leave it out")
