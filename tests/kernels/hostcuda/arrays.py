"""Memory of the host device: between two pages that fault, poisoned, closed to NumPy."""

import ctypes
import math
import mmap

import numpy as np

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
ALIGN = 16
POISON = 0xFF  # NaN as a float
CANARY = 0x7F  # huge as a float, and not what a NaN would leave


class HostArray:
    """An array of the device: as on a real one, NumPy cannot read it; ``HostDevice.get`` can.

    Its last byte, up to alignment to 16 bytes, is followed by memory that cannot be touched; so is its first.
    """

    def __init__(self, shape, dtype):
        self.shape = tuple(int(n) for n in shape)
        self.dtype = np.dtype(dtype)
        self.nbytes = math.prod(self.shape) * self.dtype.itemsize
        page = mmap.PAGESIZE
        padded = -(-self.nbytes // ALIGN) * ALIGN
        room = -(-padded // page) * page
        self._memory = mmap.mmap(-1, room + 2 * page)
        whole = np.frombuffer(self._memory, np.uint8)
        for edge in (0, page + room):
            if _LIBC.mprotect(whole.ctypes.data + edge, page, 0):
                raise OSError(ctypes.get_errno(), "mprotect")
        # It ends at a fence: reading past the end is the common mistake.
        start = page + room - padded
        self._edges = (whole[page:start], whole[start + self.nbytes : page + room])
        for edge in self._edges:
            edge[:] = CANARY
        self.content = whole[start : start + self.nbytes].view(self.dtype).reshape(self.shape)
        self.address = whole.ctypes.data + start

    def poison(self):
        """Fill with NaN, or with large negative integers."""
        if self.dtype.kind == "i":
            self.content[...] = np.iinfo(self.dtype).min // 3
        else:
            self.content.reshape(-1).view(np.uint8)[...] = POISON

    def intact(self):
        """Whether the bytes between the array and the pages that fault are as they were."""
        return all((edge == CANARY).all() for edge in self._edges)

    def __array__(self, *_, **__):
        raise TypeError("an array of the device cannot be read by NumPy; call device.get")

    def __repr__(self):
        return f"HostArray(shape={self.shape}, dtype={self.dtype})"
