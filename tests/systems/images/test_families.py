"""Public families of residual networks: the default takes each by the best rule, or names the block it cannot take."""

import copy
import logging
import pickle
import random

import pytest

from wgflow.base.errors import InputError

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402 # torch first
from torch.nn import functional  # noqa: E402
from torch.nn.utils import parametrizations  # noqa: E402

from wgflow.systems import images as cifar  # noqa: E402
from wgflow.systems.images.adapters import Scaled  # noqa: E402

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


@pytest.fixture
def uncompiled():
    """Call compiled modules as they were written, which is what compiling keeps."""
    with torch.compiler.set_stance("force_eager"):
        yield


@SCRIPTS
@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("name", FAMILIES)
def test_the_default_takes_the_family_to_the_bit(name, caplog):
    model, x = network(FAMILIES[name]), images()
    with caplog.at_level(logging.INFO, "wgflow.systems.images"):
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


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_layouts_and_wrappers(dtype):
    model, x = network(Functional), images()
    cast = copy.deepcopy(model).to(dtype)
    assert same(cast, cifar.from_resnet(cast), x.to(dtype))
    last = {"memory_format": torch.channels_last}
    assert same(model.to(**last), cifar.from_resnet(model.to(**last)), x.to(**last))
    wrapped = cifar.from_resnet(nn.DataParallel(model))
    assert cifar.report(wrapped)[0].stage == "module.1.0"
    assert same(nn.DataParallel(model), wrapped, x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(cifar.from_resnet(model)(x), model(x))


def test_copies_pickles_and_checkpoints_of_what_was_taken():
    mean_field, x = cifar.from_resnet(network(Squeeze)), images()
    cifar.stages(mean_field)[0].place([1.0, 0.2, 0.6])
    for again in (copy.deepcopy(mean_field), pickle.loads(pickle.dumps(mean_field))):
        assert cifar.report(again) == cifar.report(mean_field)
        assert same(mean_field, again, x)
    fresh = cifar.from_resnet(network(Squeeze))
    fresh.load_state_dict(mean_field.state_dict())
    assert same(mean_field, fresh, x)


@SCRIPTS
def test_scripted_blocks_are_trained():
    """Their weights in the copy are numbers of its own, which an optimiser takes; frozen ones stay frozen."""
    model = network(lambda: scripted(Inverted))
    for each in model[1][0].parameters():  # a ScriptModule has no requires_grad_
        each.requires_grad_(False)
    mean_field = cifar.from_resnet(model)
    assert all(each.is_leaf for each in mean_field.parameters())
    assert [each.requires_grad for each in mean_field.parameters()].count(False) == len(list(model[1][0].parameters()))
    before = [each.clone() for each in model.parameters()]
    optimiser = torch.optim.SGD(cifar.parameter_groups(mean_field, lr=0.1, weight_decay=0.0), lr=0.1)
    mean_field(images()).square().mean().backward()
    optimiser.step()
    moved = [not torch.equal(a, b) for a, b in zip(model[1][1].parameters(), stage_weights(mean_field, 1), strict=True)]
    assert all(moved)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def stage_weights(model, block):
    return list(cifar.stages(model)[0].branches[block].parameters())


def splittable():
    """A basic block under the usual names, which can be split."""

    class Basic(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.bn1 = conv(WIDTH, WIDTH), nn.BatchNorm2d(WIDTH)
            self.conv2, self.bn2 = conv(WIDTH, WIDTH), nn.BatchNorm2d(WIDTH)

        def forward(self, x):
            return functional.relu(self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x))))) + x)

    return Basic()


def test_a_block_with_hooks_is_called_as_it_is():
    """A split would leave the hooks out; equal blocks beside it share its stage, and its rule."""
    model, seen, x = network(splittable), [], images()
    assert [each.rule for each in cifar.report(cifar.from_resnet(model))] == ["split"]
    model[1][0].conv1.register_forward_hook(lambda module, inputs, output: seen.append(0))
    cifar.from_resnet(model)
    assert not seen  # a trial is nobody's data
    model[1][1].register_forward_hook(lambda module, inputs, output: seen.append(1) or 0.5 * output)
    for options in ({}, {"stages": "1"}):
        mean_field = cifar.from_resnet(model, **options)
        assert [(each.blocks, each.rule) for each in cifar.report(mean_field)] == [(3, "difference")]
        assert not seen
        assert same(model, mean_field, x)
        assert seen == [0, 1, 0, 1]
        seen.clear()


def test_each_run_by_its_own_rule_and_said_once(caplog):
    torch.manual_seed(0)
    pair, other = [splittable(), splittable()], [Functional(), Functional()]
    model = nn.Sequential(conv(3, WIDTH), *pair, *other, nn.Sequential(Dropped(), Dropped()))
    pair[1].__class__ = type(pair[0])
    with caplog.at_level(logging.INFO, "wgflow.systems.images"):
        mean_field = cifar.from_resnet(model)
    assert [(each.stage, each.rule) for each in cifar.report(mean_field)] == [("1", "split"), ("2", "difference")]
    (said,) = caplog.records
    assert said.levelno == logging.WARNING
    assert str(cifar.report(mean_field)[1]) in said.getMessage()
    assert said.getMessage().endswith(
        "left as they are: 3.0 (Dropped that takes random numbers other than dropout's in training)"
    )
    caplog.clear()
    with caplog.at_level(logging.INFO, "wgflow.systems.images"):
        cifar.from_resnet(nn.Sequential(*pair))
    assert [each.levelno for each in caplog.records] == [logging.INFO]
    assert cifar.report(nn.Sequential(*pair)) == ()


