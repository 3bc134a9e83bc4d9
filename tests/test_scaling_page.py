"""The page about scaling: what it shows is what was measured, and the paper model of a pipeline keeps its limits."""

import json
import math
from pathlib import Path

import pytest

from wgflow.sims.interconnect import Interconnect

ROOT = Path(__file__).parents[1]
FREE = Interconnect("nothing", 0.0, math.inf)


@pytest.fixture
def page(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import scaling_page

    return scaling_page


@pytest.fixture
def model(page):
    return page.pipeline_model


def test_page_in_the_repository_is_what_was_measured(page):
    text = (ROOT / "docs" / "scaling.md").read_text()
    results = json.loads((ROOT / "docs" / "scaling.json").read_text())
    assert page.filled(text, results) == text
    results["model"]["evaluation"]["sample"] *= 2
    assert page.forecast(results) not in text


def test_numbers_of_chunks_that_the_page_names(page):
    text = (ROOT / "docs" / "scaling.md").read_text()
    results = {"model": {"sizes": [1000, 0, 16], "evaluation": {"alone": 0.0, "sample": 0.0}}}
    few, many, most = (page.evaluation(results, samples) for samples in (131_072, 131_073, 10**9))
    assert (few.chunks, most.chunks) == (16, 512)
    assert many.chunk == 4096
    assert few.told == 8 * (1000 * (33 + 3) + 1)  # and the bounds of N + 1 layers
    assert few.sums == 8 * 1000 * (33 + 16)
    for words in ("at most 16 up to M = 131,072", "one per 4,096", "8 N (P + 3)", "8 N (P + G)", "are 512"):
        assert words in text


def test_measured_ways_are_compared_with_the_first(page):
    seconds = {"1 process": 10.0, "2 processes (--jobs 2)": 5.5, "1 Dask worker": 12.0, "2 Dask workers": 8.0}
    machine = {"processor": "P", "cores": 2, "python": "3"}
    sweep = {"long": {"members": 64, "seconds": seconds}, "tiny": {"members": 1000, "seconds": seconds}}
    text = page.measured({"machine": machine, "sweep": sweep})
    assert "| study of 64 members | 2 processes (--jobs 2) | 5.5 | 91% |" in text
    assert "| study of 64 members | 1 Dask worker | 12 | 83% |" in text
    assert "takes 10 ms in one process and 12 ms on one Dask worker, 8 ms on two" in text
    assert "takes 2.0 s longer than one process, most of it to start; without this two are 83% efficient" in text
    ranks = {"sizes": [1, 2, 3], "seconds": {"1 rank of 1": 4.0, "1 rank of 2": 2.0, "2 ranks of 1": 2.5}}
    text = page.measured({"machine": machine, "ranks": ranks})
    assert "| evaluation, N, M, D = 1, 2, 3 | 2 ranks of 1 | 2.5 | 80% |" in text
    assert "take 1.25 times as long" in text
    assert page.measured({"machine": machine}) == "Not measured."


def test_pipeline_waits_for_its_bubble_and_nothing_else(model):
    node = model.Node(memory=math.inf, bandwidth=math.inf, network=FREE)
    run = model.Run(1e8, 2**20, 64)
    ideal = model.REPEATED * run.work / (8 * node.flops)
    for batches in (1, 4, 64):
        cost = model.pipeline(run, node, 8, 8, batches)
        assert cost.bubble == pytest.approx(7 / (batches + 7))
        assert cost.seconds * (1 - cost.bubble) == pytest.approx(ideal)


def test_pipeline_needs_a_vector_of_samples_and_memory_for_a_stage(model):
    node, run = model.Node(), model.Run(1e8, 1000, 64)
    assert model.pipeline(run, node, 16, 16, 128) is None
    assert model.sharding(run, node, 16) is None
    assert model.pipeline(run, node, 16, 2, 8) is None
    assert model.pipeline(run, node, 16, 16, 8).stages == 16


def test_streaming_reads_no_less_for_fewer_samples_and_is_hidden_beyond_a_number_of_them(model):
    node = model.Node()._replace(network=FREE)
    few, more = (model.streaming(model.Run(1e8, samples, 64), node, 4).seconds for samples in (1, 100))
    assert few == more
    edge = 4 * model.even(node, 64)
    below, above = (model.streaming(model.Run(1e8, share * edge, 64), node, 4).seconds for share in (0.99, 1.01))
    assert below == few
    assert above == pytest.approx(1.01 * few)


def test_layers_that_are_divided_have_no_bubble(model):
    run, node = model.Run(1e8, 1024, 64), model.Node()
    free = node._replace(network=FREE)
    assert model.layerwise(run, free, 16, 100).seconds == pytest.approx(model.REPEATED * run.work / 16 / node.flops)
    many = model.layerwise(run, node, 16, 10_000).seconds - model.layerwise(run, node, 16, 100).seconds
    assert many == pytest.approx(2 * 9900 * model.all_reduce(8 * 1024 * 64, 16, node.network))
