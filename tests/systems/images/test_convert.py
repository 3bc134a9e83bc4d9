"""Other people's networks: found, converted, trained, and given back."""

import copy
import random

import numpy as np
import pytest

from wgflow.base.errors import InputError

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402 # torch first

from wgflow.systems import images as cifar  # noqa: E402
from wgflow.systems.images import blocks as cifar_blocks  # noqa: E402
from wgflow.systems.images.adapters import Rest, Scaled, difference, split  # noqa: E402
from wgflow.systems.images.stage import MeanFieldStage, PlainStage  # noqa: E402


class Block(nn.Module):
    """A basic block as torchvision has it; with ``order='pre'`` the same names in another order."""

    def __init__(self, before, width, stride=1, order="post", bias=False):
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride, 1, bias=bias)
        self.bn1 = nn.BatchNorm2d(before if order == "pre" else width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=bias)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = None
        if stride > 1 or before != width:
            self.downsample = nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))
        self.order = order

    def forward(self, x):
        skip = x if self.downsample is None else self.downsample(x)
        if self.order == "pre":
            x = self.conv1(self.relu(self.bn1(x)))
            return self.conv2(self.relu(self.bn2(x))) + skip
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        x += skip
        return self.relu(x)


class Bottleneck(nn.Module):
    def __init__(self, before, inner, width):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(before, inner, 1, bias=False), nn.BatchNorm2d(inner)
        self.conv2, self.bn2 = nn.Conv2d(inner, inner, 3, padding=1, bias=False), nn.BatchNorm2d(inner)
        self.conv3, self.bn3 = nn.Conv2d(inner, width, 1, bias=False), nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None if before == width else nn.Conv2d(before, width, 1)

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn3(self.conv3(self.relu(self.bn2(self.conv2(out)))))
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))


class Dropping(Block):
    """Does more than its names say, and only in training."""

    def forward(self, x):
        return nn.functional.dropout(super().forward(x), 0.1, self.training)


class Linear(nn.Module):
    """A residual block with other names."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        return x + torch.tanh(self.mix(x))


class Net(nn.Module):
    """A small network of torchvision's make."""

    def __init__(self, block=Block, **options):
        super().__init__()
        self.conv1, self.bn1, self.relu = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True)
        self.layer1 = nn.Sequential(*(block(4, 4, **options) for _ in range(3)))
        self.layer2 = nn.Sequential(block(4, 6, stride=2, **options), *(block(6, 6, **options) for _ in range(2)))
        self.fc = nn.Linear(6, 5)

    def forward(self, x):
        x = self.relu(self.bn1(self.conv1(x)))
        return self.fc(self.layer2(self.layer1(x)).mean((2, 3)))


def made(block=Block, seed=0, **options):
    torch.manual_seed(seed)
    model = Net(block, **options)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    return model


def images(seed=1, channels=3):
    return torch.randn(4, channels, 8, 8, generator=torch.Generator().manual_seed(seed))


def moved(model, seed=2):
    """Other depths, in another order, one gap zero."""
    for k, stage in enumerate(cifar.stages(model)):
        stage.place([0.9, 0.25, 0.25][: len(stage)] if k == 0 else torch.linspace(1.0, 0.2, len(stage)).tolist())
    return model


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("options", [{}, {"order": "pre"}, {"bias": True}, {"order": "pre", "bias": True}])
def test_somebodys_network_and_back(options, training):
    """The same bits at the start; after moving, the network given back computes the same under its old names."""
    model, x = made(**options).train(training), images()
    untouched = copy.deepcopy(model.state_dict())
    mean_field = cifar.from_resnet(model)
    assert [len(stage) for stage in cifar.stages(mean_field)] == [3, 2]
    with torch.no_grad():
        assert torch.equal(copy.deepcopy(mean_field)(x), copy.deepcopy(model)(x))
        assert torch.equal(copy.deepcopy(cifar.to_resnet(mean_field))(x), copy.deepcopy(model)(x))
        assert all(torch.equal(a, b) for a, b in zip(untouched.values(), model.state_dict().values(), strict=True))
        moved(mean_field)
        back = cifar.to_resnet(mean_field)
        assert list(back.state_dict()) == list(model.state_dict())
        assert not cifar.stages(back)
        expected, got = copy.deepcopy(mean_field)(x), back(x)
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
        assert (expected - model(x)).abs().max() > 1e-2


