"""Stages of particles: the vanilla start, sorting, gradients of the depths, the ends of the axis."""

import itertools

import numpy as np
import pytest

import wgflow
from wgflow.base.errors import InputError

torch = pytest.importorskip("torch")

from wgflow.systems import images as cifar  # noqa: E402 # torch first
from wgflow.systems.images.blocks import basic  # noqa: E402
from wgflow.systems.images.stage import MeanFieldStage, PlainStage, parameter_groups, settle  # noqa: E402


def branches(seed, count=4, width=4):
    torch.manual_seed(seed)
    made = [basic(width, width) for _ in range(count)]
    for branch in made:  # statistics of their own, so that a mix-up would show
        for norm in branch.norms:
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2.0)
    return made


def images(seed, width=4, dtype=torch.float32):
    return torch.randn(3, width, 6, 6, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def by_hand(stage, x):
    """The formula, branch by branch, with steps from depths in float64."""
    n, depths = len(stage), stage.tau.detach().numpy()
    before = 0.0
    for i in np.argsort(depths, kind="stable"):
        x = x + n * (depths[i] - before) * stage.branches[i](x)
        before = depths[i]
    return x


@pytest.mark.parametrize("count", [1, 2, 3, 7, 49])
def test_the_start_is_the_vanilla_stage_bit_for_bit(count):
    inner = branches(0, count)
    x = images(1)
    plain, stage = PlainStage(inner), MeanFieldStage(inner)
    assert torch.equal(stage(x), plain(x))
    again = MeanFieldStage(inner, tau=np.arange(1, count + 1) / count)
    assert torch.equal(again.steps(), torch.ones(count, dtype=torch.float64))
    assert torch.equal(again(x), plain(x))


@pytest.mark.parametrize("folding", [True, False])
def test_forward_is_the_formula(rng, folding):
    inner = [branch.double() for branch in branches(0)]
    if not folding:
        inner = [torch.nn.Sequential(branch) for branch in inner]  # no last weight to be seen
    stage = MeanFieldStage(inner, tau=[0.7, 0.2, 0.9, 0.35]).eval()
    x = images(1, dtype=torch.float64)
    assert stage.order().tolist() == [1, 3, 0, 2]
    with torch.no_grad():
        np.testing.assert_allclose(stage(x), by_hand(stage, x), rtol=1e-12, atol=1e-12)
        assert not np.allclose(stage(x), PlainStage(inner).eval()(x))


@pytest.mark.parametrize("training", [True, False])
def test_the_list_may_stand_in_any_order(training):
    """All 24 orders of four blocks: the same bits forward and backward, running statistics in their block."""
    depths, x = np.array([0.7, 0.2, 0.9, 0.35]), images(1)
    results = []
    for order in itertools.permutations(range(4)):
        inner = branches(0)
        stage = MeanFieldStage([inner[i] for i in order], tau=depths[list(order)]).train(training)
        out = stage(x)
        out.square().sum().backward()
        back = np.argsort(order)
        results.append(
            [out, stage.u.grad[back.copy()]]
            + [p.grad for branch in inner for p in branch.parameters()]
            + [b.clone() for branch in inner for b in branch.buffers()]
        )
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))
    swapped = MeanFieldStage([branches(0)[i] for i in (1, 0, 2, 3)], tau=depths).train(training)
    assert not torch.equal(swapped(x), results[0][0])  # blocks without their depths


@pytest.mark.parametrize("folding", [True, False])
def test_gradient_of_the_depths(rng, folding):
    """Central differences in float64, and n (g_l - g_(l+1)) with g_l the product of adjoint and branch."""
    inner = [branch.double().eval() for branch in branches(0)]
    if not folding:
        inner = [torch.nn.Sequential(branch) for branch in inner]
    depths, x = np.array([0.7, 0.2, 0.9, 0.35]), images(1, dtype=torch.float64)
    stage = MeanFieldStage(inner, tau=depths, ends="free")
    target = torch.tensor(rng.normal(size=tuple(x.shape)))

    def loss(at):
        stage.place(at)
        return 0.5 * (stage(x) - target).square().sum()

    loss(depths).backward()
    got = 4 * stage.u.grad.numpy()
    h = 1e-6
    differences = [(loss(depths + h * e).item() - loss(depths - h * e).item()) / (2 * h) for e in np.eye(4)]
    np.testing.assert_allclose(got, differences, rtol=1e-7)

    stage.place(depths)
    states = [x]
    for branch, step in zip([inner[i] for i in stage.order()], stage.steps().detach(), strict=True):
        states.append((states[-1] + step * branch(states[-1])).detach().requires_grad_())
    adjoint, g = states[-1] - target, []
    for k in reversed(range(4)):
        branch, step = inner[stage.order()[k]], stage.steps().detach()[k]
        start = states[k].detach().requires_grad_()
        value = branch(start)
        g.insert(0, (adjoint * value).sum().item())
        adjoint = adjoint + step * torch.autograd.grad(value, start, adjoint)[0]
    formula = np.empty(4)
    formula[stage.order().numpy()] = 4 * (np.array(g) - np.append(g[1:], 0.0))
    np.testing.assert_allclose(got, formula, rtol=1e-10)
    assert abs(got - 4 * np.array(g)).max() > 1e-3 * abs(got).max()  # without the neighbour it would not fit


