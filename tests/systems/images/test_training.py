"""Training image networks: pairs by seed, rates, augmentation, checkpoints, frames."""

import math
import signal
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from wgflow.base import rng  # noqa: E402
from wgflow.base.errors import BackendError, DivergenceError, InputError  # noqa: E402
from wgflow.systems.images import checkpoint, record, training  # noqa: E402
from wgflow.systems.images.architectures import summarise  # noqa: E402
from wgflow.systems.images.augment import crop_and_flip, draws  # noqa: E402
from wgflow.systems.images.data import Images, digit_images  # noqa: E402
from wgflow.systems.images.members import machine  # noqa: E402
from wgflow.systems.images.recipe import Recipe  # noqa: E402
from wgflow.systems.images.stage import stages  # noqa: E402
from wgflow.systems.images.training import Trainer  # noqa: E402

TINY = {"batch": 32, "padding": 1, "flip": False, "lr": 0.05, "columns": 4}


def images(train=96, test=20):
    return digit_images().first(train, test)


def trainer(method="mean_field", seed=0, epochs=2, some=None, **options):
    return Trainer(Recipe("resnet_digits", method, **(TINY | options)), some or images(), seed, epochs)


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items() if not name.endswith(".u")}


def test_pairs_start_from_the_same_weights_and_see_the_same_images(monkeypatch):
    seen = {"vanilla": [], "mean_field": []}
    outputs = {}
    for method, batches in seen.items():
        made = trainer(method, seed=5)
        outputs[method] = weights(made.model)

        def watched(batch, labels, rate, made=made, batches=batches, step=Trainer._step):
            batches.append((batch.clone(), labels.clone(), rate))
            return step(made, batch, labels, rate)

        monkeypatch.setattr(made, "_step", watched)
        made.train()
        made.train()
    assert outputs["vanilla"].keys() == outputs["mean_field"].keys()
    assert all(torch.equal(tensor, outputs["mean_field"][name]) for name, tensor in outputs["vanilla"].items())
    assert len(seen["vanilla"]) == 6
    for (x, y, rate), (x2, y2, rate2) in zip(*seen.values(), strict=True):
        assert torch.equal(x, x2)
        assert torch.equal(y, y2)
        assert rate == rate2
    first, later = seen["vanilla"][0][0], seen["vanilla"][3][0]
    assert not torch.equal(first, later)  # another epoch, another order and other crops
    assert not torch.equal(weights(trainer(seed=6).model)["stem.weight"], outputs["vanilla"]["stem.weight"])


def test_the_first_step_is_the_vanilla_one_and_then_depths_move():
    pair = [trainer(method, seed=1) for method in ("vanilla", "mean_field")]
    scores = [each.score() for each in pair]
    assert scores[0] == scores[1]
    for each in pair:
        each.train()
    (stage, *_) = stages(pair[1].model)
    assert (stage.tau != torch.arange(1, 6) / 5).any()
    assert pair[0].last.loss != pair[1].last.loss
    pinned = trainer(seed=1, tau_rate=0.0, tau_weight_decay=0.0)
    pinned.train()
    assert torch.equal(stages(pinned.model)[0].u, torch.arange(1.0, 6.0, dtype=torch.float64))


def test_an_epoch_is_sgd_written_down_again():
    """One epoch of the vanilla network against the update formulas, v <- m v + g + d w, w <- w - lr v, by hand."""
    some = images(64)
    made = trainer("vanilla", seed=2, some=some, momentum=0.8, weight_decay=1e-3, epochs=1)
    twin = training.network(made.recipe, some, 2)
    order = np.argsort(rng.uniform(2, "order of epoch 0", (64, 1))[:, 0])
    x = torch.tensor(some.train, dtype=torch.float64)
    x = ((x - x.mean()) / x.std(correction=0)).float()
    velocity = [torch.zeros_like(each) for each in twin.parameters()]
    twin.train()
    losses = []
    for step in range(2):
        chosen = order[32 * step : 32 * step + 32]
        batch = torch.stack([cropped(x[k], *draws(2, 0, 64, 1, False)[k], 1) for k in chosen])
        loss = torch.nn.functional.cross_entropy(twin(batch), torch.tensor(some.train_labels[chosen]))
        losses.append(loss.item())
        twin.zero_grad()
        loss.backward()
        with torch.no_grad():
            for k, weight in enumerate(twin.parameters()):
                velocity[k] = 0.8 * velocity[k] + weight.grad + 1e-3 * weight
                weight -= 0.05 * velocity[k]
    made.train()
    assert made.last.loss == pytest.approx(np.mean(losses), rel=1e-4)
    for name, weight in twin.state_dict().items():
        torch.testing.assert_close(made.model.state_dict()[name], weight, rtol=2e-3, atol=2e-4)