@pytest.mark.parametrize("options", [{}, {"order": "pre"}])
def test_formula_of_a_converted_stage(options):
    """relu(x + step f(x)) or x + step f(x), f taken from the block itself by its layers' hooks."""
    model = made(**options).double().eval()
    stage = cifar.stages(moved(cifar.from_resnet(model)))[0]
    x = images(3, 4).double().abs()
    post = "order" not in options
    expected = x
    for i, step in zip((1, 2, 0), (0.75, 0.0, 1.95), strict=True):
        caught = []
        last = model.layer1[i].bn2 if post else model.layer1[i].conv2
        hook = last.register_forward_hook(lambda module, inputs, output, caught=caught: caught.append(output.clone()))
        model.layer1[i](expected)
        hook.remove()
        expected = expected + step * caught[0]
        expected = expected.clamp(min=0) if post else expected
    torch.testing.assert_close(stage(x), expected, rtol=1e-12, atol=1e-12)


def test_gradients_reach_blocks_and_depths():
    model = made()
    mean_field = cifar.from_resnet(model)
    for each in (model, mean_field):
        each(images()).square().sum().backward()
    assert all(stage.u.grad.abs().min() > 0 for stage in cifar.stages(mean_field))
    theirs = [p.grad for p in model.parameters()]
    again = [p.grad for p in mean_field.parameters() if p.dtype == torch.float32]
    for a, b in zip(theirs, again, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_bottlenecks_with_leading_projections():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.Sequential(Bottleneck(4, 2, 8), Bottleneck(8, 2, 8), Bottleneck(8, 2, 8))
    )
    mean_field = cifar.from_resnet(model)
    assert [len(stage) for stage in cifar.stages(mean_field)] == [2]
    with torch.no_grad():
        assert torch.equal(mean_field(images()), copy.deepcopy(model)(images()))
    assert list(cifar.to_resnet(mean_field).state_dict()) == list(model.state_dict())


def test_architectures_of_the_table_and_back():
    x = images()
    vanilla = cifar.build("resnet20", seed=2)
    mean_field = cifar.from_resnet(vanilla)
    same = cifar.build("resnet20", seed=2, mean_field=True)
    assert list(mean_field.state_dict()) == list(same.state_dict())
    with torch.no_grad():
        assert torch.equal(mean_field(x), same(x))
        back = cifar.to_resnet(moved(mean_field))
        assert list(back.state_dict()) == list(vanilla.state_dict())
        assert all(type(stage) is PlainStage for stage in back.body if isinstance(stage, PlainStage))
        torch.testing.assert_close(back.eval()(x), mean_field.eval()(x), rtol=1e-4, atol=1e-5)


def test_blocks_are_known_by_what_they_do():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    forms = [split(Block(4, 4)), split(Block(4, 4, order="pre"))]
    assert [branch.post for branch, _ in forms] == [True, False]
    assert [type(after) for _, after in forms] == [nn.ReLU, type(None)]
    zero = Block(4, 4)
    nn.init.zeros_(zero.bn2.weight)  # a common start, at which the branch is 0
    assert isinstance(split(zero)[0], Rest)
    torch.set_rng_state(state)
    expected = torch.rand(1)
    torch.set_rng_state(state)
    for stranger in (Linear(), nn.Conv2d(4, 4, 1), Block(4, 6), Block(4, 4, stride=2)):
        assert split(stranger) is None
    torch.set_rng_state(state)
    dropping = copy.deepcopy(zero)
    dropping.__class__ = Dropping
    assert split(dropping) is None
    assert torch.equal(torch.rand(1), expected)  # trying took nobody's random numbers


