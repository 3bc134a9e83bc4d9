"""Blocks as particles of the package, and what its trajectories and analyses then say of them."""

import numpy as np
import pytest

import wgflow
from wgflow.base.errors import InputError
from wgflow.base.types import Frame

torch = pytest.importorskip("torch")

from wgflow.systems import images as cifar  # noqa: E402 # torch first
from wgflow.systems.images import bridge  # noqa: E402
from wgflow.systems.images.stage import MeanFieldStage, PlainStage  # noqa: E402


def stage_of(seed=0, name="resnet20", which=0, **options):
    return cifar.stages(cifar.build(name, mean_field=True, seed=seed, **options))[which]


def test_to_particles_and_back_is_exact():
    stage = stage_of()
    with torch.no_grad():
        for parameter in stage.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
        stage.settle()
    rho = cifar.to_particles(stage)
    assert rho.theta.shape == (3, 2 * 9 * 16 * 16 + 4 * 16)
    first = [parameter.detach().flatten() for parameter in stage.branches[1].parameters()]
    np.testing.assert_array_equal(rho.theta[1], torch.cat(first))
    np.testing.assert_array_equal(rho.tau, stage.tau.detach())
    other = stage_of(9)
    cifar.from_particles(other, rho)
    for one, two in zip(stage.branches.parameters(), other.branches.parameters(), strict=True):
        assert torch.equal(one, two)
    torch.testing.assert_close(stage.u, other.u, rtol=3e-16, atol=0)
    start = stage_of(2, "resnet56")  # 9 blocks: depths l / 9 are not binary fractions
    cifar.from_particles(start, cifar.to_particles(stage_of(3, "resnet56")))
    assert torch.equal(start.steps(), torch.ones(9, dtype=torch.float64))


def test_vanilla_stages_are_particles_on_the_grid():
    vanilla = next(each for each in cifar.build("resnet20").modules() if type(each) is PlainStage)
    rho, other = cifar.to_particles(vanilla), cifar.to_particles(stage_of())
    np.testing.assert_array_equal(rho.theta, other.theta)
    np.testing.assert_array_equal(rho.tau, other.tau)


def test_free_depths():
    stage = stage_of(ends="free")
    stage.place([-0.5, 0.2, 1.5])
    rho = cifar.to_particles(stage)
    assert rho.free
    other = stage_of(1, ends="free")
    cifar.from_particles(other, rho)
    np.testing.assert_allclose(other.tau.detach(), [-0.5, 0.2, 1.5], rtol=3e-16)
    with pytest.raises(InputError, match=r"depths in \[0, 1\]"):
        cifar.from_particles(stage_of(), rho)


def test_projection_is_its_matrix_of_signs(rng):
    """Beyond one chunk, against the matrix put together entry by entry."""
    parameters, columns = bridge._ROWS + 37, 60
    theta = rng.normal(size=(3, parameters))
    signs = np.concatenate([bridge._signs(5, 0, bridge._ROWS, columns), bridge._signs(5, 1, 37, columns)])
    assert set(np.unique(signs)) == {-1.0, 1.0}
    # 495,660 fair signs: |mean| above 5 / sqrt(495660) once in 1.7 million; likewise each correlation of two columns
    assert abs(signs.mean()) < 5 / np.sqrt(signs.size)
    correlation = (signs.T @ signs / len(signs))[np.triu_indices(columns, 1)]
    assert abs(correlation).max() < 6 / np.sqrt(len(signs))  # 1770 pairs, 6 deviations: once in 3e5
    np.testing.assert_allclose(bridge.projected(theta, columns, 5), theta @ signs / np.sqrt(columns), rtol=1e-10)
    assert not np.allclose(bridge.projected(theta, columns, 6), bridge.projected(theta, columns, 5))
    assert not (signs[:37] == signs[bridge._ROWS :]).all()


def test_projection_keeps_distances():
    """Within the bound of Johnson and Lindenstrauss: at most one failure in m**b for m points, b = 2."""
    stage = stage_of(0, "resnet56")
    theta = cifar.to_particles(stage).theta
    m, e, b = len(theta), 0.5, 2
    columns = int(np.ceil((4 + 2 * b) * np.log(m) / (e**2 / 2 - e**3 / 3)))
    full, few = theta, cifar.to_particles(stage, columns, seed=4).theta
    assert few.shape == (9, columns)
    pairs = np.triu_indices(m, 1)

    def squares(x):
        return ((x[pairs[0]] - x[pairs[1]]) ** 2).sum(1)

    ratio = squares(few) / squares(full)
    assert abs(ratio - 1).max() < e
    assert abs(ratio - 1).max() > 1e-3  # a projection it is
    # mean over seeds: relative variance below 2 / q each; 5 deviations of the mean of 30 seeds for one pair
    means = [squares(cifar.to_particles(stage, 20, seed=seed).theta)[0] for seed in range(30)]
    assert np.mean(means) / squares(full)[0] == pytest.approx(1, abs=5 * np.sqrt(2 / 20 / 30))
    taken = cifar.to_particles(stage, 20, "subsample", seed=1).theta
    assert not np.allclose(squares(taken), squares(full), rtol=0.5)  # it does not


