"""A stage of residual blocks as particles (theta_i, tau_i): Algorithm 1 of Lu, Ma, Lu, Lu and Ying in torch.

What the paper leaves open is an option here, and every default starts at the vanilla network: the initial depths, the
ends of the depth axis, the rate and the weight decay of the depths (:func:`parameter_groups`), and which blocks share
an axis. What its authors chose for their table is not published, as far as we know.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from wgflow.base.errors import InputError, describe
from wgflow.base.registry import check_name
from wgflow.base.validate import finite_array, real, whole
from wgflow.model import depth
from wgflow.model.particles import BOUNDARIES
from wgflow.systems.images.adapters import Difference, fitting


class PlainStage(nn.Module):
    """Vanilla stage, X <- X + f(X; theta_i) in the order of the list.

    Parameters
    ----------
    branches : iterable of torch.nn.Module
        n residual branches without their skip, of equal shapes.
    after : torch.nn.Module, optional
        Applied to the state after each step, e.g. the relu of post-activation networks.

    Raises
    ------
    InputError
        If there is no branch, or two differ in the shapes of their parameters.
    """

    def __init__(self, branches: Iterable[nn.Module], after: nn.Module | None = None) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)
        _same_shapes(self.branches)
        self.after = after

    def __len__(self) -> int:
        return len(self.branches)

    @property
    def tau(self) -> Tensor:
        """Depths (i + 1)/n, (n,), float64."""
        return torch.arange(1, len(self) + 1, dtype=torch.float64) / len(self)

    def forward(self, x: Tensor) -> Tensor:
        """State after the stage, of the shape of x."""
        for branch in self.branches:
            x = self._stepped(x, branch(x))
        return x

    def _stepped(self, x: Tensor, change: Tensor) -> Tensor:
        x = x + fitting(x, change)
        return x if self.after is None else self.after(x)


class MeanFieldStage(PlainStage):
    """Mean-field stage: sort the n blocks by tau at every forward, X <- X + n (tau^l - tau^(l-1)) f(X; theta^l).

    tau^(-1) = 0; tau_i = (i + 1)/n at the start, so that all steps are 1: the vanilla network, bit for bit. Ties keep
    the order of the list. This is Algorithm 1 of Lu, Ma, Lu, Lu and Ying (arXiv:2003.05508) with their gaps times n,
    that is, with n f in the place of f. The gradient of tau goes through the gaps, the order being piecewise constant
    (derived): with g_l = dE/dstep_l, dE/dtau^l = n (g_l - g_(l+1)), and n g_last for the last. The list may
    hold the blocks, with their depths, in any order; unless two depths are equal the result does not depend on it, to
    the last bit.

    The trained parameter is u = n tau, :attr:`u`: its steps u^l - u^(l-1) are exactly 1 at the start, which n times a
    rounded gap of tau would not be, and descent in (theta, u) at one rate is Algorithm 1 as
    ``wgflow.Energy(depth=Gaps())`` moves it (kappa = 1/n, masses 1/n, time in units of n). u is kept in float64
    whatever the weights are cast to: where u is 16 to 32, float32 would lose changes below 1e-6.

    Parameters
    ----------
    branches : iterable of torch.nn.Module
        n residual branches x -> f(x; theta_i), *without* the skip, with parameters and buffers of equal shapes. A
        branch may offer a tensor ``last`` in which it is linear and take another one, ``forward(x, last=None)``
        (:class:`wgflow.systems.images.blocks.Branch` does): then that weight is multiplied by the step in place of
        f(x), if all branches have both. A layer called ``last`` does not count.
    tau : array_like (n,), optional
        Initial depths, in [0, 1] unless the ends are free; by default (i + 1)/n.
    ends : {"clip", "reflect", "free"}, optional
        What :meth:`settle` does with depths that an optimiser moved out of [0, 1]. A free depth below 0 makes the first
        step negative.
    axes : int or list of int, optional
        Depth axes in this stage: their number (parts of the list as equal as can be, longer ones first), or their
        sizes with sum n. Each is a stage of its own: its blocks follow those of the axis before and are sorted
        among themselves, their depths run through [0, 1], and n in the formula is the size of the axis. By default 1.
        Blocks of several stages cannot share one: their states have other shapes, so they cannot change places.
    after : torch.nn.Module, optional
        Applied to the state after each step. With relu, the network of post-activation blocks,
        X <- relu(X + step f(X)): an Euler step projected to states >= 0, the identity there when the step is 0.

    Raises
    ------
    InputError
        If there is no branch, two differ in shape (the message says where), or an option is out of range.
    """

    def __init__(
        self,
        branches: Iterable[nn.Module],
        tau: ArrayLike | None = None,
        ends: str = "clip",
        axes: int | list[int] | tuple[int, ...] = 1,
        after: nn.Module | None = None,
    ) -> None:
        super().__init__(branches, after)
        check_name("ends", ends, BOUNDARIES)
        self.ends, self.sizes = ends, _axis_sizes(axes, len(self))
        self._scalable = all(_offers_last(branch) for branch in self.branches)
        start = np.concatenate([np.arange(1, size + 1) for size in self.sizes])
        there = next((parameter.device for parameter in self.branches.parameters()), None)
        self.u = nn.Parameter(torch.tensor(start, dtype=torch.float64, device=there))
        self._axis = np.repeat(np.arange(len(self.sizes)), self.sizes)
        if tau is not None:
            self.place(tau)

    @property
    def tau(self) -> Tensor:
        """Depths tau_i = u_i / n, (n,), float64; differentiable, but it is :attr:`u` that holds the gradient."""
        return self.u / torch.as_tensor(np.repeat(self.sizes, self.sizes), device=self.u.device)

    @torch.no_grad()
    def place(self, tau: ArrayLike) -> None:
        """Put the blocks at depths tau, (n,); depths (i + 1)/n give unit steps exactly.

        Raises
        ------
        InputError
            If there are not n finite depths, or one leaves [0, 1] and the ends are not free.
        """
        tau = finite_array("tau", tau, 1)
        if tau.shape != (len(self),):
            raise InputError(f"tau: expected shape ({len(self)},), one for each block, got {tau.shape}")
        if self.ends != "free" and ((tau < 0) | (tau > 1)).any():
            raise InputError(f"tau: expected depths in [0, 1], got {tau.min()} to {tau.max()}; or take ends='free'")
        size = np.repeat(self.sizes, self.sizes)
        u, nearest = tau * size, np.rint(tau * size)  # whole wherever that divided by the size gives tau
        self.u.copy_(torch.from_numpy(np.where(nearest / size == tau, nearest, u)))

    def order(self) -> Tensor:
        """Blocks in order of depth, (n,), int64: axis by axis, by tau, ties by index."""
        return torch.tensor(self._order())

    def steps(self) -> Tensor:
        """Steps u^l - u^(l-1) in that order, (n,), float64 and differentiable; 1 each at the start."""
        steps: Tensor = self._steps(self._order())
        return steps

    @torch.compiler.disable(recursive=False)  # the order is data: torch.compile gets the branches, not the loop
    def forward(self, x: Tensor) -> Tensor:
        """State after the stage, of the shape of x, e.g. (M, C, height, width).

        Raises
        ------
        InputError
            If a branch returns another shape than it was given.
        """
        order = self._order()
        steps, branches = self._steps(order), [self.branches[i] for i in order]
        if not self._scalable:
            for branch, step in zip(branches, steps.to(x.dtype).unbind(), strict=True):
                x = _stepped(branch, x, step)
                x = x if self.after is None else self.after(x)
            return x
        weights: Tensor = torch.stack([branch.last for branch in branches])  # type: ignore[misc] # they have it
        weights = weights * steps.to(weights.dtype).view(-1, *[1] * (weights.dim() - 1))
        for branch, weight in zip(branches, weights.unbind(), strict=True):
            x = self._stepped(x, branch(x, weight))
        return x

    @torch.no_grad()
    def settle(self) -> None:
        """Bring depths back to [0, 1] by the rule of the ends; to be called after every step of an optimiser.

        The optimiser's momentum is left as it is: a depth at a boundary stays there until its gradient changes sign.
        """
        if self.ends == "free":
            return
        for part, size in zip(self.u.split(self.sizes), self.sizes, strict=True):
            if self.ends == "clip":
                part.clamp_(0.0, size)
            else:
                folded = torch.remainder(part, 2.0 * size)
                part.copy_(torch.where(folded > size, 2.0 * size - folded, folded))

    @staticmethod
    def switches(before: Tensor, after: Tensor) -> int:
        """Number of pairs of blocks whose order differs; both as :meth:`order` gives them."""
        return depth.switches(before.cpu().numpy(), after.cpu().numpy())

    def extra_repr(self) -> str:
        """Return the options that print(model) shows."""
        return f"blocks={len(self)}, ends={self.ends!r}" + (f", axes={self.sizes}" if len(self.sizes) > 1 else "")

    def _apply(self, fn: Any, recurse: bool = True) -> MeanFieldStage:
        depths = self.u.detach()
        super()._apply(fn, recurse)
        if self.u.dtype != depths.dtype:  # model.half() and the like are meant for weights
            slope, self.u.grad = self.u.grad, None
            self.u.data = depths.to(self.u.device)
            self.u.grad = None if slope is None else slope.to(depths.dtype)
        return self

    def _load_from_state_dict(self, *args: Any, **options: Any) -> None:
        super()._load_from_state_dict(*args, **options)
        if self.u.dtype != torch.float64:  # load_state_dict(assign=True) takes the tensor as it is
            self.u = nn.Parameter(self.u.detach().double(), requires_grad=self.u.requires_grad)

    @torch.compiler.disable
    def _order(self) -> list[int]:
        u = self.u.detach().cpu().numpy()  # the only time in a forward pass that the host waits for a device
        order: list[int] = np.lexsort((u, self._axis)).tolist()
        return order

    @torch.compiler.disable
    def _steps(self, order: list[int]) -> Tensor:
        ordered = self.u if order == list(range(len(order))) else self.u[order]
        start = ordered.new_zeros(1)
        parts = [torch.diff(part, prepend=start) for part in ordered.split(self.sizes)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def _stepped(branch: nn.Module, x: Tensor, step: Tensor) -> Tensor:
    """State x + step f(x); of a difference an interpolation, at step 1 block(x) and its gradients to the bit."""
    if isinstance(branch, Difference):
        y = branch.moved(x)
        return torch.lerp(x.to(y.dtype), y, step.to(y.dtype))  # autocast may have changed the block's type
    return torch.addcmul(x, fitting(x, branch(x)), step)


def stages(model: nn.Module) -> list[MeanFieldStage]:
    """Mean-field stages of a model, in the order in which it holds them."""
    return [module for module in model.modules() if isinstance(module, MeanFieldStage)]


def settle(model: nn.Module) -> None:
    """Apply every stage's rule of the ends, after a step of the optimiser; nothing for a vanilla model."""
    for stage in stages(model):
        stage.settle()


