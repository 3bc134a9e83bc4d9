import numpy as np
import pytest

import wgflow
from wgflow.cli import runs
from wgflow.report import export
from wgflow.sims import run
from wgflow.study.workspace import MemberFile, Workspace
from wgflow.trajectory import schema
from wgflow.trajectory.convert import write_netcdf

xarray = pytest.importorskip("xarray")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("export")
    changes = [
        "grid.particles.count=[4, 6]",
        "flow.until=1.0",
        "figure=none",
        'grid.depth=[{name="gaps"}, {name="shallow"}]',
    ]
    options = [part for change in changes for part in ("--set", change)]
    assert run.main(["quickstart", "--out", str(place), "--quiet", *options]) == 0
    (found,) = place.glob("*/[0-9a-f]*")
    return found


def test_members_along_named_dimensions(folder):
    dataset = export.to_xarray(Workspace(folder), particles=True)
    assert dict(dataset.sizes) == {"count": 2, "seed": 2, "depth": 2, "frame": 3, "particle": 6, "component": 23}
    assert dataset["depth"].values.tolist() == ["gaps", "shallow"]
    for member in Workspace(folder).members():
        values = member.values
        chosen = dataset.sel(count=values["particles.count"], seed=values["seed"], depth=values["depth"]["name"])
        with wgflow.Trajectory(member.path) as trajectory:
            np.testing.assert_array_equal(chosen["energy"], trajectory.series("energy"))
            np.testing.assert_array_equal(chosen["heldout"], trajectory.series("heldout"))
            count = values["particles.count"]
            np.testing.assert_array_equal(chosen["theta"][-1, :count], trajectory[-1].theta)
            assert np.isnan(chosen["tau"][:, count:]).all()


def test_a_file_comes_back(folder, tmp_path, capsys):
    assert runs.export([str(folder), str(tmp_path / "a.nc")]) == 0
    with xarray.open_dataset(tmp_path / "a.nc", engine="h5netcdf") as found:
        xarray.testing.assert_identical(found.load(), export.to_xarray(Workspace(folder)))
    assert runs.export([str(folder), str(tmp_path / "a.csv")]) == 2
    assert runs.export([str(tmp_path), str(tmp_path / "b.nc")]) == 2
    assert "expected the folder of a run" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.nc"]


class Relabelled(Workspace):
    """A run whose first members have other grid values: of each key the first, the second, ..."""

    def __init__(self, folder, grid):
        super().__init__(folder)
        rows = [dict(zip(grid, values, strict=True)) for values in zip(*grid.values(), strict=True)]
        paths = Workspace(folder).trajectories()[: len(rows)]
        self.listed = [MemberFile("", values, path) for values, path in zip(rows, paths, strict=True)]

    def members(self):
        return self.listed


def exported(folder, grid, place, particles=False):
    """The data set of a run with other grid values, as it comes back from a file."""
    write_netcdf(export.to_xarray(Relabelled(folder, grid), particles), place / "a.nc")
    with xarray.open_dataset(place / "a.nc", engine="h5netcdf") as found:
        return found.load()


@pytest.mark.parametrize("particles", [False, True])
def test_a_key_named_like_a_variable_or_another_key_goes_by_its_whole_name(folder, tmp_path, particles):
    whole = ["flow.step", "particles.tau", "flow.mobility.tau", "problem.heldout", "own.frame", "own.particle"]
    whole += ["own.mass", "a.count", "b.count"]
    names = dict(zip(whole, whole, strict=True))
    names |= {"flow.every": "every", "count": "count", "energy": "grid.energy", "step": "grid.step", "a/b": "a_b"}
    found = exported(folder, {key: [0.1] for key in names}, tmp_path, particles)
    assert set(found.coords) == set(names.values())
    assert found["energy"].dims == (*names.values(), "frame")
    assert schema.RESERVED.isdisjoint(found.coords)


# Values of a key, and the coordinates they have in the file.
VALUES = {
    "truths": ([True, False], [True, False]),
    "numbers": ([1, 2.5], [1.0, 2.5]),
    "none": ([None, 1], ["None", "1"]),
    "truth_and_number": ([True, 1], ["True", "1"]),
    "same_in_words": ([1, "1"], ["1", '"1"']),
    "large": ([0, 10**30], ["0", str(10**30)]),
    "texts": (["é", "σ[red]"], ["é", "σ[red]"]),
    "no_texts": (["a\udcff", "a\x1b\0"], ["a\\udcff", "a\\x1b\\x00"]),
    "lists": ([["a", "b"], []], ["['a', 'b']", "none"]),
    "table_and_none": ([{"name": "x"}, None], ["x", "None"]),
    "table_and_text": ([{"name": "x"}, "x"], ['{"name": "x"}', '"x"']),
    "tables": ([{}, {"tau": 0}], ["", "(tau=0)"]),
}


def test_values_of_any_kind_are_told_apart(folder, tmp_path):
    found = exported(folder, {f"own.{key}": values for key, (values, _) in VALUES.items()}, tmp_path)
    assert {key: found[key].values.tolist() for key in VALUES} == {key: said for key, (_, said) in VALUES.items()}


def test_members_of_any_kind_side_by_side(folder, tmp_path):
    """Particles or numbers alone, a member that is missing, one without a frame."""
    options = ["--set", 'grid.record=["numbers","particles"]', "--set", "flow.until=0.2", "--set", "figure=none"]
    options += ["--set", "grid.particles.count=[4]", "--set", "particles.scale={a=1e200}"]
    assert run.main(["quickstart", "--out", str(tmp_path), "--quiet", "--jobs", "1", *options]) == run.DIVERGED
    (work,) = map(Workspace, tmp_path.glob("*/[0-9a-f]*"))
    work.members()[1].path.unlink()
    found = export.to_xarray(work, particles=True)
    assert found.sizes["frame"] == 0
    write_netcdf(found, tmp_path / "a.nc")
