"""Small versions of the bundled studies: each takes a few seconds and still draws its own figures."""

from __future__ import annotations

from dataclasses import dataclass, field

STARTS = 4  # of each search of the theorem report
FLOW_TOO = "{'particles.count'=64, 'network.method'='flow', 'flow.integrator'='rk4'}"


@dataclass(frozen=True)
class Small:
    """One bundled study, made small."""

    changes: tuple[str, ...]  # for --set
    figures: tuple[str, ...]  # that must be drawn
    needs: tuple[str, ...] = ()  # packages beyond those of wgflow[study]
    theorems: bool = False  # the theorem report too
    loose: dict[str, float] = field(default_factory=dict)  # relative tolerances of numbers, where not 1e-6: why is said


STUDIES = {
    "quickstart": Small(
        ("flow.until=4.0", "grid.seed=[0]", "grid.particles.count=[4, 6]"),
        ("loss_and_particles",),
        theorems=True,
    ),
    "convergence": Small(
        (
            "grid.problem=[{name='diabetes', heldout=0.25}]",
            "grid.particles.count=[8, 16, 32, 64]",
            "grid.seed=[0, 1, 2, 3]",
            "reference.particles.count=512",
            "flow.until=8.0",
        ),
        ("convergence_rates", "convergence_loss", "convergence_models"),
    ),
    "teacher": Small(
        ("flow.until=8.0", "flow.every=1.0", "grid.seed=[0]", "grid.particles.count=[4, 8]"),
        ("loss_and_particles",),
    ),
    "order_switching": Small(
        ("flow.until=1.0", "grid.seed=[0]", "grid.particles.count=[8, 16]"),
        ("switching",),
    ),
    "ensemble": Small(
        (
            "flow.until=0.5",
            "flow.every=0.5",
            "depth.layers=4",
            "particles.count=8",
            "grid.seed=[0]",
            "grid.particles.scale.a=[1, 2]",
        ),
        ("ensemble", "envelope"),
    ),
    "landscape": Small(
        ("flow.until=5.0", "grid.seed=[0]", "problem.samples=20", "particles.count=8"),
        ("landscape",),
    ),
    "depth_width": Small(
        (
            "grid.depth.layers=[2, 4, 8, 16, 32]",
            "grid.particles.per_layer=[2, 4, 8, 16]",
            "grid.particles.part=[0, 1, 2, 3]",
            "particles.within=64",
            "reference.depth.layers=64",
            "reference.particles.per_layer=64",
            "problem.samples=16",
            "also=[]",
            "flow.until=2.0",
            "flow.every=2.0",
        ),
        ("depth_width", "depth_width_clouds"),
        # Bootstrapped fits, each found by iteration to a tolerance of its own: the fifth digit depends on rounding.
        loose={
            f"{table}{bound}": 1e-3
            for table in ("depth_width.csv: ", "summary.json: depth_width[].")
            for bound in ("low", "high")
        },
    ),
    "sizing": Small(
        (
            "grid.depth.layers=[1, 2, 4]",
            "grid.particles.per_layer=[1, 4, 16]",
            "grid.seed=[0, 1, 2, 3, 4, 5, 6, 7, 8]",
            "target.eta=0.3",
        ),
        ("sizing",),
    ),
    "feature_flow": Small(
        (
            "grid.particles.count=[16]",
            "also=[{'network.method'='flow', 'flow.integrator'='rk4'}]",
            "problem.samples=20",
            "flow.until=2.5",
            "flow.every=0.5",
        ),
        ("feature_flow",),
    ),
    "feature_rate": Small(
        (
            "grid.particles.count=[32, 64, 128, 256]",
            "grid.seed=[0, 1, 2, 3]",
            f"also=[{{'particles.count'=64, 'flow.step'=[0.0625, 0.25, 0.5]}}, {FLOW_TOO}]",
            "reference.particles.count=512",
            "flow.until=2.0",
            "flow.every=1.0",
        ),
        ("feature_rate",),
    ),
    "feature_rate_dnn": Small(
        (
            "grid.particles.count=[32, 64, 128, 256]",
            "grid.seed=[0, 1, 2, 3]",
            f"also=[{{'particles.count'=64, 'flow.step'=[0.0625, 0.25, 0.5]}}, {FLOW_TOO}]",
            "reference.particles.count=512",
            "flow.until=2.0",
            "flow.every=1.0",
        ),
        ("feature_rate",),
    ),
    "feature_convergence": Small(
        ("particles.count=16", "flow.until=8.0", "flow.every=0.5"),
        ("feature_convergence",),
    ),
    "degeneracy": Small(
        ("grid.particles.count=[16, 32, 64, 128]", "flow.until=1.0", "flow.every=1.0", "problem.samples=20"),
        ("degeneracy",),
    ),
    "feature_digits": Small(
        ("grid.particles.count=[6, 12]", "flow.until=2.0", "flow.every=1.0"),
        ("feature_flow", "loss_and_particles"),
    ),
    "feature_figure1": Small(
        (
            "grid.particles.count=[6, 12]",
            "grid.network.outer=[1.0]",
            "grid.flow.step=[0.2, 0.5]",
            "also=[]",
            "flow.until=20.0",
            "flow.every=2.0",
        ),
        ("feature_figure1",),
    ),
    "regularised": Small(
        ("particles.per_layer=4", "grid.seed=[0]", "problem.samples=20", "flow.until=10.0"),
        ("regularised",),
    ),
    "escape": Small(
        (
            "flow.until=10.0",
            "grid.seed=[0]",
            "problem.samples=20",
            "particles.count=8",
            "also=[{'flow.ingredients'=[[{name='birth_death', rate=1.0}]]}]",
        ),
        ("escape",),
    ),
    "zero_loss": Small(
        ("flow.until=20.0", "grid.seed=[0]", "problem.samples=10", "particles.per_layer=8", "also=[]"),
        ("zero_loss",),
    ),
    "hidden_width": Small(
        (
            "grid.depth.layers=[1, 2, 4, 8]",
            "grid.particles.per_layer=[1, 2, 4, 8]",
            "grid.seed=[0]",
            "also=[{seed=1, problem.seed=1}, {seed=2, problem.seed=2}, {seed=3, problem.seed=3}]",
            "reference.problem.seed=[0, 1, 2, 3]",
            "reference.depth.layers=32",
            "reference.particles.per_layer=32",
            "flow.until=20.0",
            "flow.every=20.0",
        ),
        ("hidden_width",),
    ),
    "hidden_width_scales": Small(
        (
            "depth.layers=30",
            "particles.per_layer=4",
            "grid.problem.width=[3, 6]",
            "grid.seed=[0, 1, 2]",
            f"grid.particles.scale.a={[f'10**({k}/2 - 1) * sqrt(D)' for k in (0, 1, 2, 3, 5)]}",
            "flow.until=2.0",  # later, rounding grows at the largest scale
            "flow.every=1.0",
        ),
        ("hidden_width_scales",),
    ),
    "digits_resnet": Small(
        ("flow.until=1.0", "grid.seed=[0, 1]", "training.batch=32", "problem.train=96", "problem.test=40"),
        ("cifar",),
        needs=("torch",),
    ),
}

WITHOUT = {  # studies that are left out
    name: "needs the images of CIFAR, which do not come with the package"
    for name in (
        "cifar10_few",
        "cifar10_resnet20",
        "cifar10_resnet32",
        "cifar10_resnet44",
        "cifar10_resnet56",
        "cifar10_resnet110",
        "cifar10_resnet164",
        "cifar100_resnext29_8x64d",
        "cifar100_resnext29_16x64d",
        "cifar_table",
    )
}