def test_any_block_by_difference():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(Linear(), Linear(), Linear()))
    with pytest.raises(InputError, match=r"expected 2 or more residual blocks .* got none in Sequential"):
        cifar.from_resnet(model, rule="split")
    mean_field = cifar.from_resnet(model, stages=["1"], rule=difference)
    (stage,) = cifar.stages(mean_field)
    torch.testing.assert_close(mean_field(images()), model(images()))
    stage.place([1.0, 0.2, 0.6])
    back = cifar.to_resnet(mean_field)
    assert [round(m.step, 12) for m in back.modules() if isinstance(m, Scaled)] == [0.6, 1.2, 1.2]
    torch.testing.assert_close(back(images()), mean_field(images()))


def test_what_does_not_fit_is_named():
    torch.manual_seed(0)
    uneven = nn.Sequential(Block(4, 4), Block(4, 4), Block(4, 4, bias=True))
    with pytest.raises(InputError, match=r"stage 'blocks', counted from child 0: .*block\.conv1\.bias .* in block 2"):
        cifar.from_resnet(nn.ModuleDict({"blocks": uneven}), stages=["blocks"])
    (stage,) = cifar.stages(cifar.from_resnet(nn.ModuleDict({"blocks": uneven})))
    assert len(stage) == 2  # left to itself it takes the run that there is
    odd = nn.ModuleDict({"blocks": nn.Sequential(Block(4, 4), Linear(), Block(4, 4))})
    with pytest.raises(InputError, match="got Linear at 1, which is none that the rule knows"):
        cifar.from_resnet(odd, stages=["blocks"], rule="split")
    with pytest.raises(InputError, match=r"stage 'blocks', counted from child 0: .* in block 0 and None in block 1"):
        cifar.from_resnet(odd, stages=["blocks"])
    with pytest.raises(InputError, match="got Conv2d at 0, which is a single layer; pass rule='difference'"):
        cifar.from_resnet(nn.ModuleDict({"blocks": nn.Sequential(nn.Conv2d(4, 4, 1))}), stages=["blocks"])
    with pytest.raises(InputError, match=r"unknown rule 'halve'.*expected one of auto, difference, split"):
        cifar.from_resnet(odd, rule="halve")
    with pytest.raises(InputError, match=r"unknown stage 'layer3'.*expected one of layer1, layer2"):
        cifar.from_resnet(made(), stages=["layer3"])
    with pytest.raises(InputError, match="minimum"):
        cifar.from_resnet(made(), 0)
    with pytest.raises(InputError, match="expected 4 or more"):
        cifar.from_resnet(made(), 4)
    assert [len(stage) for stage in cifar.stages(cifar.from_resnet(made(), 3))] == [3]
    assert [len(stage) for stage in cifar.stages(cifar.from_resnet(made(), stages=["layer2"]))] == [2]
    assert cifar.stages(cifar.from_resnet(made(), ends="free", axes=2))[0].sizes == [2, 1]