def parameter_groups(
    model: nn.Module,
    lr: float,
    weight_decay: float,
    tau_lr: float | None = None,
    tau_weight_decay: float = 0.0,
) -> list[dict[str, Any]]:
    """Groups for an optimiser: all weights, and the depths u = n tau with a rate and weight decay of their own.

    Parameters
    ----------
    model : torch.nn.Module
        Vanilla (then there is one group) or mean-field.
    lr, weight_decay : float
        Of the weights, >= 0.
    tau_lr : float, optional
        Rate of u, >= 0; by default that of the weights, which is Algorithm 1. 0 pins the depths. A schedule that
        multiplies the rates of all groups keeps their ratio.
    tau_weight_decay : float, optional
        Decay of u towards 0, >= 0: it shrinks all steps. By default none, as for any parameter that is not a weight.

    Returns
    -------
    list of dict
        With the keys ``params``, ``lr``, ``weight_decay``, ``name`` ("weights" or "depths").

    Raises
    ------
    InputError
        If a number is out of range.
    """
    depths = [stage.u for stage in stages(model)]
    known = set(map(id, depths))
    weights = [parameter for parameter in model.parameters() if id(parameter) not in known]
    tau_lr = lr if tau_lr is None else tau_lr
    groups = [
        ("weights", weights, real("lr", lr, least=0.0), real("weight_decay", weight_decay, least=0.0)),
        ("depths", depths, real("tau_lr", tau_lr, least=0.0), real("tau_weight_decay", tau_weight_decay, least=0.0)),
    ]
    return [
        {"params": parameters, "lr": rate, "weight_decay": decay, "name": name}
        for name, parameters, rate, decay in groups
        if parameters
    ]