def test_weights_that_others_share_leave_what_can_be_split():
    """A row that another rule would take, and may not, takes nothing away from the first."""
    torch.manual_seed(0)
    basic, again = splittable(), Functional()
    model = nn.Sequential(basic, copy.deepcopy(basic), nn.Sequential(again, again))
    assert [each.rule for each in cifar.report(cifar.from_resnet(model))] == ["split"]


def test_what_an_interpolation_keeps():
    """Its two ends: at most the state before and after each block is kept beyond what the network itself keeps."""
    model, x = network(Wide), images()
    kept = []
    for each in (model, cifar.from_resnet(model)):
        seen = {}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, seen=seen: seen.setdefault(t.untyped_storage().data_ptr(), t) is None or t, lambda t: t
        ):
            each(x)
        kept.append(sum(t.untyped_storage().nbytes() for t in seen.values()))
    state = 4 * WIDTH * 8 * 8 * 4
    assert kept[0] < kept[1] <= kept[0] + 4 * state + 1024


class Dropped(Wide):
    """Stochastic depth."""

    def forward(self, x):
        return x if self.training and torch.rand(()) < 0.2 else super().forward(x)


class DroppedByPython(Wide):
    def forward(self, x):
        return x if self.training and random.random() < 0.2 else super().forward(x)


class Shuffled(nn.Module):
    """Half of the channels pass by, and all are shuffled: no sum."""

    def __init__(self):
        super().__init__()
        self.part = nn.Sequential(conv(WIDTH // 2, WIDTH // 2), nn.BatchNorm2d(WIDTH // 2), nn.ReLU())

    def forward(self, x):
        left, right = x.chunk(2, 1)
        y = torch.cat([left, self.part(right)], 1)
        return y.view(len(x), 2, -1, *x.shape[2:]).transpose(1, 2).reshape(x.shape)


class Dense(Wide):
    def forward(self, x):
        return torch.cat([super().forward(x), x], 1)


class Plain(Wide):
    def forward(self, x):
        return self.residual(x)


class Two(Wide):
    def forward(self, x, t):
        return super().forward(x) + t


class Pair(Wide):
    def forward(self, x):
        return super().forward(x), x


class Listed(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(Wide() for _ in range(2))

    def forward(self, x):
        return self.blocks[1](self.blocks[0](x))


REFUSED = {
    "stochastic depth": (Dropped, r"1\.0 is a Dropped that takes random numbers other than dropout's in training"),
    "by Python": (DroppedByPython, r"1\.0 is a DroppedByPython that takes random numbers"),
    "scripted dropout": (lambda: torch.jit.script(Wide(0.3)), r"1\.0 is a .* of Wide that takes random numbers"),
    "shuffle": (Shuffled, r"1\.0 is a Shuffled that shows no skip"),
    "no skip": (Plain, r"1\.0 is a Plain that shows no skip"),
    "dense": (Dense, r"1\.0 is a Dense that returns no state .* but \(2, 8, 8, 8\) for \(2, 4, 8, 8\)"),
    "two inputs": (Two, r"1\.0 is a Two that cannot be called with one state .*argument: 't'"),
    "two outputs": (Pair, r"1\.0 is a Pair that returns no state of the shape that it is given, but a tuple"),
    "in a list": (Listed, r"1\.0\.blocks is a ModuleList, of which it is not known how its modules are called"),
    "layers": (lambda: conv(WIDTH, WIDTH), r"got none in Sequential$"),
}


@SCRIPTS
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_residual_block_is_named_in_one_line(name):
    block, told = REFUSED[name]
    states = torch.get_rng_state(), random.getstate()
    model = network(block, 1 if name == "in a list" else 2)
    torch.set_rng_state(states[0])
    with pytest.raises(InputError, match=told) as caught:
        cifar.from_resnet(model)
    assert "\n" not in str(caught.value)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]


@SCRIPTS
def test_what_is_scripted_as_a_whole_is_refused_in_one_line():
    whole = network(Inverted)
    for model in (torch.jit.script(whole), torch.jit.trace(whole.eval(), images())):
        with pytest.raises(InputError, match=r"it is a \w+ of Sequential, which cannot be looked into"):
            cifar.from_resnet(model)
    row = nn.Sequential(torch.jit.script(nn.Sequential(Inverted(), Inverted())))
    with pytest.raises(InputError, match=r"; 0 is a \w+ of Sequential, which cannot be looked into"):
        cifar.from_resnet(row)
    assert type(cifar.to_resnet(row)[0]) is type(row[0])
    shared = torch.jit.script(Inverted())
    with pytest.raises(InputError, match="with parameters of their own"):
        cifar.from_resnet(nn.Sequential(shared, shared))


class Kept(Wide):
    """Keeps more than tensors in its state."""

    def get_extra_state(self):
        return {"steps": 1}

    def set_extra_state(self, state):
        pass


def test_states_that_are_no_tensors_and_weights_without_shapes():
    mean_field, model = cifar.from_resnet(network(Kept)), network(Kept)
    assert torch.equal(mean_field(images()), model(images()))
    with pytest.raises(InputError, match=r"got 1\.weight without one; call the model once before"):
        cifar.from_resnet(nn.Sequential(conv(3, WIDTH), nn.LazyConv2d(4, 1)))
