"""The CUDA sources on the host, so that they can be tested without a device.

``HostDevice`` stands in for ``wgflow.kernels.gpu.device.CupyDevice``. It compiles the same text with g++: a thread is a
fiber, ``BARRIER`` hands over to the next one, blocks run in sequence. What a device would do silently is an error here:
an access outside of an array or of shared memory, a barrier that some threads do not reach, an argument of another type
than the kernel's. Fresh memory holds NaN. With ``reverse=True`` threads and blocks run in the opposite order: a kernel
whose bits depend on it lacks a barrier. ``replay`` repeats recorded launches on real threads under ThreadSanitizer.
"""

from hostcuda.arrays import HostArray
from hostcuda.build import compiler
from hostcuda.device import HostDevice, HostError
from hostcuda.replay import Replay, replay, unavailable
from hostcuda.signature import Parameter, signatures

__all__ = [
    "HostArray",
    "HostDevice",
    "HostError",
    "Parameter",
    "Replay",
    "compiler",
    "replay",
    "signatures",
    "unavailable",
]
