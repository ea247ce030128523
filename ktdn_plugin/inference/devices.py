"""Looks up devices and precisions by name, without falling back to another."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from ktdn_plugin.errors import KTDNError, did_you_mean

KINDS = ("cpu", "cuda", "mps")

PRECISIONS = {
    "float32": torch.float32,
    "tf32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
"""The dtype of weights and features by the precision's name."""


def find_device(name: str | torch.device, kinds: Sequence[str] = KINDS) -> torch.device:
    """Returns the device of a given name.

    Args:
        name: One of ``kinds``, optionally with an index (``cuda:1``), or ``auto``: a GPU if there
            is one.
        kinds: The acceptable kinds of device.

    Raises:
        KTDNError: If there is no such device on this machine.
    """
    if name == "auto":
        there = [kind for kind in ("cuda", "mps") if kind in kinds and _count(kind)]
        return torch.device(there[0] if there else "cpu")
    known = ("auto", *kinds)
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        device = None
    if device is None or device.type not in kinds:
        raise KTDNError(
            f"device '{name}' is not one of {', '.join(known)}{did_you_mean(name, known)}"
        )
    if (device.index or 0) >= _count(device.type):
        raise KTDNError(
            f"there is no device '{name}' here (of {device.type}, torch can use "
            f"{_count(device.type)}); use cpu or auto"
        )
    return device


def _count(kind: str) -> int:
    if kind == "cuda":
        return torch.cuda.device_count()
    return int(torch.backends.mps.is_available()) if kind == "mps" else 1


def find_precision(name: str, device: torch.device) -> torch.dtype:
    """Returns the dtype of a named precision.

    Args:
        name: ``float32``; ``tf32``, float32 with rounded products, for Nvidia GPUs since Ampere;
            ``bf16``; ``fp16``, for GPUs.
        device: Where to compute.

    Raises:
        KTDNError: If there is no such precision, or the device does not support it.
    """
    if name not in PRECISIONS:
        raise KTDNError(
            f"precision '{name}' is not one of {', '.join(PRECISIONS)}"
            f"{did_you_mean(name, PRECISIONS)}"
        )
    if name == "fp16" and device.type == "cpu":
        raise KTDNError("precision fp16 is for GPUs; on a CPU use bf16 or float32")
    ampere = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    if name == "tf32" and not ampere:
        raise KTDNError(f"precision tf32: {device} does not support it; use float32")
    if name == "bf16" and device.type == "cuda" and not ampere:
        raise KTDNError(f"precision bf16: {device} is too old for it; use fp16 or float32")
    return PRECISIONS[name]


_settings = threading.Condition()
_stack = contextlib.ExitStack()
_computing: list[str] = []  # the precision of each run that is in progress


@contextmanager
def computing(precision: str) -> Iterator[None]:
    """Disables gradients, and TF32 unless the precision asks for it.

    That is a setting of the whole process: runs on several devices share it, and one of another
    precision waits for them.
    """
    with _settings:
        _settings.wait_for(lambda: not _computing or _computing[0] == precision)
        if not _computing:
            _stack.enter_context(_rounding(precision))
        _computing.append(precision)
    try:
        with torch.inference_mode():
            yield
    finally:
        with _settings:
            _computing.pop()
            if not _computing:
                _stack.close()
                _settings.notify_all()


@contextmanager
def _rounding(precision: str) -> Iterator[None]:
    # cuDNN rounds float32 to TF32 unless told otherwise.
    with (
        torch.backends.cudnn.flags(
            enabled=torch.backends.cudnn.enabled,
            benchmark=torch.backends.cudnn.benchmark,
            deterministic=torch.backends.cudnn.deterministic,
            allow_tf32=precision == "tf32",
        ),
        _multiplying("high" if precision == "tf32" else "highest"),
    ):
        yield


@contextmanager
def _multiplying(precision: str) -> Iterator[None]:
    """Sets torch's float32 matmul precision."""
    try:
        before = torch.get_float32_matmul_precision()
    except RuntimeError:  # set individually through the API added in torch 2.9: respect that
        before = precision
    if before == precision:
        yield
        return
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
