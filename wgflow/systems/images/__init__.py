"""Particles as convolutional residual blocks: Algorithm 1 of Lu, Ma, Lu, Lu and Ying on real images, with torch.

>>> from wgflow import cifar                                          # doctest: +SKIP
>>> model = cifar.from_resnet(my_resnet)                              # doctest: +SKIP
>>> optimiser = torch.optim.SGD(cifar.parameter_groups(model, lr=0.1, weight_decay=1e-4), lr=0.1)  # doctest: +SKIP
>>> loss(model(x), y).backward(); optimiser.step()                    # doctest: +SKIP
>>> cifar.settle(model)                                               # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

# Modules of the public names; imported on first use, so that nothing needs torch before it is used.
_HOME = {
    "architectures": ("ARCHITECTURES", "build"),
    "bridge": ("from_particles", "to_particles"),
    "conversion_report": ("report",),
    "convert": ("from_resnet", "to_resnet"),
    "stage": ("MeanFieldStage", "PlainStage", "parameter_groups", "settle", "stages"),
}
__all__ = [
    "ARCHITECTURES",
    "MeanFieldStage",
    "PlainStage",
    "build",
    "from_particles",
    "from_resnet",
    "parameter_groups",
    "report",
    "settle",
    "stages",
    "to_particles",
    "to_resnet",
]

if TYPE_CHECKING:
    from wgflow.systems.images.architectures import ARCHITECTURES, build
    from wgflow.systems.images.bridge import from_particles, to_particles
    from wgflow.systems.images.conversion_report import report
    from wgflow.systems.images.convert import from_resnet, to_resnet
    from wgflow.systems.images.stage import MeanFieldStage, PlainStage, parameter_groups, settle, stages


def __getattr__(name: str) -> Any:
    module = next((module for module, names in _HOME.items() if name in names), None)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        from wgflow.base.errors import InputError
        from wgflow.base.extras import install

        raise InputError(f"cifar.{name}: expected torch, got no such package; {install('cifar')}") from error


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