def cropped(image, down, right, flip, padding, outside="constant"):
    """One image, pixel by pixel."""
    channels, height, width = image.shape
    out = torch.zeros_like(image)
    for c in range(channels):
        for i in range(height):
            for j in range(width):
                row, column = i + down - padding, (width - 1 - j if flip else j) + right - padding
                if outside == "reflect":
                    row = abs(row) if row < height else 2 * height - 2 - row
                    column = abs(column) if column < width else 2 * width - 2 - column
                if 0 <= row < height and 0 <= column < width:
                    out[c, i, j] = image[c, row, column]
    return out


@pytest.mark.parametrize("mode", ["zeros", "reflect"])
def test_crops_and_flips_against_a_loop_over_pixels(mode):
    batch = torch.randn(12, 2, 6, 5, generator=torch.Generator().manual_seed(0))
    drawn = draws(1, 0, 12, padding=3)
    found = crop_and_flip(batch, torch.tensor(drawn), 3, mode)
    twin = torch.stack([cropped(image, *row, 3, mode) for image, row in zip(batch, drawn.tolist(), strict=True)])
    assert torch.equal(found, twin)
    drawn[:, 2] = 1 - drawn[:, 2]  # negative control: the other flips
    assert not torch.equal(crop_and_flip(batch, torch.tensor(drawn), 3, mode), twin)
    last = batch.contiguous(memory_format=torch.channels_last)
    again = crop_and_flip(last, torch.tensor(draws(1, 0, 12, padding=3)), 3, mode)
    assert again.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(again, twin)
    with pytest.raises(InputError, match="unknown mode 'wrap': expected one of reflect, zeros"):
        crop_and_flip(batch, torch.tensor(drawn), 3, "wrap")


