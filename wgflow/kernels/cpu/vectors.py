"""Vectors of the processor: how wide they are, and how kernels write operations on them.

A compiler decides for itself how wide the vectors of a loop are: on many processors with 64-byte vectors it takes 32
bytes. Products are therefore written with vectors of a given width.
"""

from __future__ import annotations

from typing import Any

from llvmlite import binding, ir
from numba import config, njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

from wgflow.kernels.cpu.flags import LEAF

_FEATURES: Any = getattr(config, "CPU_FEATURES", None)  # NUMBA_CPU_FEATURES, if someone compiles for another processor
# 32 registers of 64 bytes with AVX-512, 16 of 32 bytes with AVX2.
WIDE = "+avx512f" in (binding.get_host_cpu_features().flatten() if _FEATURES is None else _FEATURES)
BYTES = 64 if WIDE else 32

# Tiles read and write through pointers, which NUMBA_BOUNDSCHECK=1 does not check; their corners are then checked here.
CHECKED = bool(getattr(config, "BOUNDSCHECK", None))

_INDEX = ir.IntType(64)


@intrinsic
def whole_vectors(typing):
    """Have loops of the function that calls this use the widest vectors there are.

    They fill from about 96 numbers on. Numba optimises a function before others inline it, so this counts there too.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if WIDE:  # a name that llvmlite does not know, so that its own method would refuse it
            set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def flat(typing, array):
    """All elements of a contiguous array as one row; unlike ``reshape`` without a call."""
    row = array.copy(ndim=1)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        given = context.make_array(signature.args[0])(context, builder, arguments[0])
        made, size = context.make_array(row)(context, builder), given.itemsize
        shape, strides = [given.nitems], [size]
        populate_array(made, given.data, shape, strides, size, given.meminfo, given.parent)
        return made._getvalue()

    return row(array), generate


class Emitter:
    """Writes vector loads, stores and multiply-adds on the data of array arguments."""

    def __init__(self, context: Any, builder: Any, arrays: list[Any], values: list[Any]) -> None:
        self.builder = builder
        self.scalar = context.get_data_type(arrays[0].dtype)
        self.size = arrays[0].dtype.bitwidth // 8
        self.lanes = BYTES // self.size
        self.vector = ir.VectorType(self.scalar, self.lanes)
        self.data = [context.make_array(a)(context, builder, v).data for a, v in zip(arrays, values, strict=True)]
        kind = ir.FunctionType(self.vector, [self.vector] * 3)
        name = f"llvm.fma.v{self.lanes}f{8 * self.size}"
        self.fma = cgutils.get_or_insert_function(builder.module, kind, name)

    def at(self, array: int, *terms: Any) -> Any:
        """Pointer to an element: base and offsets, each an int, a value or a pair to multiply."""
        offset: Any = ir.Constant(_INDEX, 0)
        for term in terms:
            pair = term if isinstance(term, tuple) else (term,)
            factors = [ir.Constant(_INDEX, factor) if isinstance(factor, int) else factor for factor in pair]
            product = factors[0] if len(factors) == 1 else self.builder.mul(*factors)
            offset = self.builder.add(offset, product)
        return self.builder.gep(self.data[array], [offset])

    def load(self, pointer: Any, kind: Any = None) -> Any:
        """Vector at a pointer, at any address."""
        kind = kind or self.vector
        value = self.builder.load(self.builder.bitcast(pointer, kind.as_pointer()))
        value.align = self.size
        return value

    def store(self, value: Any, pointer: Any) -> None:
        """Store a vector, at any address."""
        self.builder.store(value, self.builder.bitcast(pointer, value.type.as_pointer())).align = self.size

    def splat(self, scalar: Any) -> Any:
        """Vector whose lanes all hold a number."""
        undefined = ir.Constant(self.vector, ir.Undefined)
        first = self.builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
        return self.shuffle(first, undefined, [0] * self.lanes)

    def shuffle(self, left: Any, right: Any, lanes: list[int]) -> Any:
        """Lanes of two vectors, counted through both."""
        mask = ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes)
        return self.builder.shuffle_vector(left, right, mask)

    def zeros(self, rows: int, columns: int) -> list[list[Any]]:
        """Sums that live in registers: stack slots here, which the optimiser promotes."""
        return [[cgutils.alloca_once(self.builder, self.vector) for _ in range(columns)] for _ in range(rows)]

    def add_product(self, left: Any, right: Any, slot: Any) -> None:
        """Add left * right to a sum."""
        self.builder.store(self.builder.call(self.fma, [left, right, self.builder.load(slot)]), slot)

    def mask(self, count: Any) -> Any:
        """Lanes below a count."""
        kind = ir.VectorType(_INDEX, self.lanes)
        undefined = ir.Constant(kind, ir.Undefined)
        first = self.builder.insert_element(undefined, count, ir.Constant(ir.IntType(32), 0))
        bound = self.shuffle(first, undefined, [0] * self.lanes)
        return self.builder.icmp_signed("<", ir.Constant(kind, list(range(self.lanes))), bound)

    def load_masked(self, pointer: Any, mask: Any) -> Any:
        """The lanes of a vector that are in a mask, and 0."""
        pointer = self.builder.bitcast(pointer, self.vector.as_pointer())
        values = [pointer, self._align(), mask, ir.Constant(self.vector, None)]
        return self.builder.call(self._masked("load", self.vector, values), values)

    def store_masked(self, value: Any, pointer: Any, mask: Any) -> None:
        """Store the lanes of a vector that are in a mask."""
        values = [value, self.builder.bitcast(pointer, self.vector.as_pointer()), self._align(), mask]
        self.builder.call(self._masked("store", ir.VoidType(), values), values)

    def _align(self) -> Any:
        return ir.Constant(ir.IntType(32), self.size)

    def _masked(self, verb: str, result: Any, values: list[Any]) -> Any:
        name = f"llvm.masked.{verb}.v{self.lanes}f{8 * self.size}.p0"
        kind = ir.FunctionType(result, [value.type for value in values])
        return cgutils.get_or_insert_function(self.builder.module, kind, name)


@njit(**LEAF)
def within(array, place):
    """Raise an IndexError if an array has no such element."""
    if place < 0 or place >= array.size:
        raise IndexError("a tile reaches beyond its array")
