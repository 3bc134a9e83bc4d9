"""The tables of a study file: keys, types, ranges, and what each key means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema

from wgflow.base.registry import build, name_and_options
from wgflow.base.validate import real
from wgflow.flow import integrators
from wgflow.flow.schedule import Every, schedule
from wgflow.model import activations, blocks, losses, measuring
from wgflow.model.initial_laws import theta_law
from wgflow.study import formulas


class Table(BaseModel):
    """A table of a study: unknown keys refused, no silent conversion, finite numbers only."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def _checked(check: Callable[[Any], object]) -> AfterValidator:
    """Pydantic validator that calls a check, which raises an error, and keeps the value as written."""

    def unchanged(value: Any) -> Any:
        check(value)
        return value

    return AfterValidator(unchanged)


def _check_activation(value: Any) -> None:
    name_and_options("activation", value)  # a table or a name, not an object
    activations.activation(value)


Block: TypeAlias = Annotated[Any, _checked(lambda value: build("block", value, blocks.BLOCKS))]
Activation: TypeAlias = Annotated[Any, _checked(_check_activation)]
Measuring: TypeAlias = Annotated[Any, _checked(lambda value: build("measuring function", value, measuring.MEASURING))]
Loss: TypeAlias = Annotated[str, _checked(losses.loss)]
InitialLaw: TypeAlias = Annotated[Any, _checked(theta_law)]
Integrator: TypeAlias = Annotated[str, _checked(integrators.integrator)]


class ProblemTable(Table):
    """What every problem has: samples held out, scaling, and the network's fixed parts."""

    heldout: float = Field(0.0, ge=0, lt=1, description="fraction of the samples held out")
    split_seed: int = Field(0, ge=0, description="seed of the choice of held-out samples")
    standardise: bool = Field(True, description="scale columns of x and y by the training samples")
    state: Literal["padded", "identity", "whole"] = Field(
        "padded",
        description="padded: K extra state columns, read out; identity: D = D_in, output the mean of columns; whole: "
        "D = D_in = K, output the state itself",
    )
    block: Block = Field("ridge", description="residual block: its name, or a table with name and options")
    activation: Activation = Field("tanh", description="activation inside the block: its name, or a table")
    loss: Loss = Field("squared", description="loss of one sample")
    measuring: Measuring = Field(
        "linear", description="measuring function from the final state to the output: its name, or a table"
    )


class DiabetesTable(ProblemTable):
    """Diabetes regression data that scikit-learn ships."""

    name: Literal["diabetes"]


class DigitsTable(ProblemTable):
    """Handwritten digits that scikit-learn ships: 64 grey values, 10 classes."""

    name: Literal["digits"]
    parity: bool = Field(False, description="one target, 1 for even digits and -1 for odd ones; set another loss")
    loss: Loss = Field("cross_entropy", description="loss of one sample")


class SineTable(ProblemTable):
    """y = sin(frequency x) + noise on [-pi, pi]."""

    name: Literal["sine"]
    samples: int = Field(200, ge=1)
    frequency: float = 1.0
    noise: float = Field(0.0, ge=0)
    seed: int = Field(0, ge=0)
    spacing: Literal["even", "random"] = Field(
        "even", description="inputs equally spaced, or independent and uniform on [-pi, pi]"
    )


class TeacherTable(ProblemTable):
    """Outputs of a residual network with random blocks: a problem that can be solved exactly."""

    name: Literal["teacher"]
    samples: int = Field(200, ge=1)
    width: int = Field(3, ge=1, description="inputs D_in")
    layers: int = Field(4, ge=1)
    units: int = Field(2, ge=1, description="ridge blocks of each layer")
    seed: int = Field(0, ge=0)


class GaussianTable(ProblemTable):
    """Gaussian inputs and targets, independent of each other."""

    name: Literal["gaussian"]
    samples: int = Field(10, ge=1)
    width: int = Field(10, ge=1, description="inputs D_in")
    outputs: int | None = Field(None, ge=1, description="targets K; as many as inputs if left out")
    seed: int = Field(0, ge=0)


