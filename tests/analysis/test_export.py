import numpy as np
import pytest

import wgflow
from wgflow.analysis import export
from wgflow.sims import run
from wgflow.workspace import Workspace

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
    (found,) = place.glob("*/*")
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
    assert export.main([str(folder), str(tmp_path / "a.nc")]) == 0
    with xarray.open_dataset(tmp_path / "a.nc", engine="h5netcdf") as found:
        xarray.testing.assert_identical(found.load(), export.to_xarray(Workspace(folder)))
    assert export.main([str(folder), str(tmp_path / "a.csv")]) == 2
    assert export.main([str(tmp_path), str(tmp_path / "b.nc")]) == 2
    assert "expected the folder of a run" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.nc"]
