"""The doctor says what is there and what will be used, and its exit code says whether what was asked for works."""

import json
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from machines import BY_KERNEL, FAULTS, FakeMachine

import wgflow
from wgflow.cli import doctor
from wgflow.kernels import cache
from wgflow.kernels import select as kernels
from wgflow.kernels.cpu import threads
from wgflow.kernels.gpu import diagnose
from wgflow.kernels.reference import Reference


@pytest.fixture
def on(monkeypatch):
    """Put a made-up machine in this one's place."""

    def put(machine):
        state = diagnose.examine(machine)
        monkeypatch.setattr(diagnose, "examine", lambda: state)

    return put


def as_json(capsys, *arguments):
    code = doctor.main([*arguments, "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out), err


def test_report_names_what_is_installed(capsys, on):
    on(FakeMachine(()))
    code, found, err = as_json(capsys)
    assert (code, err) == (0, "")
    for name in doctor.NEEDED:
        assert found["software"][name] == metadata.version(name)
    assert found["software"]["wgflow"] == wgflow.__version__
    assert found["cpu"]["threads"] == threads.available_threads()
    assert found["cpu"]["kernels"] == cache.fingerprint()
    assert all("threads" in each for each in found["cpu"]["blas"])
    assert found["use"]["auto"] == "cpu: CuPy is not installed"


def test_table_has_every_section(capsys, on):
    on(FakeMachine())
    assert doctor.main([]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for word in ("numba", "matplotlib", "BLAS", "kernel cache", "Testing GPU", "580.1 for CUDA 13.0", "--backend auto"):
        assert word in out
    assert "gpu where M D >=" in " ".join(out.split())


def test_missing_optional_package_names_its_extra(capsys, monkeypatch):
    monkeypatch.setitem(doctor.OPTIONAL, "no-such-package", "study")
    doctor.main([])
    assert "not installed; pip install '.[study]' brings it" in " ".join(capsys.readouterr().out.split())


def test_extras_named_are_those_of_the_project():
    extras = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    for package, extra in doctor.OPTIONAL.items():
        assert any(line.startswith(package) for line in extras[extra]), package
    for version in range(diagnose.OLDEST, diagnose.NEWEST + 1):
        assert any(line.startswith(f"cupy-cuda{version}x[ctk]") for line in extras[f"gpu{version}"])


@pytest.mark.parametrize(("machine", "words"), (FAULTS | BY_KERNEL).values(), ids=FAULTS | BY_KERNEL)
def test_gpu_that_cannot_be_used_is_exit_2_with_advice(machine, words, on, capsys):
    on(machine)
    assert doctor.main([]) == 0  # nobody asked for it
    capsys.readouterr()
    code, found, err = as_json(capsys, "--backend", "gpu")
    assert code == 2
    assert err.count("\n") == 1
    assert "Traceback" not in err
    for each in words:
        assert each in err
        assert each in found["use"]["gpu"]
    assert found["asked"]["fault"] in err


@pytest.mark.parametrize("backend", ["cpu", "reference", "auto"])
def test_backend_is_tried(backend, capsys, on):
    on(FakeMachine(()))
    assert doctor.main(["--backend", backend]) == 0
    assert "a small gradient agrees with its definition" in capsys.readouterr().out


class Wrong(Reference):
    """A kernel whose gradient is off by little."""

    def gradient(self, net, theta, batch=None):
        energy, value, slope = super().gradient(net, theta, batch)
        slope[3, 2] += 1e-9
        return energy, value, slope


def test_wrong_numbers_are_exit_2(monkeypatch, capsys, on):
    on(FakeMachine())

    def select(backend, problem, *rest) -> kernels.Kernel:
        return Wrong(problem) if backend == "gpu" else kernels.select(backend, problem, *rest)

    monkeypatch.setattr("wgflow.energy.select", select)
    assert doctor.main(["--backend", "gpu"]) == 2
    assert "a small gradient is off by" in capsys.readouterr().err
    monkeypatch.setattr(Wrong, "gradient", Reference.gradient)
    assert doctor.main(["--backend", "gpu"]) == 0


def test_cache_that_is_off_is_said(monkeypatch, capsys, on):
    on(FakeMachine(()))
    monkeypatch.setattr(cache, "folder", lambda: None)
    doctor.main([])
    assert "kernels are compiled in every process" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("arguments", [["--backend", "tpu"], ["--bakcend", "gpu"], ["extra"]])
def test_bad_input_is_one_line(arguments, capsys):
    assert doctor.main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_internal_error_is_one_line_and_debug_shows_where(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "report", lambda: 1 / 0)
    assert doctor.main([]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert doctor.main(["--debug"]) == 1
    assert "ZeroDivisionError" in capsys.readouterr().err.splitlines()[-1]


def test_nothing_heavy_is_imported():
    script = (
        "import sys, wgflow.cli.doctor as d; d.report(); "
        "print(sorted({'torch', 'matplotlib', 'sklearn', 'jax', 'cvxpy', 'xarray', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