def test_five_lines():
    """What the package's docstring says, on a network of one's own."""
    my_resnet, x, y = made(), images(), torch.arange(4)
    model = cifar.from_resnet(my_resnet)
    optimiser = torch.optim.SGD(cifar.parameter_groups(model, lr=0.05, weight_decay=1e-4), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(8):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimiser.step()
        cifar.settle(model)
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(0 <= depth <= 1 for stage in cifar.stages(model) for depth in stage.tau.tolist())
    assert any((stage.steps() != 1).any() for stage in cifar.stages(model))
    assert isinstance(cifar.stages(model)[0], MeanFieldStage)


class Doubling(nn.Sequential):
    """No row of blocks, whatever its base class says."""

    def forward(self, x):
        for block in self:
            x = 2 * block(x)
        return x


class Named(nn.Sequential):
    """A row of blocks under a name of its own."""


def with_activation(activation, **options):
    block = Block(4, 4, **options)
    block.relu = activation
    return block


def test_containers_with_a_forward_of_their_own_are_left_alone():
    torch.manual_seed(0)
    for container in (Doubling(Block(4, 4), Block(4, 4)), nn.Sequential(Block(4, 4), Block(4, 4))):
        container.forward = lambda x, container=container: 3 * container[1](container[0](x))
        with pytest.raises(InputError, match=r"no forward of its own, got none in ModuleDict"):
            cifar.from_resnet(nn.ModuleDict({"blocks": container}))
    model = nn.Sequential(Doubling(Block(4, 4), Block(4, 4)), nn.Sequential(Block(4, 4), Block(4, 4)))
    mean_field = cifar.from_resnet(model)
    assert [type(part) for part in mean_field[0]] == [Block, Block]
    assert torch.equal(mean_field(images(1, 4)), model(images(1, 4)))
    with pytest.raises(InputError, match=r"stage '0': expected a torch.nn.Sequential without .*, got Doubling"):
        cifar.from_resnet(model, stages=["0"])
    named = cifar.from_resnet(Named(Block(4, 4), Block(4, 4)))
    assert type(named) is Named
    assert [len(stage) for stage in cifar.stages(named)] == [2]


@pytest.mark.parametrize("options", [{}, {"stages": [""], "rule": difference}])
def test_a_block_that_stands_twice_is_refused(options):
    torch.manual_seed(0)
    again, tied = Block(4, 4), [Block(4, 4), Block(4, 4)]
    tied[1].conv2.weight = tied[0].conv2.weight
    for blocks in ([again, Block(4, 4), again], [again, again], tied):
        with pytest.raises(
            InputError, match=r"with parameters of their own, got 0\.branches\.\d\.block\.conv\d\.weight"
        ):
            cifar.from_resnet(nn.Sequential(*blocks), **options)
    elsewhere = nn.ModuleDict({"row": nn.Sequential(again, Block(4, 4)), "other": again})
    with pytest.raises(InputError, match=r"got other\.conv1\.weight which is row\.0\.branches\.0\.block"):
        cifar.from_resnet(elsewhere)


def test_what_stands_twice_and_is_no_block_stays_twice():
    """A relu, and a whole Sequential: each is met as often as before, there and back."""
    torch.manual_seed(0)
    relu, row = nn.ReLU(), nn.Sequential(Block(4, 4), Block(4, 4))
    model, x = nn.Sequential(row, nn.Conv2d(4, 4, 1), relu, nn.Conv2d(4, 4, 1), relu, row).eval(), images(1, 4)
    mean_field = cifar.from_resnet(model)
    assert mean_field[0] is mean_field[5]
    assert len(cifar.stages(mean_field)) == 1
    assert torch.equal(mean_field(x), model(x))
    cifar.stages(mean_field)[0].place([1.0, 0.3])
    torch.testing.assert_close(cifar.to_resnet(mean_field)(x), mean_field(x), rtol=1e-4, atol=1e-5)
    flat = nn.Sequential(relu, MeanFieldStage([nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)]), nn.Conv2d(4, 4, 1), relu)
    torch.testing.assert_close(cifar.to_resnet(flat)(x), flat(x))


class Slope(nn.Module):
    """An activation whose print shows nothing of its slope."""

    def __init__(self, slope):
        super().__init__()
        self.slope = slope

    def forward(self, x):
        return nn.functional.leaky_relu(x, self.slope)


@pytest.mark.parametrize("kind", [nn.LeakyReLU, Slope])
def test_runs_end_where_the_closing_activation_changes(kind):
    torch.manual_seed(0)
    model, x = nn.Sequential(*(with_activation(kind(s)) for s in (0.01, 0.01, 0.9, 0.9, 0.5))), images(1, 4)
    mean_field = cifar.from_resnet(model)
    assert [len(stage) for stage in cifar.stages(mean_field)] == [2, 2]
    assert torch.equal(mean_field(x), model(x))
    with pytest.raises(InputError, match=r"blocks that end with one activation, got .* at 0 and .* at 2"):
        cifar.from_resnet(model, stages="", rule="split")
    whole = cifar.from_resnet(model, stages="")  # by difference each block keeps its own
    assert [len(stage) for stage in cifar.stages(whole)] == [5]
    assert torch.equal(whole(x), model(x))
    inner = nn.Sequential(*(with_activation(kind(s), order="pre") for s in (0.01, 0.9)))  # each keeps its own inside
    assert torch.equal(cifar.from_resnet(inner)(x), inner(x))


class Skipped(Block):
    """Stochastic depth, so rare that a trial does not meet it."""

    def __init__(self, chance):
        super().__init__(4, 4)
        self.chance = chance

    def forward(self, x):
        return self.relu(x) if self.training and self.chance() < 1e-12 else super().forward(x)


