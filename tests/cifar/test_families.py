"""Public families of residual networks: the default takes each by the best rule, or names the block it cannot take."""

import copy
import logging

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402 # torch first
from torch.nn import functional  # noqa: E402
from torch.nn.utils import parametrizations  # noqa: E402

from wgflow import cifar  # noqa: E402
from wgflow.cifar.adapters import Scaled  # noqa: E402

WIDTH = 4
SCRIPTS = pytest.mark.filterwarnings(
    "ignore:.*torch.jit:DeprecationWarning", "ignore::torch.jit.TracerWarning", "ignore:.*grad attribute:UserWarning"
)


def conv(before, after, size=3, **options):
    return nn.Conv2d(before, after, size, padding=size // 2, bias=False, **options)


class Functional(nn.Module):
    """Residual function and shortcut, added and activated in one line."""

    def __init__(self, before=WIDTH, width=WIDTH, groups=1):
        super().__init__()
        self.residual_function = nn.Sequential(
            conv(before, width, groups=groups),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            conv(width, width),
            nn.BatchNorm2d(width),
        )
        self.shortcut = nn.Sequential() if before == width else nn.Sequential(conv(before, width, 1))

    def forward(self, x):
        return nn.ReLU(inplace=True)(self.residual_function(x) + self.shortcut(x))


class Wide(nn.Module):
    """Pre-activation body in one Sequential, with dropout between."""

    def __init__(self, rate=0.0):
        super().__init__()
        self.residual = nn.Sequential(
            nn.BatchNorm2d(WIDTH), nn.ReLU(), conv(WIDTH, WIDTH), nn.Dropout(rate), nn.ReLU(), conv(WIDTH, WIDTH)
        )

    def forward(self, x):
        return self.residual(x) + x


class FunctionalDropout(Wide):
    def forward(self, x):
        return x + functional.dropout(self.residual(x), 0.3, self.training)


class Squeeze(Functional):
    """Squeeze-and-excitation: the body's channels are weighted by what the image is."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Sequential(nn.Linear(WIDTH, 2), nn.ReLU(), nn.Linear(2, WIDTH), nn.Sigmoid())

    def forward(self, x):
        y = self.residual_function(x)
        return functional.relu(y * self.gate(y.mean((2, 3)))[:, :, None, None] + x)


class Inverted(nn.Module):
    """A linear bottleneck, wide inside, with nothing after the addition."""

    def __init__(self):
        super().__init__()
        self.stride, inner = 1, 2 * WIDTH
        self.conv = nn.Sequential(
            conv(WIDTH, inner, 1),
            nn.BatchNorm2d(inner),
            nn.ReLU6(inplace=True),
            conv(inner, inner, groups=inner),
            nn.BatchNorm2d(inner),
            nn.ReLU6(inplace=True),
            conv(inner, WIDTH, 1),
            nn.BatchNorm2d(WIDTH),
        )

    def forward(self, x):
        return x + self.conv(x) if self.stride == 1 else self.conv(x)


class LayerScaled(nn.Module):
    """Depthwise convolution and a network of each pixel, scaled: channels last inside."""

    def __init__(self):
        super().__init__()
        self.depthwise, self.norm = conv(WIDTH, WIDTH, 7, groups=WIDTH), nn.LayerNorm(WIDTH)
        self.inner, self.outer = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)
        self.gamma = nn.Parameter(torch.full((WIDTH,), 0.1))

    def forward(self, x):
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        return x + (self.gamma * self.outer(functional.gelu(self.inner(y)))).permute(0, 3, 1, 2)


class InPlace(nn.Module):
    """Writes its sum to the state that it was given."""

    def __init__(self):
        super().__init__()
        self.mix = conv(WIDTH, WIDTH)

    def forward(self, x):
        x += torch.tanh(self.mix(x.clone()))
        return x


class OtherInTraining(Wide):
    def forward(self, x):
        return functional.relu(super().forward(x)) if self.training else super().forward(x)


def parametrised(norm):
    def block():
        made = Functional()
        norm(made.residual_function[3])
        return made

    return block


def frozen():
    made = Functional()
    return made.requires_grad_(False)


def scripted(kind):
    return torch.jit.script(kind())


def traced():
    return torch.jit.trace(Inverted().eval(), torch.randn(2, WIDTH, 8, 8))


FAMILIES = {
    "functional relu": Functional,
    "cardinality": lambda: Functional(groups=2),
    "wide": Wide,
    "wide, dropout": lambda: Wide(0.3),
    "wide, dropout as a function": FunctionalDropout,
    "squeeze": Squeeze,
    "inverted": Inverted,
    "layer scale": LayerScaled,
    "in place": InPlace,
    "other in training": OtherInTraining,
    "weight norm": parametrised(parametrizations.weight_norm),
    "spectral norm": parametrised(parametrizations.spectral_norm),
    "frozen": frozen,
    "script": lambda: scripted(Inverted),
    "script, squeeze": lambda: scripted(Squeeze),
    "trace": traced,
    "fx": lambda: torch.fx.symbolic_trace(Inverted()),
    "compiled": lambda: torch.compile(Inverted(), backend="eager"),
}


def network(block, count=3, wrap=nn.Sequential):
    """Stem, a row of blocks, head; numbers of the normalisations drawn at random."""
    torch.manual_seed(0)
    model = nn.Sequential(conv(3, WIDTH), nn.Sequential(*(block() for _ in range(count))), nn.Flatten())
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point() and tensor.dim() == 1:
            tensor.data.uniform_(0.5, 1.5)
    return model


def results(model, x):
    """Output, and gradients of a loss, by one seed; the running statistics stay."""
    torch.manual_seed(5)
    state, x = {name: each.clone() for name, each in model.state_dict().items()}, x.clone().requires_grad_()
    model.zero_grad()
    y = model(x)
    y.square().sum().backward()
    slopes = [each.grad for name, each in model.named_parameters() if not name.endswith(".u")]
    model.load_state_dict(state)
    return [y.detach(), x.grad, *slopes]


def images(dtype=torch.float32):
    return torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1)).to(dtype)


def same(model, mean_field, x):
    """Whether outputs and gradients are equal to the bit."""
    expected, got = results(model, x), results(mean_field, x)
    return len(expected) == len(got) and all(
        a is b if a is None else b is not None and torch.equal(a, b) for a, b in zip(expected, got, strict=True)
    )


@SCRIPTS
@pytest.mark.parametrize("name", FAMILIES)
def test_the_default_takes_the_family_to_the_bit(name, caplog):
    model, x = network(FAMILIES[name]), images()
    with caplog.at_level(logging.INFO, "wgflow.cifar"):
        mean_field = cifar.from_resnet(model)
    (taken,) = cifar.report(mean_field)
    assert (taken.stage, taken.blocks, taken.rule) == ("1.0", 3, "difference")
    assert [each.getMessage() for each in caplog.records] == [f"from_resnet: {taken}"]
    assert ("copy" in taken.cost) == (name == "in place")
    for training in (True, False):
        assert same(model.train(training), mean_field.train(training), x)
    (stage,) = cifar.stages(mean_field)
    unmoved = cifar.to_resnet(mean_field)
    assert list(unmoved.state_dict()) == list(model.state_dict())
    state = torch.randn(4, WIDTH, 8, 8, generator=torch.Generator().manual_seed(2))
    stage.place([1.0, 0.2, 0.6])
    with torch.no_grad():
        expected = state
        for i, step in zip((1, 2, 0), (0.6, 1.2, 1.2), strict=True):
            expected = (1 - step) * expected + step * copy.deepcopy(model[1][i])(expected.clone())
        torch.testing.assert_close(copy.deepcopy(stage)(state), expected, rtol=1e-4, atol=1e-5)
        back = cifar.to_resnet(mean_field)
        torch.testing.assert_close(back(x), copy.deepcopy(mean_field)(x), rtol=1e-4, atol=1e-5)
    assert [round(each.step, 6) for each in back.modules() if isinstance(each, Scaled)] == [0.6, 1.2, 1.2]
