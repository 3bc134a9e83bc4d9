"""The tables of a training run of an image network, and the problems a study may have with these among them."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from wgflow.study.tables import DiabetesTable, DigitsTable, FileTable, GaussianTable, SineTable, Table, TeacherTable


class ImagesTable(Table):
    """Images and their classes, for members that have a training."""

    name: str
    path: str | None = Field(
        None,
        description="archive of the binary version, a folder that holds it, or its unpacked files; relative to the "
        "study file",
    )
    verify: bool = Field(True, description="hold the files against published digests; false admits a re-encoded copy")
    train: int | None = Field(None, ge=2, description="train on the first so many images; on all if left out")
    test: int | None = Field(None, ge=1, description="test with the first so many; with all if left out")


class Cifar10Table(ImagesTable):
    """CIFAR-10 (Krizhevsky 2009): 50,000 and 10,000 colour images of 32 x 32, 10 classes."""

    name: Literal["cifar10"]


class Cifar100Table(ImagesTable):
    """CIFAR-100: as many images of 100 classes."""

    name: Literal["cifar100"]


class DigitImagesTable(ImagesTable):
    """Handwritten digits that scikit-learn ships: 1348 and 449 grey images of 8 x 8, 10 classes."""

    name: Literal["digit_images"]


class TrainingTable(Table):
    """A convolutional image network and its training, in place of depth: Lu, Ma, Lu, Lu and Ying (2020), section 5.

    Flow time counts epochs: ``flow.until`` of them, ``flow.step`` = 1.
    """

    network: str = Field("resnet20", description="an architecture of wgflow.systems.images")
    method: Literal["vanilla", "mean_field"] = Field(
        "vanilla", description="blocks in order with unit steps, or sorted by tau with learned steps: Algorithm 1"
    )
    batch: int = Field(128, ge=2)
    lr: float = Field(0.1, gt=0, description="highest learning rate")
    schedule: Literal["steps", "one_cycle"] = Field(
        "steps", description="steps: times factor after each milestone; one_cycle: up to lr and down to 0, linearly"
    )
    milestones: list[Annotated[int, Field(ge=1)]] = Field(default_factory=lambda: [80, 120], description="epochs")
    factor: float = Field(0.1, gt=0, le=1)
    warm_up: int = Field(0, ge=0, description="epochs at lr/10 at the start, under schedule steps")
    rise: float = Field(0.25, gt=0, lt=1, description="share of the steps over which one_cycle rises")
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float = Field(1e-4, ge=0)
    tau_rate: float = Field(1.0, ge=0, description="learning rate of the depths over that of the weights")
    tau_weight_decay: float = Field(0.0, ge=0)
    ends: Literal["clip", "reflect", "free"] = Field("clip", description="ends of depth")
    tau: Literal["grid", "uniform"] = Field("grid", description="law of the depths at the start")
    axes: int = Field(1, ge=1, description="depth axes of each stage")
    padding: int = Field(4, ge=0, description="pixels around the images that are cropped again")
    outside: Literal["zeros", "reflect"] = Field("zeros", description="what the padding is")
    flip: bool = Field(True, description="mirror half of the images")
    smoothing: float = Field(0.0, ge=0, lt=1, description="label smoothing")
    precision: Literal["auto", "float32", "mixed"] = Field("auto", description="mixed: bfloat16; auto: on a GPU")
    channels_last: bool = Field(True, description="memory format of the images")
    compiled: bool = Field(False, description="use torch.compile")
    deterministic: bool = Field(True, description="only algorithms that give the same numbers every time")
    columns: int = Field(16, ge=1, le=1024, description="random projections of a block's parameters that a frame keeps")
    threads: int = Field(
        1,
        ge=1,
        description="threads of torch on a CPU, whose sums depend on their number; --threads does not change it",
    )


ProblemChoice: TypeAlias = Annotated[
    DiabetesTable
    | DigitsTable
    | SineTable
    | TeacherTable
    | GaussianTable
    | FileTable
    | Cifar10Table
    | Cifar100Table
    | DigitImagesTable,
    Field(discriminator="name"),
]
