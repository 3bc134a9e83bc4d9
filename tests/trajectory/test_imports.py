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
NEEDED = {"wgflow", "wgflow.trajectory"} | {
    f"wgflow.trajectory.{name}" for name in ("file_io", "frames", "layout", "reader", "schema")
}


def test_reading_frames_imports_neither_models_nor_kernels(run, write):
    create, frames, path, _ = run
    write(create, frames)
    out = subprocess.run([sys.executable, "-c", SCRIPT, str(path)], capture_output=True, check=True, text=True).stdout
    count, modules = json.loads(out)
    assert count == len(frames)
    own = {name for name in modules if name.partition(".")[0] == "wgflow"}
    assert {name for name in own if not name.startswith("wgflow.base")} == NEEDED
    assert len(own) <= 16
    assert not {"h5py", "numba", "scipy"} & set(modules)
