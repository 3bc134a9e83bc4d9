"""Algorithm 1 on convolutional networks: the public names of :mod:`wgflow.systems.images`, which need PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wgflow.systems import images

if TYPE_CHECKING:
    from wgflow.systems.images import *  # noqa: F403


def __getattr__(name: str) -> Any:
    return getattr(images, name)


def __dir__() -> list[str]:
    return dir(images)
