"""What the kernels of a CUDA text take, read from the text."""

import re
from functools import cache
from typing import NamedTuple

import numpy as np

POINTEES = {"double": "float64", "float": "float32", "Int": "int64", "long long": "int64", "int": "int32"}
POINTEES |= {"unsigned char": "uint8", "unsigned long long": "uint64"}
VALUES = {"Int": "int", "long long": "int", "double": "float"}


class Parameter(NamedTuple):
    """A parameter of a kernel: ``kind`` is "int", "float" or, for a pointer, the dtype (REAL for the precision's)."""

    name: str
    kind: str
    constant: bool
    restrict: bool


@cache
def signatures(text):
    """Parameters of each kernel, by name, in the order of the text."""
    bare = re.sub(r"//[^\n]*|/\*.*?\*/", " ", text, flags=re.DOTALL)
    bare = re.sub(r"^[ \t]*#[^\n]*(\\\n[^\n]*)*", "", bare, flags=re.MULTILINE)
    return {
        name: [_parameter(name, each) for each in inside.split(",") if each.strip()]
        for name, inside in re.findall(r"KERNEL\s+(?:TWO_BLOCKS\s+)?(\w+)\s*\(([^)]*)\)", bare)
    }


@cache
def bounded(text):
    """Kernels that may have 256 threads a block at most; a device refuses more."""
    return set(re.findall(r"KERNEL\s+TWO_BLOCKS\s+(\w+)", re.sub(r"//[^\n]*", " ", text)))


def _parameter(kernel, text):
    words = re.findall(r"\w+|\*", text)
    name, kinds = words[-1], [word for word in words[:-1] if word not in ("const", "__restrict__")]
    constant, restrict = "const" in words, "__restrict__" in words
    if kinds.count("*") == 1:
        pointee = " ".join(word for word in kinds if word != "*")
        if pointee == "REAL" or pointee in POINTEES:
            return Parameter(name, POINTEES.get(pointee, "REAL"), constant, restrict)
    elif " ".join(kinds) in VALUES:
        return Parameter(name, VALUES[" ".join(kinds)], constant, restrict)
    raise ValueError(f"kernel {kernel}: parameter {text.strip()!r}: kernels take pointers, long long and double")


def mismatch(parameter, argument, precision):
    """What is wrong with an argument, or None. A device would read its bytes as something else without a word."""
    if parameter.kind == "int":
        fits = isinstance(argument, (int, np.int64)) and not isinstance(argument, bool)
    elif parameter.kind == "float":
        fits = isinstance(argument, float)
    else:
        wanted = precision if parameter.kind == "REAL" else parameter.kind
        if not hasattr(argument, "address"):
            return f"expected an array of the device, got {type(argument).__name__}"
        return None if argument.dtype == wanted else f"expected {wanted}, got {argument.dtype}"
    return None if fits else f"expected {parameter.kind}, got {argument!r} ({type(argument).__name__})"
