import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wgflow
from wgflow.depth import DEPTHS, depth, switches
from wgflow.errors import InputError


def test_gaps_sorts_and_breaks_ties_by_index():
    rho = wgflow.Particles(np.zeros((4, 3)), [0.5, 0.25, 0.5, 0.0])
    net = wgflow.Gaps().network(rho)
    assert net.particle.tolist() == [3, 1, 0, 2]
    assert net.weight.tolist() == [0.0, 0.25, 0.25, 0.0]
    assert net.first.tolist() == [0, 1, 2, 3, 4]


def test_gaps_locates_depths_in_half_open_intervals():
    rho = wgflow.Particles(np.zeros((2, 3)), [0.8, 0.3])
    t = np.array([0.0, 0.3, 0.31, 0.8, 0.9, 1.0])
    assert wgflow.Gaps().locate(rho, t).tolist() == [0, 0, 1, 1, 2, 2]


def test_gaps_needs_mass():
    rho = wgflow.Particles(np.zeros((2, 3)), [0.1, 0.2], [1.0, 0.0])
    with pytest.raises(InputError, match="expected weights > 0 under Gaps"):
        wgflow.Gaps().network(rho)
    wgflow.Shallow().network(rho)


def test_registry():
    for name, kind in DEPTHS.items():
        assert depth(name).spec() == kind().spec() == {"name": name}
        assert depth(kind().spec()) == kind()
    with pytest.raises(InputError, match="did you mean 'gaps'"):
        depth("gasp")


@given(st.permutations(list(range(9))), st.permutations(list(range(9))))
def test_switches_counts_discordant_pairs(before, after):
    place_before, place_after = np.argsort(before), np.argsort(after)
    brute = sum(
        (place_before[i] < place_before[j]) != (place_after[i] < place_after[j]) for i in range(9) for j in range(i)
    )
    assert switches(np.array(before), np.array(after)) == brute