class FileTable(ProblemTable):
    """Your own data: a NumPy .npz file with arrays x and y."""

    name: Literal["file"]
    path: str = Field(description="relative to the study file")


def _amount(value: Any) -> Any:
    """Check a number >= 0, or a formula that will have such a value once its names do."""
    return formulas.check(value) if isinstance(value, str) else real("value", value, least=0.0)


Amount: TypeAlias = Annotated[
    Any,
    AfterValidator(_amount),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}]}),
]


class ParticlesTable(Table):
    """The initial measure."""

    count: int = Field(32, ge=1, description="N")
    per_layer: int | None = Field(None, ge=1, description="particles of one layer, in place of N under depth layers")
    within: int | None = Field(
        None, ge=1, description="layers of a larger network of which this is a sub-sample, under depth layers"
    )
    fresh: bool = Field(False, description="draw anew for every L and M_l, under depth layers")
    scale: dict[str, Amount] = Field(
        default_factory=dict,
        description="standard deviation by parameter group: a number, or a formula in D, K, M, N, L such as 'sqrt(D)'",
    )
    law: InitialLaw = Field(
        "gaussian",
        description="law of the parameters in units of scale: gaussian, whose support is unbounded, or truncated, ball "
        "or sphere, a table with name, bound and, if not all of them, groups",
    )
    tau: Literal["grid", "uniform"] = Field("grid", description="law of the depths")
    coupling: Literal["independent", "path"] = Field(
        "independent", description="how the layers hang together at the start, under depth layers"
    )
    part: int = Field(0, ge=0, lt=1024, description="which N of the seed's endless list of particles, from 0")
    support: Literal["full", "point", "origin", "one_layer", "one_sided"] = Field(
        "full",
        description="full: as drawn; point: all particles like the first one drawn; origin: all parameters 0; "
        "one_layer: as drawn in the layer of t0, like the first one drawn in all others, under depth layers; "
        "one_sided: the first column of a made sqrt(2) |theta|, or the second term of gaussian_matrix 0, so that all "
        "blocks push one way",
    )
    t0: float | None = Field(
        None, ge=0, le=1, description="depth of the layer as drawn under support = one_layer, 0.5 if left out"
    )


class GapsTable(Table):
    """Algorithm 1 of Lu et al.: sort by depth, step by the gaps."""

    name: Literal["gaps"]


class LayersTable(Table):
    """Ding et al.: L layers of equally many particles that stay in them."""

    name: Literal["layers"]
    layers: int = Field(ge=1, description="L")


class DepositTable(Table):
    """The joint measure as particle-in-cell: tau moves along the true gradient."""

    name: Literal["deposit"]
    layers: int = Field(ge=1, description="L")
    shape: Literal["spline", "clipped", "hat"] = Field(
        "spline", description="clipped stops at tau = 0 and 1, and allows longer steps; hat is a negative control"
    )


class IntervalsTable(Table):
    """Lu et al.: blocks as indicators of intervals of depth, of widths of their own, which may overlap."""

    name: Literal["intervals"]
    layers: int = Field(ge=1, description="L")
    width: float = Field(1.0, ge=0, description="width of a block's interval over its mass")


class ShallowTable(Table):
    """Two-layer limit of the same measure."""

    name: Literal["shallow"]


class NetworkTable(Table):
    """A feature network in place of residual blocks in depth: Fang, Lee, Yang and Zhang (2021)."""

    kind: Literal["resnet", "dnn"] = "resnet"
    layers: int = Field(4, ge=2, description="hidden layers L")
    h1: Activation = Field("tanh", description="activation of a layer's features")
    h2: Activation = Field("tanh", description="activation of what a layer adds, in a resnet")
    method: Literal["flow", "descent"] = Field(
        "flow", description="flow: weights and features move as states of their own; descent: scaled gradient descent"
    )
    start: Literal["minimum_norm", "standard", "ideal"] = Field(
        "minimum_norm",
        description="minimum_norm: Algorithm 2 (4 for a dnn); standard: independent weights of variance sigma**2; "
        "ideal: particles drawn from the population",
    )
    draw: Literal["features", "weights"] = Field(
        "features", description="what minimum_norm draws: features given those below, or weights that are then replaced"
    )
    sigma: float = Field(1.0, gt=0, description="scale of the draws")
    outer: float = Field(1.0, description="weights v_(L+1) of the last layer at the start, all equal")
    last: Literal["constant", "regressed"] = Field(
        "constant",
        description="last layer at the start: constant: outer; regressed: weights of least norm with the outputs of a "
        "standard draw",
    )
    ridge: float = Field(0.0, ge=0, description="penalty of the soft version of minimum_norm")


