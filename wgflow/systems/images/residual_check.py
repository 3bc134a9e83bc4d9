"""Test, on a copy, whether a module from another library is a residual block and draws random numbers.

A block adds something to its state: with all of its weights 0 it returns the state entry by entry, through its closing
activation if it has one. A convolution, a dense or a shuffle unit and a row of layers without a skip do not.
"""

from __future__ import annotations

import copy
import itertools
import math
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

# Shapes of states to try: images, vectors, sequences, volumes; 0 stands for channels. Blocks of
# networks for larger images usually take one of the larger shapes.
FORMS = ((2, 0, 8, 8), (2, 0), (2, 8, 0), (2, 8, 8, 0), (2, 0, 8), (2, 0, 4, 4, 4), (2, 0, 16, 16), (2, 0, 32, 32))
LARGEST = 2**23  # entries of a state that is tried
TOO_SMALL = ("has no weights", "is a single layer")  # reasons to reject a module without a test


class Trial(NamedTuple):
    """Result of testing a module.

    Attributes
    ----------
    refused : str
        Why it cannot be taken for a residual block, in words that follow its name; empty if it can.
    writes : bool
        Whether it modifies its input in place.
    """

    refused: str
    writes: bool = False


def trial_of(block: nn.Module) -> Trial:
    """Test a copy of a module on the CPU, in both modes and with all weights 0; the module itself is not changed.

    Dropout is allowed: it is noise on the branch, the same for one seed. Any other random number is a reason to refuse,
    since a block that is dropped at random acts like an ordinary one most of the time.
    """
    block = getattr(block, "_orig_mod", block)  # what torch.compile wraps; compiling it for a trial would take long
    if not any(True for _ in block.parameters()):
        return Trial(TOO_SMALL[0])
    if type(block).__module__.startswith("torch.nn.modules") and not any(True for _ in block.children()):
        return Trial(TOO_SMALL[1])
    try:
        trial = copy.deepcopy(block).cpu()
        if any(parameter.dtype in (torch.float16, torch.bfloat16) for parameter in trial.parameters()):
            trial = trial.float()
        unhook(trial.modules())
        with torch.no_grad(), generators_kept():
            return _attempt(trial)
    except Exception as error:  # user code
        return Trial(f"cannot be tried ({_brief(error)})")


def unhook(modules: Iterable[nn.Module]) -> None:
    """Remove the user's hooks from a copy, which is run on random states; torch's normalisations need theirs."""
    for module in modules:
        if isinstance(module, torch.jit.ScriptModule):
            continue
        for hooks in (module._forward_hooks, module._forward_pre_hooks):
            for key in [key for key, hook in hooks.items() if not type(hook).__module__.startswith("torch.")]:
                del hooks[key]


def _attempt(trial: nn.Module) -> Trial:
    x, refused = _state(trial.eval())
    if x is None:
        return Trial(refused)
    writes = False
    for mode in (False, True):
        given, before = x.clone(), generator_states()
        with _Undropped():
            trial.train(mode)(given)
        if generator_states() != before:
            return Trial(f"takes random numbers other than dropout's in {'training' if mode else 'evaluation'}")
        writes = writes or not torch.equal(given, x)
    return Trial(
        ""
        if _keeps(trial.eval(), x)
        else "shows no skip: with all weights 0 its output does not follow the state entry by entry",
        writes,
    )


def _state(trial: nn.Module) -> tuple[Tensor | None, str]:
    """State that a module takes and returns in the same shape, or None and why there is none."""
    other, failed = "", ""
    like = next((tensor for tensor in trial.parameters() if tensor.is_floating_point()), torch.zeros(()))
    for shape in _candidates(trial):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=like.dtype)
        try:
            y = trial(x.clone())
        except Exception as error:  # another number of channels, mostly
            failed = failed or _brief(error)
            continue
        if isinstance(y, Tensor) and y.shape == x.shape:
            return x, ""
        got = f"{tuple(y.shape)} for {tuple(x.shape)}" if isinstance(y, Tensor) else f"a {type(y).__name__}"
        other = other or f"returns no state of the shape that it is given, but {got}"
    return None, other or f"cannot be called with one state of any shape tried ({failed})"


def _candidates(trial: nn.Module) -> Iterator[tuple[int, ...]]:
    """Shapes of states to try, with numbers of channels that occur in the weights."""
    tensors = [*trial.parameters(), *trial.buffers()]
    sizes = list(dict.fromkeys(size for tensor in tensors for size in tensor.shape[:2]))
    channels = list(dict.fromkeys([*sizes, *(2 * size for size in sizes)]))  # twice: a block that works on one half
    for form, channel in itertools.product(FORMS, channels):
        shape = tuple(size or channel for size in form)
        if math.prod(shape) <= LARGEST:
            yield shape


def _keeps(trial: nn.Module, x: Tensor) -> bool:
    """Whether a module whose weights are all 0 acts on the state entry by entry and is not constant."""
    for tensor in (*trial.parameters(), *trial.buffers()):
        if tensor.is_floating_point():
            tensor.zero_()
    for module in trial.modules():
        if not isinstance(module, torch.jit.ScriptModule):
            module.register_forward_hook(_without_nan)
    mixed = torch.randperm(x.numel(), generator=torch.Generator().manual_seed(0))
    y, z = trial(x.clone()), trial(x.flatten()[mixed].view_as(x))
    return bool(y.max() > y.min()) and torch.allclose(z.flatten(), y.flatten()[mixed])


def _without_nan(module: nn.Module, inputs: object, output: object) -> object:
    """Replace the 0/0 of a normalised weight 0 by 0."""
    return output.nan_to_num(0.0) if isinstance(output, Tensor) and output.is_floating_point() else output


def _brief(error: Exception) -> str:
    line: str = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {line[:120]}"


class _Undropped(TorchFunctionMode):
    """Dropout as the identity, as a layer or as a function."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if "dropout" in getattr(func, "__name__", "") and (args or "input" in kwargs):
            return args[0] if args else kwargs["input"]
        return func(*args, **kwargs)


def generator_states() -> tuple[object, ...]:
    """States of the generators that a block may draw from: torch's, Python's, numpy's."""
    _, key, position, *_ = np.random.get_state(legacy=True)  # noqa: NPY002 # theirs, not ours
    return torch.get_rng_state().numpy().tobytes(), random.getstate(), np.asarray(key).tobytes(), position


@contextmanager
def generators_kept() -> Iterator[None]:
    """Restore those generators afterwards: testing a block consumes no random numbers of the user."""
    python, numpys = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpys)  # noqa: NPY002
