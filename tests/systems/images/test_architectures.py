"""Networks of the table: sizes against the published ones, the vanilla start, weights as functions of the seed."""

import doctest
import re

import pytest

from wgflow.base.errors import InputError

torch = pytest.importorskip("torch")

from wgflow.systems.images import architectures  # noqa: E402 # torch first
from wgflow.systems.images.architectures import ARCHITECTURES, build  # noqa: E402
from wgflow.systems.images.stage import stages  # noqa: E402

PUBLISHED = {  # millions of parameters, as printed: arXiv:1512.03385 table 6, 1603.05027, 1611.05431 table 7
    "resnet20": "0.27",
    "resnet32": "0.46",
    "resnet44": "0.66",
    "resnet56": "0.85",
    "resnet110": "1.7",
    "resnet164": "1.7",
    "resnext29_8x64d": "34.4",
    "resnext29_16x64d": "68.1",
}
CONVOLUTIONS = {"basic": 2, "bottleneck": 3}


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


def meta(name, **options):
    """The network without storage; nothing is drawn."""
    with torch.device("meta"):
        return build(name, **options)


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_are_the_published_ones(name):
    printed = PUBLISHED[name]
    digits = len(printed.split(".")[1])
    total = count(meta(name)) / 1e6
    assert abs(total - float(printed)) < 0.6 * 10**-digits, total  # 68.15 is printed 68.1: rounded or cut
    mean_field = meta(name, mean_field=True)
    assert count(mean_field) - count(meta(name)) == sum(map(len, stages(mean_field)))  # the depths


def test_the_table_in_the_documentation_is_right():
    rows = dict(re.findall(r"^(\w+) +([\d,]+)  ", architectures.__doc__, re.MULTILINE))
    assert {name: int(total.replace(",", "")) for name, total in rows.items()} == {n: count(meta(n)) for n in PUBLISHED}
    assert doctest.testmod(architectures).failed == 0


def test_projections_and_classes_change_them_as_they_should():
    assert count(meta("resnet20", shortcut="projection")) - count(meta("resnet20")) == 16 * 32 + 32 * 64
    assert count(meta("resnet20", classes=100)) - count(meta("resnet20")) == 90 * 65
    assert count(meta("resnet20")) - count(meta("resnet20", channels=1)) == 2 * 9 * 16


@pytest.mark.parametrize("name", PUBLISHED)
def test_depth_is_in_the_name(name):
    """Layers with weights on the longest path: convolutions without shortcuts, and the readout."""
    model = meta(name)
    convolutions = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Conv2d) and "projection" not in n]
    expected = int(name.removeprefix("resnext").removeprefix("resnet").split("_")[0])
    assert len(convolutions) + 1 == expected
    what = ARCHITECTURES[name]
    particles = [what.blocks - (what.stem != what.widths[0]), what.blocks - 1, what.blocks - 1]
    assert [len(stage) for stage in stages(meta(name, mean_field=True))] == particles


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if not name.startswith("resnext")])
def test_mean_field_starts_at_the_vanilla_network_bit_for_bit(name, training):
    side = 8 if name != "resnet20" else 32
    x = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        vanilla, mean_field = (build(name, mean_field=which, seed=3).train(training)(x) for which in (False, True))
    assert torch.equal(vanilla, mean_field)
    assert vanilla.std() > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnext29_8x64d", "resnext29_16x64d"])
def test_resnext_starts_at_the_vanilla_network_bit_for_bit(name):
    x = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        vanilla, mean_field = (build(name, 100, which)(x) for which in (False, True))
    assert torch.equal(vanilla, mean_field)


def test_weights_are_functions_of_the_seed_and_their_name():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = build("resnet20", seed=5).state_dict()
    assert torch.equal(torch.get_rng_state(), state)  # nobody else's numbers change
    torch.manual_seed(2)
    again, other = build("resnet20", mean_field=True, seed=5).state_dict(), build("resnet20", seed=6).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert [name for name in again if name not in first] == [f"body.{k}.u" for k in (0, 2, 4)]
    drawn = [name for name in first if not torch.equal(first[name], other[name])]
    assert len(drawn) == 1 + 18 + 1
    weight = first["body.4.branches.1.convolutions.0.weight"]
    # variance 2 / (9 * 64): 36,864 squares of Gaussians, relative deviation 0.0074; 5 of them are passed once in 1e6
    assert weight.square().mean().item() == pytest.approx(2 / (9 * 64), rel=5 * 0.0074)


def test_options_reach_the_stages():
    model = build("resnet_digits", 10, True, 1, ends="reflect", axes=2, tau="uniform", seed=4)
    assert [stage.sizes for stage in stages(model)] == [[3, 2], [2, 2]]
    assert {stage.ends for stage in stages(model)} == {"reflect"}
    depths = torch.cat([stage.tau for stage in stages(model)])
    assert len(set(depths.tolist())) == 9
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


def test_unknown_names_are_refused():
    with pytest.raises(InputError, match=r"unknown architecture 'resnet21'.*did you mean 'resnet"):
        build("resnet21")
    with pytest.raises(InputError, match="unknown shortcut"):
        build("resnet20", shortcut="C")
    with pytest.raises(InputError, match="unknown tau law"):
        build("resnet20", mean_field=True, tau="even")
    with pytest.raises(InputError, match="classes"):
        build("resnet20", classes=0)
    with pytest.raises(InputError, match="at most 2 axes"):
        build("resnet20", mean_field=True, axes=3)