@pytest.mark.parametrize("free", [False, True])
def test_a_stage_is_the_core_scheme_of_gaps(rng, ridges, free):
    """Energy and gradients of the same network written in both: f = (a / n) tanh(w.x + b), gap = step / n."""
    count, width = 5, 3
    theta = rng.normal(size=(count, 2 * width + 1))
    inner = ridges(theta)
    depths = rng.uniform(size=count) * (1.4 if free else 1.0)
    problem = wgflow.Problem(rng.normal(size=(6, width)), rng.normal(size=(6, 2)), readout=rng.normal(size=(2, width)))
    energy = wgflow.Energy(problem, depth=wgflow.Gaps(), backend="reference")
    rho = wgflow.Particles(theta, depths, free=free)
    velocity = energy.velocity(rho)

    stage = MeanFieldStage(inner, tau=depths, ends="free" if free else "clip")
    arrays = {name: torch.tensor(array) for name, array in problem.arrays().items()}
    out = stage(arrays["x"]) @ torch.tensor(np.array(problem.readout)).T
    loss = 0.5 * (out - arrays["y"]).square().sum(1).mean()
    loss.backward()
    assert loss.item() == pytest.approx(velocity.energy, rel=1e-13)
    assert stage.order().tolist() == rho.order.tolist()
    grad = np.array([torch.cat([p.grad.flatten() for p in branch.parameters()]).numpy() for branch in inner])
    np.testing.assert_allclose(-count * grad, velocity.theta, rtol=1e-11, atol=1e-14)  # masses 1/n
    # v_tau = -mass dE/dtau, and dE/dtau = n dE/du: descent in u at the rate of theta, both n times faster
    np.testing.assert_allclose(-count * stage.u.grad.numpy(), count * velocity.tau, rtol=1e-11, atol=1e-14)
    rates = {"theta": -count * grad, "u": -count * stage.u.grad.numpy()}
    assert rates["u"] == pytest.approx(count * velocity.tau)  # du/ds = n dtau/ds


@pytest.mark.parametrize(
    ("ends", "expected"), [("clip", [0.0, 0.5, 1.0]), ("reflect", [0.2, 0.5, 0.7]), ("free", None)]
)
def test_ends(rng, ridges, ends, expected):
    stage = MeanFieldStage(ridges(rng.normal(size=(3, 7))), ends=ends)
    moved = np.array([-0.2, 0.5, 1.3])
    with torch.no_grad():
        stage.u.copy_(torch.tensor(3 * moved))
    settle(torch.nn.Sequential(stage))
    np.testing.assert_allclose(stage.tau.detach(), moved if expected is None else expected, atol=1e-15)


def test_blocks_at_one_wall_take_no_step_but_the_first(rng, ridges):
    stage = MeanFieldStage(ridges(rng.normal(size=(4, 7))), tau=[1.0, 0.0, 0.5, 1.0])
    assert stage.order().tolist() == [1, 2, 0, 3]
    assert stage.steps().tolist() == [0.0, 2.0, 2.0, 0.0]
    x = torch.tensor(rng.normal(size=(2, 3)))
    stage(x).sum().backward()
    assert stage.branches[3].a.grad.abs().max() == 0
    assert stage.u.grad[3] != 0  # a step of 0 still has a slope


