"""Ranks that share evaluations: sums along the tree, bits that do not depend on how many they are, wrong use.

Here ranks are threads, with messages by queues; tests/sims/test_mpi.py runs them under mpirun.
"""

import contextlib
import queue
import threading

import numpy as np
import pytest

import wgflow
from wgflow.base.errors import BackendError, InputError
from wgflow.flow.stepsize import Trial
from wgflow.kernels import ranks as ranks_module
from wgflow.kernels.cpu import chunks
from wgflow.kernels.ranks import Ranks, share_of_cores

ROW = np.array([1e16, 1.0, -1e16, 3.0, 1e-3])  # of other sums in every order


class Message:
    """Request of a message that has arrived once a queue holds it."""

    def __init__(self, line=None, out=None):
        self.line, self.out = line, out

    def Test(self):
        if self.line is None:
            return True
        try:
            data = self.line.get_nowait()
        except queue.Empty:
            return False
        assert data.size == self.out.size
        self.out[...] = data.reshape(self.out.shape)
        return True


class Comm:
    """What Ranks uses of a communicator of mpi4py."""

    def __init__(self, rank, size, lines):
        self.rank, self.size, self.lines = rank, size, lines

    def Get_rank(self):
        return self.rank

    def Get_size(self):
        return self.size

    def Split_type(self, kind):
        raise NotImplementedError

    def Isend(self, array, rank, tag):
        self.lines[self.rank, rank].put(array.copy())
        return Message()

    def Irecv(self, array, rank, tag):
        return Message(self.lines[rank, self.rank], array)

    def Ibcast(self, array, root):
        if self.rank != root:
            return self.Irecv(array, root, 0)
        for rank in range(self.size):
            if rank != root:
                self.Isend(array, rank, 0)
        return Message()


@pytest.fixture(autouse=True)
def threads_as_ranks(monkeypatch):
    """One core for each; and no lock of a class, as of a cached property up to Python 3.11, held while a rank waits."""
    monkeypatch.setattr(Ranks, "_share_of_cores", lambda ranks: 1)
    monkeypatch.setattr(ranks_module, "_SPIN", 0.0)
    for attribute in vars(Trial).values():
        if hasattr(attribute, "lock"):
            monkeypatch.setattr(attribute, "lock", contextlib.nullcontext())


def on_ranks(size, work):
    """Results of work(comm) on so many threads; the first error of one is raised."""
    lines = {(sender, receiver): queue.Queue() for sender in range(size) for receiver in range(size)}
    results, errors = [None] * size, []

    def run(rank):
        try:
            results[rank] = work(Comm(rank, size, lines))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(rank,), daemon=True) for rank in range(size)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads) and not errors:  # after one the others would wait for ever
        threads[0].join(0.01)
        threads[-1].join(0.01)
    if errors:
        raise errors[0]
    return results


@contextlib.contextmanager
def many_chunks(few=2**17, grain=2**12):
    """Small problems divided like large ones."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"_WORK": 1, "_BLOCK": 16, "_FEW": few, "_GRAIN": grain}.items():
            patch.setattr(chunks, name, value)
        yield


@pytest.mark.parametrize("count", [1, 2, 3, 8, 13, 16, 17, 40])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 20])
def test_sum_over_ranks_is_that_of_one_process_to_the_bit(count, size):
    parts = np.random.default_rng(count).permuted(np.tile(ROW, (count, 1)), axis=1)
    owned = [0] * count

    def work(comm):
        ranks = Ranks(comm)
        for chunk in ranks.share(count):
            assert ranks.owner(chunk, count) == ranks.rank
            owned[chunk] += 1
        return ranks.tree_sum(parts[ranks.share(count)].copy(), count)

    total, *others = on_ranks(size, work)
    assert owned == [1] * count
    assert all(other is None for other in others)
    assert total.tobytes() == chunks.tree_sum(parts.copy()).tobytes()
    if count == 40:  # the order matters
        assert (total != parts.sum(axis=0)).any()


def frames_on(comm, depth, few, **options):
    """Bytes of a short flow, and of what else an energy evaluates."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(301, 3))
    problem = wgflow.Problem.padded(x, np.sin(x.sum(axis=1)), **options.pop("problem", {}))
    energy = wgflow.Energy(
        problem, depth, threads=None if comm else 1, dtype=options.pop("dtype", "float64"), comm=comm
    )
    layered = isinstance(energy.depth, wgflow.Layers)
    rho = wgflow.Particles.draw_layers(problem, 4, 5, 1) if layered else wgflow.Particles.draw(problem, 20, 1)
    flow = wgflow.Flow(energy, **{"step": 0.1} | options)
    frames = list(flow.run(rho, until=0.2))
    numbers = [number for frame in frames for number in (frame.energy, frame.dissipation, frame.s, frame.h)]
    last = frames[-1].particles
    numbers += [energy(last), energy(last, batch=[1, 5, 7]), *energy.pairings(last)]
    states = [array.tobytes() for frame in frames for array in (frame.theta, frame.tau)]
    assert energy.kernel.chunks(energy.network(rho), 301) >= 10
    return b"".join([np.array(numbers).tobytes(), *states, energy.predict(last, x).tobytes()])