def test_blocks_that_take_random_numbers_are_refused():
    numpys = np.random.RandomState(0).get_state()
    for chance in (lambda: torch.rand(()), random.random, lambda: np.random.rand(), None):  # noqa: NPY002
        state, block = random.getstate(), Skipped(chance or (lambda: 0.5))
        np.random.set_state(numpys)  # noqa: NPY002
        assert (split(block) is None) == (chance is not None)
        assert random.getstate() == state
        assert np.random.get_state()[2] == numpys[2]  # noqa: NPY002
    idle = Block(4, 4)
    idle.drop = nn.Dropout(0.0)
    assert split(idle) is None


def test_parametrised_last_layers():
    """A step would be written to a number that is computed anew: refused, or kept beside the branch."""
    torch.manual_seed(0)
    norm, x = nn.utils.parametrizations.weight_norm, images(1, 4)
    pre, post = [Block(4, 4, order="pre") for _ in range(3)], [Block(4, 4), Block(4, 4)]
    assert isinstance(split(pre[0])[0], Rest)
    mean_field = cifar.from_resnet(nn.Sequential(*pre)).eval()
    for block in (*pre, *post):
        norm(block.conv2)
    assert split(pre[0]) is None
    row = cifar.from_resnet(nn.Sequential(*post)).eval()  # their last layer is a normalisation
    cifar.stages(row)[0].place([1.0, 0.3])
    torch.testing.assert_close(cifar.to_resnet(row)(x), row(x), rtol=1e-4, atol=1e-5)
    own = MeanFieldStage([cifar_blocks.basic(4, 4) for _ in range(2)], tau=[1.0, 0.3]).eval()
    for branch in own.branches:
        norm(branch.convolutions[-1])
    cifar.stages(mean_field)[0].place([0.5, 0.2, 0.9])
    for stage in (own, mean_field):
        with torch.no_grad():
            torch.testing.assert_close(cifar.to_resnet(stage)(x), stage(x), rtol=1e-4, atol=1e-5)
    assert any(isinstance(part, Scaled) for part in cifar.to_resnet(own).modules())
    assert not any(isinstance(part, Scaled) for part in cifar.to_resnet(mean_field).modules())


class Timed(Block):
    def forward(self, x, t):
        return super().forward(x)


class Picky(Block):
    def forward(self, x):
        if x.shape[-1] != 9:
            raise ValueError("only 9")
        return super().forward(x)


def test_what_cannot_be_tried_or_read_is_refused_in_words():
    torch.manual_seed(0)
    assert split(Timed(4, 4)) is None
    assert split(Picky(4, 4)) is None
    assert split(with_activation(nn.PReLU())) is None  # one of a stage cannot stand for those of its blocks
    inside = nn.Sequential(*(with_activation(nn.PReLU(init=s), order="pre") for s in (0.1, 0.7)))
    assert torch.equal(cifar.from_resnet(inside)(images(1, 4)), inside(images(1, 4)))
    for wrong, told in (
        ({"rule": 3}, "rule: .*got 3"),
        ({"stages": 3}, "stages: .*got 3"),
        ({"stages": [3]}, "got 3|stage 3"),
    ):
        with pytest.raises(InputError, match=told):
            cifar.from_resnet(made(), **wrong)
    for convert in (cifar.from_resnet, cifar.to_resnet):
        with pytest.raises(InputError, match=r"model: expected a torch\.nn\.Module, got 3"):
            convert(3)
    assert [len(stage) for stage in cifar.stages(cifar.from_resnet(made(), stages="layer2"))] == [2]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("rule", [split, difference])
def test_the_mode_is_copied(training, rule):
    model = cifar.from_resnet(made().train(training), stages=["layer1"], rule=rule)
    for each in (model, cifar.to_resnet(model)):
        assert {module.training for module in each.modules()} == {training}
    vanilla = cifar.build("resnet20", seed=2).train(training)
    for each in (cifar.from_resnet(vanilla), cifar.to_resnet(cifar.from_resnet(vanilla))):
        assert {module.training for module in each.modules()} == {training}