def test_order_follows_every_way_of_moving_a_depth(rng, ridges):
    """In place, through .data, by an optimiser, by loading: nothing remembers an order of before."""
    stage = MeanFieldStage(ridges(rng.normal(size=(2, 7))))
    x = torch.tensor(rng.normal(size=(2, 3)))
    stage(x)
    stage.u.data[:] = torch.tensor([2.0, 1.0])
    assert stage.order().tolist() == [1, 0]
    assert torch.equal(stage(x), MeanFieldStage(list(stage.branches)[::-1])(x))
    optimiser = torch.optim.SGD([stage.u], lr=1.0)
    stage.u.grad = torch.tensor([1.5, 0.0], dtype=torch.float64)
    optimiser.step()
    assert stage.order().tolist() == [0, 1]
    stage.load_state_dict(stage.state_dict() | {"u": torch.tensor([2.0, 1.0])})
    assert stage.order().tolist() == [1, 0]
    assert MeanFieldStage.switches(torch.tensor([0, 1, 2]), torch.tensor([2, 1, 0])) == 3


def test_axes_are_stages_of_their_own(rng, ridges):
    inner = ridges(rng.normal(size=(5, 7)))
    stage = MeanFieldStage(inner, tau=[0.9, 0.2, 0.6, 0.8, 0.1], axes=[2, 3])
    first, second = MeanFieldStage(inner[:2], [0.9, 0.2]), MeanFieldStage(inner[2:], [0.6, 0.8, 0.1])
    x = torch.tensor(rng.normal(size=(2, 3)))
    assert torch.equal(stage(x), second(first(x)))
    assert stage.order().tolist() == [1, 0, 4, 2, 3]
    np.testing.assert_allclose(stage.tau.detach(), [0.9, 0.2, 0.6, 0.8, 0.1], rtol=4e-16)
    assert MeanFieldStage(inner, axes=2).sizes == [3, 2]
    with torch.no_grad():
        stage.u += 10
    stage.settle()
    assert stage.u.tolist() == [2, 2, 3, 3, 3]


def test_after_every_step(rng, ridges):
    """Post-activation blocks: relu(x + step f(x)), which leaves states >= 0 as they are where the step is 0."""
    inner = ridges(rng.normal(size=(3, 7)))
    stage = MeanFieldStage(inner, tau=[0.5, 0.5, 1.0], after=torch.nn.ReLU())
    x = torch.tensor(abs(rng.normal(size=(4, 3))))
    middle = torch.relu(x + 1.5 * inner[0](x))
    np.testing.assert_allclose(stage(x).detach(), torch.relu(middle + 1.5 * inner[2](middle)).detach(), rtol=1e-14)


def test_parameter_groups(rng, ridges):
    stage = torch.nn.Sequential(torch.nn.Linear(3, 3), MeanFieldStage(ridges(rng.normal(size=(3, 7)))))
    weights, depths = parameter_groups(stage, 0.1, 1e-4, tau_lr=0.01)
    assert (weights["lr"], weights["weight_decay"], depths["lr"], depths["weight_decay"]) == (0.1, 1e-4, 0.01, 0.0)
    assert depths["params"][0] is stage[1].u
    assert len(depths["params"]) + len(weights["params"]) == len(list(stage.parameters()))
    assert parameter_groups(stage, 0.1, 0.0)[1]["lr"] == 0.1
    (only,) = parameter_groups(torch.nn.Linear(3, 3), 0.1, 0.0)
    assert only["name"] == "weights"
    with pytest.raises(InputError, match="tau_lr"):
        parameter_groups(stage, 0.1, 0.0, tau_lr=-1)


def test_pinned_depths_train_as_the_vanilla_network():
    """With a rate of 0 for the depths, training is vanilla training to the last bit; with another it is not."""
    results = []
    for mean_field, tau_lr in ((False, None), (True, 0.0), (True, 0.1)):
        inner = branches(0)
        model = MeanFieldStage(inner) if mean_field else PlainStage(inner)
        optimiser = torch.optim.SGD(parameter_groups(model, 0.01, 1e-3, tau_lr), lr=0.01, momentum=0.9)
        for step in range(3):
            optimiser.zero_grad()
            (model(images(step)) - images(step + 9)).square().mean().backward()
            optimiser.step()
            settle(model)
        results.append([p for branch in inner for p in branch.parameters()])
    equal = [all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True)) for other in results[1:]]
    assert equal == [True, False]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_depths_stay_in_double_precision(dtype):
    stage = MeanFieldStage(branches(0), tau=[0.1, 0.7, 0.3, 0.9])
    stage(images(1)).sum().backward()
    before = stage.u.detach().clone()
    stage.to(dtype)
    assert (stage.u.dtype, stage.u.grad.dtype) == (torch.float64, torch.float64)
    assert torch.equal(stage.u, before)
    assert stage.branches[0].last.dtype == dtype
    assert stage(images(1).to(dtype)).dtype == dtype
    with torch.autocast("cpu", torch.bfloat16):
        stage.float()(images(1)).sum().backward()


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch hides it by a filter that pytest overrules
def test_compiled_branches_are_not_compiled_again_when_blocks_change_places():
    from torch._dynamo.testing import CompileCounter

    torch._dynamo.reset()
    counter, stage, x = CompileCounter(), MeanFieldStage(branches(0)).eval(), images(1)
    compiled = torch.compile(stage, backend=counter)
    torch.testing.assert_close(compiled(x), stage(x))
    frames = counter.frame_count
    assert frames > 0
    stage.place([0.7, 0.2, 0.9, 0.35])
    torch.testing.assert_close(compiled(x), stage(x))
    assert counter.frame_count == frames
    torch._dynamo.reset()