def test_subsample_takes_the_same_weights_of_all():
    stage = stage_of()
    theta = cifar.to_particles(stage).theta
    chosen = bridge.subsample(theta.shape[1], 12, seed=3)
    assert len(set(chosen)) == 12
    np.testing.assert_array_equal(cifar.to_particles(stage, 12, "subsample", seed=3).theta, theta[:, chosen])
    assert chosen.tolist() != bridge.subsample(theta.shape[1], 12, seed=4).tolist()
    np.testing.assert_array_equal(cifar.to_particles(stage, theta.shape[1] + 5).theta, theta)


class Photographed:
    """What a trajectory asks of a system that is run, for blocks of a stage."""

    def __init__(self, width):
        self.shape = (1, 1, 1, width)

    @property
    def problem(self):
        return self

    def arrays(self):
        return {"x": np.zeros((1, 1)), "y": np.zeros((1, 1)), "embed": np.eye(1), "readout": np.eye(1)}

    def spec(self):
        return {"name": "stage"}


def test_a_trajectory_of_a_training_run(tmp_path):
    """All weights over some steps; from the file's last frame the stage goes on as it would have."""
    from wgflow.trajectory.writer import TrajectoryWriter

    model = cifar.build("resnet_digits", 4, True, 1)
    stage = cifar.stages(model)[0]
    optimiser = torch.optim.SGD(cifar.parameter_groups(model, 0.05, 0.0), lr=0.05)
    x, y = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(4)
    path = tmp_path / "run.h5"
    width = cifar.to_particles(stage).theta.shape[1]
    with TrajectoryWriter.create(path, Photographed(width), len(stage), observables=("residual",)) as writer:
        for step in range(3):
            optimiser.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(x), y)
            loss.backward()
            rest = bridge.stationarity(stage)
            rho = cifar.to_particles(stage)
            writer.append(
                Frame(
                    step,
                    float(step),
                    rho.theta,
                    rho.tau,
                    rho.mass,
                    loss.item(),
                    0.0,
                    observables={"residual": rest.total},
                )
            )
            optimiser.step()
            cifar.settle(model)
        writer.finish()
    with wgflow.Trajectory(path) as trajectory:
        assert len(trajectory) == 3
        frame = trajectory[-1]
        assert trajectory.series("residual")[-1] == pytest.approx(rest.total)
    np.testing.assert_array_equal(frame.theta, rho.theta)
    other = stage_of(7, "resnet_digits")
    cifar.from_particles(other, wgflow.Particles(frame.theta, frame.tau))
    np.testing.assert_array_equal(cifar.to_particles(other).theta, rho.theta)


@pytest.mark.parametrize("ends", ["clip", "free"])
def test_stationarity_is_the_core_one(rng, ridges, ends):
    """Residual of the same network in the core: one block at the wall of depth, one without a gap."""
    from wgflow.theory.stationarity import residual

    theta, tau = rng.normal(size=(5, 7)), np.array([0.3, 1.0, 0.3, 0.8, 0.1])
    theta[1] = [1, 1, 1, 0, 0, 0, 1]  # what the block at the wall adds is wanted, so it is pushed outwards
    x, y, readout = rng.normal(size=(6, 3)), 10 + rng.normal(size=(6, 2)), rng.uniform(size=(2, 3))
    energy = wgflow.Energy(wgflow.Problem(x, y, readout=readout), depth=wgflow.Gaps(), backend="reference")
    expected = residual(energy, wgflow.Particles(theta, tau, free=ends == "free"), boundary=ends)

    stage = MeanFieldStage(ridges(theta), tau, ends)
    with pytest.raises(InputError, match=r"call loss\.backward\(\) before"):
        bridge.stationarity(stage)
    out = stage(torch.tensor(x)) @ torch.tensor(readout).T
    (0.5 * (out - torch.tensor(y)).square().sum(1).mean()).backward()
    found = bridge.stationarity(stage)
    assert found == pytest.approx(expected, rel=1e-10)
    assert found.theta > 0
    assert found.force > 0
    other = residual(energy, wgflow.Particles(theta, tau, free=True), boundary="free")
    assert (found.force == pytest.approx(other.force)) == (ends == "free")


def test_what_does_not_fit_is_refused():
    stage = stage_of()
    rho = cifar.to_particles(stage)
    with pytest.raises(InputError, match="unknown reduction of theta 'hash'"):
        cifar.to_particles(stage, 4, "hash")
    with pytest.raises(InputError, match="columns"):
        cifar.to_particles(stage, 0)
    with pytest.raises(InputError, match=r"expected theta of shape \(3, 4672\), .*got \(3, 8\)"):
        cifar.from_particles(stage, cifar.to_particles(stage, 8))
    with pytest.raises(InputError, match=r"got \(2, 4672\)"):
        cifar.from_particles(stage, wgflow.Particles(rho.theta[:2], rho.tau[:2]))
    with pytest.raises(InputError, match="blocks without any"):
        cifar.to_particles(MeanFieldStage([torch.nn.ReLU()]))
    with torch.no_grad():
        stage.branches[0].last.fill_(float("nan"))
    with pytest.raises(InputError, match="finite"):
        cifar.to_particles(stage)


def test_a_stage_has_no_place_for_unequal_masses():
    stage = stage_of(0, "resnet_digits")
    rho = cifar.to_particles(stage)
    masses = np.linspace(1.0, 2.0, len(rho))
    with pytest.raises(InputError, match="mass: expected equal weights, as a stage moves all its blocks alike"):
        cifar.from_particles(stage, wgflow.Particles(rho.theta, rho.tau, masses, free=True))
    cifar.from_particles(stage, wgflow.Particles(rho.theta, rho.tau, np.full(len(rho), 3.0), free=True))