class LangevinTable(Table):
    """Noise and weight decay: mean-field Langevin dynamics."""

    name: Literal["langevin"]
    temperature: float = Field(ge=0)
    decay: float = Field(0.0, ge=0)
    tau_temperature: float = Field(0.0, ge=0, description="needs flow.boundary = reflect")


class BirthDeathTable(Table):
    """Fisher-Rao transport of mass, under depth deposit or shallow."""

    name: Literal["birth_death"]
    rate: float = Field(gt=0)
    floor: float = Field(0.0, ge=0, lt=1, description="share of the mean mass below which a particle dies")
    jitter: float = Field(0.0, ge=0, description="standard deviation of a clone's parameters about its parent's")


class BirthTable(Table):
    """Particles born where the first variation is lowest, under depth deposit or shallow."""

    name: Literal["birth"]
    every: int | None = Field(None, ge=1, description="steps between births")
    period: float | None = Field(None, gt=0, description="flow time between births, in place of every")
    radius: float = Field(gt=0, description="R of the ball |theta| <= R searched")
    starts: int = Field(32, ge=3, description="starts of the search")
    share: float = Field(0.5, gt=0, le=1, description="largest share of the mass a newborn may get")


class QuadraticTable(Table):
    """strength e**(-decay s) |theta|**2, integrated against the measure."""

    name: Literal["quadratic"]
    strength: float = Field(1.0, ge=0)
    decay: float = Field(1.0, ge=0)


IngredientChoice: TypeAlias = Annotated[LangevinTable | BirthDeathTable | BirthTable, Field(discriminator="name")]


def _every(value: Any) -> Any:
    """Length of equal times, or the table of another schedule as it is written."""
    due = None if value is None else schedule(value)
    return due.s if isinstance(due, Every) else value


EveryChoice: TypeAlias = Annotated[
    Any,
    AfterValidator(_every),
    WithJsonSchema({"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "object"}, {"type": "null"}]}),
]


class FlowTable(Table):
    """The flow in s."""

    until: float = Field(gt=0, description="flow time at which to stop")
    every: EveryChoice = Field(
        None,
        description="flow time between frames, or a table: {name='steps', n=10}, {name='log', per_decade=8, first=1}, "
        "{name='at', s=[1, 5]}; one step if left out",
    )
    step: float = Field(0.1, gt=0, description="step length h, or the first one tried")
    rule: Literal["constant", "descent", "adaptive"] = Field(
        "constant",
        description="descent: backtracking on the energy, under gaps in the order before the step; adaptive: by the "
        "estimated error of each step",
    )
    rtol: float | None = Field(None, gt=0, lt=1, description="rule adaptive: error allowed in a step beside the state")
    atol: float | None = Field(None, ge=0, description="rule adaptive: absolute error allowed in a step")
    smallest: float | None = Field(None, gt=0, description="rules that adapt: length below which no step is cut")
    batch: int | None = Field(None, ge=1, description="samples of each step's velocity; all if left out")
    ingredients: list[IngredientChoice] = Field(default_factory=list, description="called after every step")
    integrator: Integrator = Field("euler", description="method in s")
    boundary: Literal["clip", "reflect", "free"] = Field("clip", description="ends of depth")
    mobility: dict[str, Amount] = Field(
        default_factory=dict,
        description="factor on the velocity by parameter group, and for tau: a number, or a formula in D, K, M, N, L "
        "and the groups' standard deviations by their names",
    )


DepthChoice: TypeAlias = Annotated[
    GapsTable | LayersTable | DepositTable | IntervalsTable | ShallowTable, Field(discriminator="name")
]