def test_what_is_no_stage_is_refused(rng, ridges):
    with pytest.raises(InputError, match="at least one residual branch"):
        MeanFieldStage([])
    unequal = [*branches(0, 2), basic(4, 8)]
    with pytest.raises(InputError, match=r"norms\.1\.weight of shape \(4,\) in block 0 and \(8,\) in block 2"):
        MeanFieldStage(unequal)
    with pytest.raises(InputError, match="in block 1"):
        PlainStage([torch.nn.Linear(2, 2), torch.nn.Linear(2, 2, bias=False)])
    with pytest.raises(InputError, match="did you mean 'clip'"):
        MeanFieldStage(ridges(rng.normal(size=(5, 7))), ends="clop")
    with pytest.raises(InputError, match=r"expected shape \(5,\)"):
        MeanFieldStage(ridges(rng.normal(size=(5, 7))), tau=[0.5])
    with pytest.raises(InputError, match=r"depths in \[0, 1\]"):
        MeanFieldStage(ridges(rng.normal(size=(5, 7))), tau=[0.5, 0.1, 0.2, 0.3, 1.1])
    for axes in (0, 6, [2, 2], [5, 0], "2"):
        with pytest.raises(InputError, match="axes"):
            MeanFieldStage(ridges(rng.normal(size=(5, 7))), axes=axes)
    for stage in (PlainStage, MeanFieldStage):
        with pytest.raises(InputError, match=r"shape of x, \(4, 3\), got \(4, 1\)"):  # which would broadcast
            stage([torch.nn.Linear(3, 1)])(torch.zeros(4, 3))


def test_importing_wgflow_imports_no_torch():
    import subprocess
    import sys

    script = "import sys, wgflow.sims.run, wgflow.systems.images; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout.strip() == "False"
    assert set(cifar.__all__) == {name for names in cifar._HOME.values() for name in names} <= set(dir(cifar))


class Head(torch.nn.Module):
    """Somebody's branch with a layer, or a parameter, that is called last."""

    def __init__(self, last):
        super().__init__()
        self.first, self.last = torch.nn.Conv2d(4, 4, 1), last

    def forward(self, x):
        return self.last(self.first(x)) if isinstance(self.last, torch.nn.Module) else self.last * self.first(x)


@pytest.mark.parametrize("layer", [True, False])
def test_a_layer_called_last_is_no_offer(layer):
    torch.manual_seed(0)
    lasts = [torch.nn.Conv2d(4, 4, 1) if layer else torch.nn.Parameter(torch.ones(())) for _ in range(3)]
    stage = MeanFieldStage([Head(last) for last in lasts], tau=[0.7, 0.2, 0.9])
    torch.testing.assert_close(stage(images(1)), by_hand(stage, images(1)))
    assert MeanFieldStage(branches(0))._scalable
    assert not stage._scalable


def test_depths_loaded_as_they_are_become_double():
    source, stage = MeanFieldStage(branches(0), tau=[0.25, 0.75, 0.5, 1.0]), MeanFieldStage(branches(1))
    state = {name: t.half() if t.is_floating_point() else t for name, t in source.state_dict().items()}
    stage.load_state_dict(state, assign=True)
    assert stage.branches[0].last.dtype == torch.float16
    assert (stage.u.dtype, state["u"].dtype) == (torch.float64, torch.float16)
    assert torch.equal(stage.u, source.u)
    assert any(p is stage.u for p in stage.parameters())
    assert stage.u.requires_grad