FLOWS = {
    "gaps": ("gaps", {}),
    "deposit": ({"name": "deposit", "layers": 6}, {}),
    "layers": ({"name": "layers", "layers": 4}, {}),
    "shallow": ("shallow", {}),
    "batches": ("gaps", {"batch": 200}),
    "descent": ("gaps", {"step": {"name": "descent", "length": 0.5}}),
    "adaptive": (
        {"name": "deposit", "layers": 6},
        {"integrator": "heun", "step": {"name": "adaptive", "length": 0.1, "rtol": 1e-6}},
    ),
    "noise": (
        {"name": "deposit", "layers": 6},
        {"boundary": "reflect", "ingredients": [{"name": "langevin", "temperature": 0.01, "seed": 2}]},
    ),
    "two_layer": ("gaps", {"problem": {"block": {"name": "two_layer", "hidden": 2}, "activation": "gelu"}}),
    "float32": ("gaps", {"dtype": "float32"}),
}


def same_bits_on_ranks(sizes, few, depth, options):
    with many_chunks(few, 24):
        alone = frames_on(None, depth, few, **options)
        for size in sizes:
            for result in on_ranks(size, lambda comm: frames_on(comm, depth, few, **options)):
                assert result == alone, f"{size} ranks"


@pytest.mark.parametrize("name", FLOWS)
def test_flows_have_the_same_bits_on_two_and_three_ranks(name):
    same_bits_on_ranks((2, 3), 2**17, *FLOWS[name])


@pytest.mark.parametrize("few", [2**17, 300])
def test_evaluations_have_the_same_bits_on_any_number_of_ranks(few):
    same_bits_on_ranks((1, 5, 17), few, *FLOWS["gaps"])


def test_loss_of_many_samples_is_added_up_by_whole_grains():
    losses = np.random.default_rng(0).exponential(size=3 * 2**17 + 5)
    plan = chunks.divide(len(losses), 16_000, 50_000, 2000)
    assert plan.size % 4096 == 0
    assert plan.chunks > 16
    parts = [losses[low : low + plan.size] for low in range(0, len(losses), plan.size)]
    whole = chunks.summands(losses, len(losses))
    assert np.concatenate([chunks.summands(part, len(losses)) for part in parts]).tobytes() == whole.tobytes()
    assert chunks.mean(losses) == pytest.approx(losses.mean(), rel=1e-14)


def test_other_measure_or_data_on_another_rank_is_refused_on_all():
    def wrong_measure(comm):
        problem = wgflow.Problem.padded(np.linspace(-1, 1, 301)[:, None], np.zeros(301))
        energy = wgflow.Energy(problem, comm=comm)
        with pytest.raises(InputError, match="got others on rank 2 than on rank 0; use the same data"):
            energy.velocity(wgflow.Particles.draw(problem, 20, seed=comm.rank // 2))
        return True

    def wrong_data(comm):
        problem = wgflow.Problem.padded(np.linspace(-1, 1, 301)[:, None], np.full(301, float(comm.rank == 1)))
        energy = wgflow.Energy(problem, comm=comm)
        with pytest.raises(InputError, match="on rank 1"):
            energy(wgflow.Particles.draw(problem, 20))
        return True

    with many_chunks():
        assert on_ranks(3, wrong_measure) == [True] * 3
        assert on_ranks(3, wrong_data) == [True] * 3


def test_what_ranks_cannot_share_is_refused():
    problem = wgflow.Problem.padded([[0.0], [1.0]], [0.0, 1.0])
    with pytest.raises(InputError, match=r"comm: expected a communicator of mpi4py.*got 3 \(int\)"):
        wgflow.Energy(problem, comm=3)
    with pytest.raises(BackendError, match=r"comm: expected the compiled kernels.*backend 'reference'"):
        wgflow.Energy(problem, backend="reference", comm=Comm(0, 2, {}))
    huber = wgflow.Problem.padded([[0.0], [1.0]], [0.0, 1.0], loss="huber")
    with pytest.raises(BackendError, match="comm: expected the compiled kernels"):
        wgflow.Energy(huber, comm=Comm(0, 2, {}))
    assert wgflow.Energy(huber, comm=Comm(0, 1, {})).backend == "cpu"  # one process shares nothing


@pytest.mark.parametrize(
    ("cores", "threads"),
    [
        ([[0, 1]], [2]),
        ([[0, 1], [0, 1]], [1, 1]),
        ([[0, 1], [0, 1], [0, 1]], [1, 1, 1]),  # at least one
        ([[0], [1], [2]], [1, 1, 1]),  # bound to cores
        ([[0, 1, 2, 3]] * 2 + [[4, 5, 6, 7]] * 2, [2, 2, 2, 2]),  # bound to sockets
        ([list(range(9))] * 3, [3, 3, 3]),
    ],
)
def test_cores_of_a_host_are_divided_among_its_ranks(cores, threads):
    assert [share_of_cores(cores, rank) for rank in range(len(cores))] == threads
