"""Opening a trajectory is light: no kernels, no problem, no HDF5."""

import json
import subprocess
import sys

SCRIPT = """
import json, sys
import wgflow
with wgflow.Trajectory(sys.argv[1]) as trajectory:
    frames = list(trajectory)
print(json.dumps([len(frames), sorted(sys.modules)]))
"""
NEEDED = {"copies", "energy_balance", "errors", "types"}
ROOM = {"file_io", "frames", "layout", "reader", "schema"}


def test_reading_frames_imports_neither_models_nor_kernels(run, write):
    create, frames, path, _ = run
    write(create, frames)
    out = subprocess.run([sys.executable, "-c", SCRIPT, str(path)], capture_output=True, check=True, text=True).stdout
    count, modules = json.loads(out)
    assert count == len(frames)
    own = {name for name in modules if name.split(".")[0] == "wgflow"}
    base = {f"wgflow.base.{name}" for name in NEEDED}
    assert own <= {"wgflow", "wgflow.base", "wgflow.trajectory", *base, *(f"wgflow.trajectory.{n}" for n in ROOM)}
    assert not {"h5py", "numba", "scipy"} & set(modules)