def shapes(branch: nn.Module) -> dict[str, tuple[int, ...]]:
    """Shapes of the parameters and buffers of a branch by name, which blocks of one stage have in common."""
    state = branch.state_dict().items()  # where a module may keep more than tensors (get_extra_state)
    return {name: tuple(tensor.shape) for name, tensor in state if isinstance(tensor, Tensor)}


def _same_shapes(branches: nn.ModuleList) -> None:
    """Raise InputError unless there are branches, of equal shapes, so that they are particles in one Theta."""
    if not len(branches):
        raise InputError("branches: expected at least one residual branch, got none")
    first = shapes(branches[0])
    for i, branch in enumerate(branches):
        other = shapes(branch)
        for name in {**first, **other}:
            if first.get(name) != other.get(name):
                raise InputError(
                    f"branches: expected blocks of equal shapes, got {name} of shape {first.get(name)} in block 0 and "
                    f"{other.get(name)} in block {i}; leave blocks that change the shape outside of the stage"
                )


def _offers_last(branch: nn.Module) -> bool:
    """Whether a branch has a tensor ``last`` (a layer may have that name too) that ``forward(x, last)`` replaces."""
    names = list(inspect.signature(branch.forward).parameters)
    return names[1:2] == ["last"] and isinstance(getattr(branch, "last", None), Tensor)


def _axis_sizes(axes: int | list[int] | tuple[int, ...], count: int) -> list[int]:
    """Blocks on each depth axis of a stage of ``count``; raises InputError if they do not add up."""
    if isinstance(axes, list | tuple):
        sizes = [whole("axes", size) for size in axes]
    else:
        number = min(whole("axes", axes), count + 1)  # one too many leaves an axis of size 0, refused below
        sizes = [count // number + (k < count % number) for k in range(number)]
    if sum(sizes) != count or min(sizes, default=0) < 1:
        raise InputError(f"axes: expected at most {count} axes, or sizes >= 1 with sum {count}, got {describe(axes)}")
    return sizes
