"""Every fault of a GPU's software is found and said with its remedy, on machines made up for the purpose."""

import numpy as np
import pytest
from machines import BY_KERNEL, FAULTS, FakeMachine, fake_cupy

from wgflow.base.errors import BackendError
from wgflow.kernels.gpu import device, diagnose
from wgflow.kernels.gpu.machine import Machine


def by_name(table):
    return pytest.mark.parametrize(("machine", "words"), table.values(), ids=table)


@by_name(FAULTS | BY_KERNEL)
def test_fault_is_an_error_with_its_remedy(machine, words):
    with pytest.raises(BackendError) as caught:
        diagnose.usable(machine)
    said = str(caught.value)
    assert said.startswith("backend 'gpu': ")
    assert said.endswith("; or use --backend cpu")
    assert "\n" not in said
    for each in words:
        assert each in said


@by_name(FAULTS | BY_KERNEL)
def test_examination_finds_it_too_and_raises_nothing(machine, words):
    state = diagnose.examine(machine)
    for each in words:
        assert each in state.fault


def test_a_machine_without_faults():
    machine = FakeMachine()
    assert diagnose.usable(machine).cuda.runtime.getDeviceCount() == 1
    state = diagnose.examine(machine)
    assert state.fault == ""
    assert state.wheels == {"cupy-cuda12x": "14.2.0"}
    assert (state.driver, state.runtime, state.release) == ("13.0", "12.9", "580.1")
    assert state.nvrtc == "12.9 (nvidia-cuda-nvrtc-cu12 14.2.0)"
    assert state.cards == (diagnose.Card("Testing GPU", 80 * 2**30, 60 * 2**30, "9.0", 132),)


@pytest.mark.parametrize(("driver", "fine"), [(12000, True), (12090, True), (13010, True), (11080, False)])
def test_minor_versions_of_cuda_are_compatible(driver, fine):
    assert (diagnose.examine(FakeMachine(driver=driver)).fault == "") == fine


def test_hidden_devices_are_said(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "CUDA_VISIBLE_DEVICES, which is ''" in diagnose.examine(FakeMachine(cupy=fake_cupy(0))).fault


def test_surprises_of_a_broken_installation_are_faults_too():
    cupy = fake_cupy()
    cupy.cuda.runtime.runtimeGetVersion = lambda: 1 / 0
    assert "ZeroDivisionError: division by zero" in diagnose.examine(FakeMachine(cupy=cupy)).fault
    with pytest.raises(diagnose.Fault, match="ZeroDivisionError: division by zero"):
        diagnose.usable(FakeMachine(cupy=cupy))


def test_without_a_driver_cupy_is_not_imported():
    machine = FakeMachine(driver=0)
    assert "no NVIDIA driver" in diagnose.examine(machine).fault
    assert machine.imported == 0


def test_small_kernel_is_checked_number_by_number():
    def one_wrong(out):
        squares = out[::-1] ** 2
        squares[17] += 1
        return squares

    with pytest.raises(diagnose.Fault, match="wrong numbers"):
        diagnose.try_kernel(fake_cupy(kernel=one_wrong))
    diagnose.try_kernel(fake_cupy())


def test_small_kernel_on_the_host():
    """The text that a device would compile, run by the host's compiler."""
    hostcuda = pytest.importorskip("hostcuda")
    if hostcuda.compiler() is None:
        pytest.skip("no C++ compiler")
    source = diagnose.small_kernel()
    for reverse in (False, True):
        host = hostcuda.HostDevice(reverse=reverse, text=source)
        squares = host.empty(diagnose.THREADS, np.int64)
        host.launch("float64", "doctor", 1, diagnose.THREADS, 8 * diagnose.THREADS, (squares,))
        np.testing.assert_array_equal(host.get(squares), np.arange(diagnose.THREADS)[::-1] ** 2)


def test_this_machine_is_looked_at_without_an_error():
    state = diagnose.examine()
    assert bool(state.cards) >= (state.fault == "")
    assert set(state.wheels) == {name for name in state.wheels if Machine().version(name)}


def test_device_of_this_machine_or_advice():
    if not diagnose.examine().fault:
        assert device.CupyDevice().processors > 0
        return
    with pytest.raises(BackendError, match="or use --backend cpu"):
        device.CupyDevice()


class OutOfMemoryError(MemoryError):
    pass


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OutOfMemoryError("out of memory, 8 bytes\nmore"), r"no memory left \(OutOfMemoryError: out of .*--jobs 1\)"),
        (RuntimeError("IllegalAddress: no"), r"failed \(RuntimeError: IllegalAddress: no\); wgflow doctor"),
    ],
)
@pytest.mark.parametrize("method", ["put", "empty", "get", "fetch", "multiply", "launch"])
def test_trouble_of_a_device_is_said_with_a_remedy(monkeypatch, method, error, words):
    class Trouble:
        def __getattr__(self, name):
            raise error

    made = object.__new__(device.CupyDevice)
    made._cupy = made._cublas = Trouble()
    made._functions, made.shared, made._side = {}, 0, None
    arguments = {
        "put": (np.zeros(3),),
        "empty": (3, float),
        "get": (Trouble(),),
        "fetch": ([Trouble()],),
        "multiply": (0, 0, 0),
        "launch": ("float64", "stack", 1, 1, 0, ()),
    }
    with pytest.raises(BackendError, match=words):
        getattr(made, method)(*arguments[method])


def test_a_device_that_surprises_at_its_beginning_is_a_backend_error(monkeypatch):
    monkeypatch.setattr(diagnose, "usable", fake_cupy)  # it has no cuBLAS module and few properties
    with pytest.raises(BackendError, match="or use --backend cpu"):
        device.CupyDevice()