def test_rates_of_both_schedules():
    steps = Recipe("resnet20")
    assert [steps.rate(epoch * 390, 160, 390) for epoch in (0, 79)] == [0.1, 0.1]
    assert steps.rate(80 * 390 - 1, 160, 390) == 0.1
    later = [steps.rate(epoch * 390, 160, 390) for epoch in (80, 119, 120, 159)]
    assert later == pytest.approx([0.01, 0.01, 0.001, 0.001])
    warm = Recipe("resnet20", warm_up=1)
    assert [warm.rate(step, 160, 390) for step in (0, 389, 390)] == pytest.approx([0.01, 0.01, 0.1])
    cycle = Recipe("resnet20", lr=0.4, schedule="one_cycle", rise=0.25)
    rates = [cycle.rate(step, 3, 33) for step in range(99)]
    assert max(rates) == pytest.approx(0.4)
    assert rates.index(max(rates)) == 24
    assert np.allclose(np.diff(rates[:25]), 0.4 / 25)
    assert np.allclose(np.diff(rates[24:]), -0.4 / 75)
    assert min(rates) > 0
    for wrong in ({"lr": 0.0}, {"schedule": "cosine"}, {"factor": 2.0}, {"rise": 1.0}, {"milestones": (3, 3)}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            Recipe("resnet20", **wrong)


def test_the_optimiser_follows_the_schedule_in_all_groups():
    made = trainer(tau_rate=0.5, schedule="steps", milestones=(1,), epochs=2)
    made.train()
    assert [group["lr"] for group in made.optimiser.param_groups] == pytest.approx([0.05, 0.025])
    made.train()
    assert [group["lr"] for group in made.optimiser.param_groups] == pytest.approx([0.005, 0.0025])
    assert made.last.rate == pytest.approx(0.005)


def test_switches_are_counted_step_by_step(monkeypatch):
    made = trainer(seed=0)
    (first, *_) = stages(made.model)
    moves = iter([[2.0, 1.0, 3.0, 4.0, 5.0], [1.0, 2.0, 3.0, 4.0, 5.0], [5.0, 4.0, 3.0, 2.0, 1.0]])
    settle = training.settle

    def move(model):
        settle(model)
        with torch.no_grad():
            first.u.copy_(torch.tensor(next(moves), dtype=torch.float64))

    monkeypatch.setattr(training, "settle", move)
    assert made.train().switches == 1 + 1 + 10
    assert made.switches == 12


def test_scores_by_hand():
    made = trainer("vanilla")
    some = images()
    made.train()
    found = made.score()
    made.model.eval()
    mean, sd = (some.train.mean(), some.train.std())
    with torch.no_grad():
        outputs = made.model((torch.tensor(some.test).float() - mean) / sd).numpy()
    logs = outputs - np.log(np.exp(outputs).sum(axis=1, keepdims=True))
    assert found.loss == pytest.approx(-logs[np.arange(20), some.test_labels].mean(), rel=1e-4)
    assert found.error == pytest.approx(np.mean(outputs.argmax(axis=1) != some.test_labels))
    assert made.score("train", 30) != made.score("train")


def test_colours_are_means_and_deviations_of_each_channel():
    pixels = np.random.default_rng(0).integers(256, size=(7, 3, 4, 4)).astype(np.uint8)
    mean, sd = training.colours(Images("cifar10", pixels, np.zeros(7, int), pixels, np.zeros(7, int), 10, False))
    np.testing.assert_allclose(mean.flatten(), pixels.mean(axis=(0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(sd.flatten(), pixels.std(axis=(0, 2, 3)), rtol=1e-6)


def test_a_constant_channel_becomes_0_and_is_named(caplog):
    """Grey images in three planes of which one is empty: 0/0 would make every loss NaN."""
    some = images(40, 20)
    planes = [np.concatenate([each, np.full_like(each, 7)], axis=1) for each in (some.train, some.test)]
    planes[1][:, 1] += 3  # test images differ in what was constant
    mean, sd = training.colours(some._replace(train=planes[0], test=planes[1]))
    normalised = (torch.from_numpy(planes[1]).float() - mean) / sd
    assert (normalised[:, 1] == 0).all()
    assert normalised[:, 0].std() == pytest.approx(1.0, abs=0.2)
    (record,) = caplog.records
    assert record.getMessage() == (
        "images: channel 1 of 2 is constant over the training samples; standardised, it is 0"
    )


def same(a, b):
    """Whether two states are equal to the last bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b or (isinstance(a, float) and math.isnan(a) and math.isnan(b))


def test_a_checkpoint_holds_all_that_training_goes_on_from(tmp_path):
    whole, part = trainer(tau_rate=5.0), trainer(tau_rate=5.0)
    whole.train()
    part.train()
    checkpoint.save(tmp_path / "c", part.state())
    other = trainer(tau_rate=5.0)
    other.load(checkpoint.load(tmp_path / "c"))
    torch.rand(3)  # torch's own generator is not asked
    for each in (whole, other):
        each.train()
    assert same(whole.state(), other.state())
    assert not same(whole.state(), part.state())
    foreign = {
        "seed": trainer(tau_rate=5.0, seed=1),
        "recipe": trainer(tau_rate=5.0, lr=0.04),
        "images": trainer(tau_rate=5.0, some=images(96, 21)),
    }
    for what, wrong in foreign.items():
        with pytest.raises(InputError, match=f"expected one of this training, got one of another .*{what}; delete it"):
            wrong.load(checkpoint.load(tmp_path / "c"))
    with pytest.raises(InputError, match="expected one of this training, got something else"):
        part.load({"epoch": 1})


def test_checkpoints_of_another_length_are_refused_where_rates_depend_on_it(tmp_path):
    short, long = (trainer(schedule="one_cycle", milestones=(), epochs=epochs) for epochs in (2, 3))
    with pytest.raises(InputError, match="with other epochs"):
        long.load(short.state())
    trainer(epochs=3).load(trainer(epochs=2).state())
    old = {key: value for key, value in trainer().state().items() if key not in ("images", "epochs")}
    trainer().load(old)  # of a version that did not write them


def test_a_foreign_checkpoint_beside_a_trajectory_is_refused_by_name(tmp_path):
    start = course().system
    first = next(course(tmp_path / "c").run(start, 2.0, 1.0))
    for state in (trainer("mean_field", seed=7).state(), {"mine": 1}):  # of an epoch that would be passed over, too
        checkpoint.save(tmp_path / "c", state)
        with pytest.raises(InputError, match=r"c: checkpoint: expected one of this training, .*; delete it, and"):
            next(course(tmp_path / "c").run(first, 2.0, 1.0))


def test_damaged_checkpoints_are_refused(tmp_path):
    path = tmp_path / "c"
    checkpoint.save(path, {"epoch": 3, "w": torch.arange(5.0)})
    assert same(checkpoint.load(path), {"epoch": 3, "w": torch.arange(5.0)})
    assert list(tmp_path.iterdir()) == [path]  # nothing beside it
    raw = path.read_bytes()
    flipped = bytearray(raw)
    flipped[-200] ^= 1
    for broken in (raw[:-1], b"", bytes(flipped), raw[:40], b"x" + raw):
        path.write_bytes(broken)
        with pytest.raises(InputError, match="expected a whole checkpoint, got a damaged or foreign file; delete it"):
            checkpoint.load(path)
    with pytest.raises(InputError, match="expected a readable checkpoint"):
        checkpoint.load(tmp_path / "nothing")


def course(path=None, **options):
    system = record.Trained(Recipe("resnet_digits", "mean_field", **(TINY | options)), images(64), "cpu")
    made = record.Course(system, 0)
    made.checkpoint = path
    return made


def told(frame):
    return (
        frame.step,
        frame.s,
        frame.theta.tobytes(),
        frame.tau.tobytes(),
        frame.energy,
        frame.switches,
        ({k: v for k, v in frame.observables.items() if not np.isnan(v)}),
    )


def test_a_course_goes_on_from_any_of_its_frames(tmp_path):
    start = course().system
    frames = list(course(tmp_path / "c").run(start, 3.0, 1.0))
    assert [frame.s for frame in frames] == [0.0, 1.0, 2.0, 3.0]
    last = (tmp_path / "c").read_bytes()
    for known in range(3):
        path = tmp_path / f"c{known}"
        run = course(path).run(start, 3.0, 1.0)
        for _ in range(known + 1):
            frame = next(run)
        again = list(course(path).run(frame, 3.0, 1.0))
        assert [told(each) for each in again if each.step > known] == [told(each) for each in frames[known + 1 :]]
        assert same(checkpoint.load(path), checkpoint.load(tmp_path / "c"))
    # its checkpoint is one frame ahead: that frame comes from there; further ahead: all is done again
    one = list(course(tmp_path / "c").run(frames[2], 3.0, 1.0))
    assert [told(each) for each in one] == [told(frames[3])]
    two = list(course(tmp_path / "c").run(frames[1], 3.0, 1.0))
    assert [told(each) for each in two] == [told(each) for each in frames[2:]]
    assert len(last) == len((tmp_path / "c").read_bytes())


def test_frames_are_what_the_network_says():
    made = course()
    frame = next(made.run(made.system, 1.0))
    model = made.trainer(1).model
    assert frame.theta.shape == (9, 4)
    assert frame.tau.tolist() == [0.2, 0.4, 0.6, 0.8, 1.0, 0.25, 0.5, 0.75, 1.0]
    theta, _ = record.particles(model, 1000)
    blocks = [torch.cat([each.flatten() for each in block.parameters()]) for block in stages(model)[0].branches]
    wide = [torch.dist(blocks[0], each).item() for each in blocks[1:]]
    near = [np.linalg.norm(theta[0] - theta[k]) for k in range(1, 5)]
    np.testing.assert_allclose(near, wide, rtol=0.15)  # relative sd of a projected length is 1/sqrt(2q) = 2.2%: 6 sd
    vanilla = record.Trained(Recipe("resnet_digits", **TINY), images(64), "cpu")
    other = next(record.Course(vanilla, 0).run(vanilla, 1.0))
    assert np.array_equal(other.theta, frame.theta)
    assert np.array_equal(other.tau, frame.tau)
    assert other.energy == frame.energy
    assert len(vanilla) == 9


def test_a_survey_counts_what_a_network_has():
    found = summarise("resnet20", 10, (3, 32, 32))
    assert found.blocks == (3, 2, 2)
    assert found.parameters == 269722
    sides, multiplied = ((16, 32), (32, 16), (64, 8)), 3 * 16 * 9 * 32**2
    for k, (width, side) in enumerate(sides):
        first = width * sides[max(k - 1, 0)][0] * 9 * side**2
        multiplied += 5 * width**2 * 9 * side**2 + first
    assert found.multiplications == multiplied + 64 * 10


def test_divergence_keeps_the_last_good_frame():
    made = course(lr=1e20, schedule="steps")
    run = made.run(made.system, 4.0, 1.0)
    first = next(run)
    with pytest.raises(
        DivergenceError, match=r"diverged in epoch 1: its loss is not finite; try a smaller lr"
    ) as caught:
        list(run)
    assert caught.value.frame is first


def test_arguments_out_of_range_are_clear_errors():
    for wrong in ({"method": "both"}, {"batch": 1}, {"momentum": 1.0}, {"precision": "half"}, {"columns": 0},
                  {"tau_rate": -1.0}, {"outside": "wrap"}, {"smoothing": 1.0}):  # fmt: skip
        with pytest.raises(InputError, match=next(iter(wrong))):
            Recipe("resnet20", **wrong)
    with pytest.raises(InputError, match="nesterov"):
        Recipe("resnet20", nesterov=True, momentum=0.0)
    with pytest.raises(InputError, match="batch: expected at most the 96 images, got 128"):
        trainer(batch=128)
    with pytest.raises(InputError, match="unknown architecture 'resnet21'"):
        record.Trained(Recipe("resnet21"), images(), "cpu")
    with pytest.raises(BackendError, match="expected auto, cpu or gpu"):
        machine("reference")
    if not torch.cuda.is_available():
        with pytest.raises(BackendError, match="use --backend cpu"):
            machine("gpu")
    with pytest.raises(InputError, match="whole number of steps"):
        course().run(course().system, 1.5)


def test_mixed_precision_trains_too():
    made = trainer(precision="mixed")
    plain = trainer()
    assert made.train().loss == pytest.approx(plain.train().loss, rel=0.05)
    assert made.last.loss != plain.last.loss
    assert all(each.dtype != torch.bfloat16 for each in made.model.state_dict().values())


SCRIPT = """
import os, signal, sys
import torch
from wgflow.systems.images import record
from wgflow.systems.images.data import digit_images
from wgflow.systems.images.recipe import Recipe
from wgflow.trajectory import TrajectoryWriter
from pathlib import Path
recipe = Recipe("resnet_digits", "mean_field", batch=32, padding=1, flip=False, lr=0.05, columns=4, tau_rate=5.0)
system = record.Trained(recipe, digit_images().first(96, 20), "cpu")
course = record.Course(system, 0)
course.checkpoint = Path(sys.argv[1])
step, left = torch.optim.SGD.step, 2 * 3 + 2  # epochs of three batches: in the middle of the third

def struck(self, *arguments):
    global left
    step(self, *arguments)
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

torch.optim.SGD.step = struck
for frame in course.run(system, 6.0, 1.0):
    pass
"""


def test_a_real_kill_and_a_resume_equal_a_run_left_alone(tmp_path):
    """Kill -9 in the middle of training; what goes on from its checkpoint is, bit for bit, what was never killed."""
    options = {"tau_rate": 5.0}
    some = images()
    system = record.Trained(Recipe("resnet_digits", "mean_field", **(TINY | options)), some, "cpu")
    killed = tmp_path / "killed"
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(killed)], check=False)
    assert done.returncode == -signal.SIGKILL
    reached = checkpoint.load(killed)["epoch"]
    assert reached == 2
    whole = record.Course(system, 0)
    whole.checkpoint = tmp_path / "whole"
    frames = list(whole.run(system, 6.0, 1.0))
    again = record.Course(system, 0)
    again.checkpoint = killed
    rest = list(again.run(frames[reached], 6.0, 1.0))
    assert [told(each) for each in rest] == [told(each) for each in frames[reached + 1 :]]
    assert same(checkpoint.load(killed), checkpoint.load(tmp_path / "whole"))
