"""How a network of images is trained: everything but the images, the seed and the machine."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

from wgflow.base.errors import InputError, describe
from wgflow.base.registry import check_name
from wgflow.base.types import Spec
from wgflow.base.validate import real, use_python_numbers, whole
from wgflow.systems.images.augment import MODES
from wgflow.systems.images.rates import Rates

METHODS = ("vanilla", "mean_field")
_MOST_COLUMNS = 1024  # fewer than any block's parameters, which are at least 4672
PRECISIONS = ("auto", "float32", "mixed")


@dataclass(frozen=True)
class Recipe:
    """A network and how it is trained.

    The defaults are those of He et al. for CIFAR-10 (arXiv:1512.03385, section 4.2): SGD with momentum 0.9, weight
    decay 1e-4, batches of 128, lr 0.1 divided by 10 after epochs 80 and 120 of 160, crops of images padded by 4, flips.
    Lu et al. do not print their settings; these are what their vanilla column comes from.

    Parameters
    ----------
    network : str
        A name in :data:`wgflow.systems.images.ARCHITECTURES`.
    method : {"vanilla", "mean_field"}, optional
        Residual blocks in their order with unit steps, or Algorithm 1: particles sorted by tau.
    batch : int, optional
        B; an epoch is M // B steps, on M images in random order, and what is left over waits for the next.
    lr, schedule, milestones, factor, warm_up, rise : optional
        As for :class:`~wgflow.systems.images.rates.Rates`.
    momentum, nesterov, weight_decay : float, bool, float, optional
        Of SGD: v <- momentum v + gradient + weight_decay w, w <- w - lr v, or with the gradient once more ahead.
    tau_rate : float, optional
        Learning rate of the depths over that of the weights; 0 pins them.
    tau_weight_decay : float, optional
        Weight decay of the depths.
    ends : {"clip", "reflect", "free"}, optional
        What happens to depths that leave [0, 1].
    tau : {"grid", "uniform"}, optional
        Law of the depths at the start; grid is the vanilla network.
    axes : int, optional
        Depth axes of each stage.
    padding : int, optional
        p of the crops.
    outside : {"zeros", "reflect"}, optional
        What images are padded with.
    flip : bool, optional
        Whether half of the images are mirrored.
    smoothing : float, optional
        Label smoothing in [0, 1).
    precision : {"auto", "float32", "mixed"}, optional
        mixed: forward in bfloat16 where torch allows it; auto: on a GPU.
    channels_last : bool, optional
        Memory format in which convolutions are faster.
    compiled : bool, optional
        Use ``torch.compile``.
    deterministic : bool, optional
        Only algorithms whose results are the same every time.
    columns : int, optional
        q: parameters of a block are kept in the trajectory as q random projections, 1 <= q <= 1024.
    threads : int, optional
        Of torch on a CPU. The order of its sums, and so the last digits of all that follows, depend on their number.

    Raises
    ------
    InputError
        If a value is out of range. The name of the network is checked where it is built.
    """

    network: str
    method: str = "vanilla"
    batch: int = 128
    lr: float = 0.1
    schedule: str = "steps"
    milestones: tuple[int, ...] = (80, 120)
    factor: float = 0.1
    warm_up: int = 0
    rise: float = 0.25
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    tau_rate: float = 1.0
    tau_weight_decay: float = 0.0
    ends: str = "clip"
    tau: str = "grid"
    axes: int = 1
    padding: int = 4
    outside: str = "zeros"
    flip: bool = True
    smoothing: float = 0.0
    precision: str = "auto"
    channels_last: bool = True
    compiled: bool = False
    deterministic: bool = True
    columns: int = 16
    threads: int = 1

    def __post_init__(self) -> None:
        use_python_numbers(self)
        for name, value, known in (("method", self.method, METHODS), ("outside", self.outside, MODES),
                                   ("precision", self.precision, PRECISIONS)):  # fmt: skip
            check_name(name, value, known)
        for name, least in (("batch", 2), ("padding", 0), ("columns", 1), ("threads", 1)):
            whole(name, getattr(self, name), least)
        if self.columns > _MOST_COLUMNS:
            raise InputError(f"columns: expected at most {_MOST_COLUMNS}, got {self.columns}")
        for name in ("weight_decay", "tau_rate", "tau_weight_decay"):
            real(name, getattr(self, name), least=0.0)
        for name in ("momentum", "smoothing"):
            if not 0 <= real(name, getattr(self, name)) < 1:
                raise InputError(f"{name}: expected 0 <= {name} < 1, got {describe(getattr(self, name))}")
        if self.nesterov and not self.momentum:
            raise InputError("nesterov: expected a momentum > 0 with it, got 0")
        self.rates(1, 1)

    def rates(self, epochs: int, steps_per_epoch: int) -> Rates:
        """Learning rates of a training of so many epochs."""
        return Rates(
            self.lr, self.schedule, epochs, steps_per_epoch, self.milestones, self.factor, self.warm_up, self.rise
        )

    def spec(self) -> Spec:
        """Plain JSON of all of it."""
        return asdict(self) | {"milestones": list(self.milestones)}


NAMES = tuple(field.name for field in fields(Recipe))
