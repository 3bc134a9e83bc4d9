"""Checkpoints of a training run, written atomically and verified when read.

A file is a line of text with the SHA-256 of the rest, then what ``torch.save`` writes. It is written under a temporary
name, flushed to disk and renamed, so that an interrupted write leaves the old file or the new one; it is read with
``weights_only``, so that nothing in it is executed.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import torch

from wgflow.base.errors import InputError
from wgflow.base.files import atomic_write, remove_drafts

_HEAD = b"wgflow checkpoint 1 "


def save(path: str | Path, state: dict[str, Any]) -> None:
    """Write a checkpoint, replacing any that exists.

    Parameters
    ----------
    path : str or Path
        Where; its folder must exist.
    state : dict
        Tensors, numbers, strings, and lists and dicts of them.

    Raises
    ------
    OSError
        If it cannot be written; the old one is then untouched.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    path = Path(path)
    remove_drafts(path)
    with atomic_write(path) as draft, draft.open("wb") as file:
        file.write(_HEAD + hashlib.sha256(buffer.getbuffer()).hexdigest().encode() + b"\n")
        file.write(buffer.getbuffer())


def load(path: str | Path, device: str = "cpu") -> dict[str, Any]:
    """Read a checkpoint.

    Parameters
    ----------
    path : str or Path
        The file.
    device : str, optional
        Where its tensors go.

    Raises
    ------
    InputError
        If it is missing, foreign or damaged.
    """
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: expected a readable checkpoint ({error.strerror})") from error
    head, _, body = raw.partition(b"\n")
    if head != _HEAD + hashlib.sha256(body).hexdigest().encode():
        raise InputError(
            f"{path}: expected a whole checkpoint, got a damaged or foreign file; delete it, and its member is trained "
            "again from the start"
        )
    try:
        state = torch.load(io.BytesIO(body), map_location=device, weights_only=True)
    except (RuntimeError, pickle.UnpicklingError) as error:  # its digest is right, so another torch wrote it
        raise InputError(f"{path}: expected a checkpoint this torch can read ({error})") from error
    return dict(state)
