"""The host device: the contract of wgflow.kernels.gpu.device.Device, with every launch checked."""

import ctypes
import weakref
from collections import Counter

import numpy as np

from hostcuda.arrays import HostArray
from hostcuda.build import build, line_of
from hostcuda.replay import Recorder
from hostcuda.signature import bounded, mismatch, signatures
from wgflow.kernels.gpu.cuda import source


class HostError(RuntimeError):
    """A launch that a device would refuse, or answer with nonsense."""


class Report(ctypes.Structure):
    _fields_ = (
        ("message", ctypes.c_char * 1024),
        ("block", ctypes.c_longlong),
        ("thread", ctypes.c_int),
        ("touched", ctypes.c_int),
        ("address", ctypes.c_void_p),
        ("instruction", ctypes.c_longlong),
    )


class Copies:
    """Copies to the host, made when they were begun."""

    def __init__(self, copies):
        self._copies = copies

    def wait(self):
        return self._copies


class HostDevice:
    """A device that is this machine's processor; see :class:`wgflow.kernels.gpu.device.Device` for the contract.

    Parameters
    ----------
    reverse : bool
        Run the threads of every stretch between barriers, and the blocks, from the last to the first.
    threads_limit : int, optional
        Most threads of a block: kernels must give the same bits with fewer.
    text : str, optional
        CUDA source; by default that of wgflow.
    record : path, optional
        Folder to write every launch to, for :func:`hostcuda.replay`.
    kind : {"library", "ucontext"}
        How fibers are switched.
    processors, shared, memory : int
        What the device says of itself: multiprocessors, bytes of shared memory of a block, bytes of memory.

    Attributes
    ----------
    launched : Counter
        Launches of each kernel.
    sent, received : int
        Bytes that crossed to the device and back.
    held, peak : int
        Bytes of arrays that are alive now, and at most so far.
    """

    def __init__(
        self,
        reverse=False,
        threads_limit=None,
        *,
        text=None,
        record=None,
        kind="library",
        processors=4,
        shared=227 * 1024,
        memory=2**30,
    ):
        self.name = "host"
        self.processors = processors
        self.shared = shared
        self.launched = Counter()
        self.sent = self.received = self.held = self.peak = 0
        self.memory = memory
        self._reverse = reverse
        self._limit = threads_limit or 1024
        self._text = source() if text is None else text
        self._kind = kind
        self._signatures = signatures(self._text)
        self._numbers = {name: number for number, name in enumerate(self._signatures)}
        self._recorder = None if record is None else Recorder(record, self._text)

    def put(self, array):
        array = np.asarray(array)
        made = self._allocate(array.shape, array.dtype)
        made.content[...] = array
        self.sent += made.nbytes
        return made

    def empty(self, shape, dtype):
        made = self._allocate((shape,) if isinstance(shape, (int, np.integer)) else shape, dtype)
        made.poison()
        return made

    def get(self, array):
        self.received += array.nbytes
        return array.content.copy()

    def fetch(self, arrays):
        return Copies([self.get(each) for each in arrays])

    def multiply(self, a, b, out, transpose_a=False, transpose_b=False, add=False):
        left, right = (each.content.T if turn else each.content for each, turn in ((a, transpose_a), (b, transpose_b)))
        if left.shape[1] != right.shape[0] or out.shape != (left.shape[0], right.shape[1]):
            raise HostError(f"multiply: {left.shape} by {right.shape} into {out!r}")
        if not a.dtype == b.dtype == out.dtype:
            raise HostError(f"multiply: {a!r} by {b!r} into {out!r}")
        made = left @ right
        out.content[...] = made + out.content if add else made

    def launch(self, precision, kernel, blocks, threads, shared, arguments):
        self._check(precision, kernel, blocks, threads, shared, arguments)
        threads = min(threads, self._limit)
        if self._recorder:
            self._recorder.before(arguments)
        report = Report()
        bits = (ctypes.c_uint64 * max(len(arguments), 1))(*(_bits(each) for each in arguments))
        run = _library(self._text, precision, self._kind).hostcuda_launch
        failed = run(self._numbers[kernel], blocks, threads, shared, bits, self._reverse, ctypes.byref(report))
        if failed:
            raise HostError(self._told(precision, kernel, arguments, report))
        for parameter, argument in zip(self._signatures[kernel], arguments, strict=True):
            if isinstance(argument, HostArray) and not argument.intact():
                raise HostError(f"kernel {kernel}: a write just outside of {parameter.name} ({argument!r})")
        self.launched[kernel] += 1
        if self._recorder:
            self._recorder.after(precision, self._numbers[kernel], blocks, threads, shared, bits)

    def _allocate(self, shape, dtype):
        made = HostArray(shape, dtype)
        if self.held + made.nbytes > self.memory:
            raise MemoryError(f"host device: {made!r} does not fit beside {self.held} of {self.memory} bytes")
        self.held += made.nbytes
        self.peak = max(self.peak, self.held)
        weakref.finalize(made, self._forget, made.nbytes)
        return made

    def _forget(self, size):
        self.held -= size

    def _check(self, precision, kernel, blocks, threads, shared, arguments):
        if precision not in ("float32", "float64"):
            raise HostError(f"precision {precision!r}: expected float32 or float64")
        if kernel not in self._signatures:
            raise HostError(f"no kernel {kernel!r}; there are {', '.join(self._signatures)}")
        most = 256 if kernel in bounded(self._text) else 1024
        if not (0 < blocks < 2**31 and 0 < threads <= most and 0 <= shared <= self.shared):
            raise HostError(f"kernel {kernel}: {blocks} blocks of {threads} threads with {shared} bytes shared")
        parameters = self._signatures[kernel]
        if len(parameters) != len(arguments):
            raise HostError(f"kernel {kernel}: expected {len(parameters)} arguments, got {len(arguments)}")
        for parameter, argument in zip(parameters, arguments, strict=True):
            wrong = mismatch(parameter, argument, precision)
            if wrong:
                raise HostError(f"kernel {kernel}: {parameter.name}: {wrong}")
            alone = parameter.restrict and not parameter.constant
            if alone and sum(each is argument for each in arguments) > 1:
                raise HostError(f"kernel {kernel}: {parameter.name} is __restrict__, yet another argument is the same")

    def _told(self, precision, kernel, arguments, report):
        where = line_of(build(self._text, precision, self._kind), report.instruction)
        text = f"kernel {kernel}, block {report.block}, thread {report.thread}: {report.message.decode()}"
        text += f" at {where}" if where else ""
        if not report.touched:
            return text
        # The array that ends or begins nearest to where memory was touched.
        address, near = report.address or 0, []
        for parameter, argument in zip(self._signatures[kernel], arguments, strict=True):
            if isinstance(argument, HostArray):
                offset = address - argument.address
                distance = max(-offset, offset - argument.nbytes, 0)
                near.append((distance, f"byte {offset} of {parameter.name}, which has {argument.nbytes}"))
        distance, where = min(near, default=(2**63, ""))
        return f"{text} ({where})" if distance < 2**16 else f"{text} (address {address:#x})"


def _bits(argument):
    if isinstance(argument, HostArray):
        return argument.address
    return int(np.array(argument, np.float64 if isinstance(argument, float) else np.int64).view(np.uint64))


_LOADED = {}


def _library(text, precision, kind):
    key = text, precision, kind
    if key not in _LOADED:
        # PyDLL keeps the interpreter's lock: the scheduler of fibers is one for the whole process.
        _LOADED[key] = ctypes.PyDLL(str(build(text, precision, kind)))
        word = ctypes.c_longlong
        types = [ctypes.c_int, word, ctypes.c_int, word, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p]
        _LOADED[key].hostcuda_launch.argtypes = types
    return _LOADED[key]
