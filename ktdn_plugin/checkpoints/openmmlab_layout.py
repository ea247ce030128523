"""What mmengine's checkpoint files hold, for programs with and without mmengine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FunctionType
from typing import Any

import numpy as np
import torch
from torch import Tensor

StateDict = dict[str, Tensor]

NETWORK_PREFIXES = ("student.", "generator.")
"""What a network is called inside the models that train it, mmagic's included."""

_HISTORY = "mmengine.logging.history_buffer.HistoryBuffer"


class HistoryBuffer:
    """Stands for mmengine's class of that name, which every file of its has in its log."""


def allowed_classes(history: type = HistoryBuffer) -> list[Any]:
    """Gives what torch's restricted unpickler has to let through to read a file of mmengine's.

    Nothing of it runs code of the file's choice: the log's own class, numpy's arrays of numbers,
    and a ``getattr`` that gives methods of that class alone, which its logs name.

    Args:
        history: The log's class; a stand-in where nobody wants to read the log.

    Returns:
        The argument of ``torch.serialization.add_safe_globals`` and ``safe_globals``.
    """
    multiarray: Any = np._core.multiarray  # type: ignore[attr-defined]
    numbers = [np.dtype(code) for code in ("f4", "f8", "i4", "i8", "u1", "u8", "?")]
    functions = {
        "_reconstruct": multiarray._reconstruct,
        "scalar": multiarray.scalar,
    }
    # Files of numpy 1 name the module otherwise.
    modules = ("numpy._core.multiarray", "numpy.core.multiarray")
    return [
        (history, _HISTORY),
        (_method_of(history), "builtins.getattr"),
        np.ndarray,
        np.dtype,
        *(type(number) for number in numbers),
        *((item, f"{module}.{name}") for module in modules for name, item in functions.items()),
    ]


@contextmanager
def readable() -> Iterator[None]:
    """Lets torch's restricted unpickler read files of mmengine's inside it."""

    def name_of(item: Any) -> str:
        return item[1] if isinstance(item, tuple) else f"{item.__module__}.{item.__name__}"

    # What somebody has allowed for good would be forbidden at the end.
    present = {name_of(item) for item in torch.serialization.get_safe_globals()}
    missing = [item for item in allowed_classes() if name_of(item) not in present]
    with torch.serialization.safe_globals(missing):
        yield


def _method_of(history: type) -> Callable[[Any, str], Any]:
    def restricted_getattr(owner: Any, name: str) -> Any:
        """Gives a public method of the log's class, and of nothing else."""
        if owner is not history or name.startswith("_"):
            raise AttributeError(f"getattr of {owner!r} is not allowed in a checkpoint")
        method = vars(history).get(name)
        return method if isinstance(method, FunctionType) else None

    return restricted_getattr


def is_mmengine(content: Any) -> bool:
    """Tells whether a file's content is as mmengine's Runner saves it."""
    return isinstance(content, Mapping) and {"meta", "state_dict"} <= content.keys()


def from_mmengine(content: Mapping[str, Any], averaged: bool = True) -> StateDict:
    """Takes the network's weights out of a file of mmengine's.

    Args:
        content: The file's content.
        averaged: The averaged weights, where there are any; the trained ones themselves if not.

    Returns:
        Name to tensor, without the prefix of the model that trained the network.
    """
    weights: Mapping[str, Tensor] = content["state_dict"]
    # Its EMAHook exchanges the two when it saves.
    if not averaged and "ema_state_dict" in content:
        weights = {
            key.removeprefix("module."): value
            for key, value in content["ema_state_dict"].items()
            if key != "steps"
        }
    for prefix in NETWORK_PREFIXES:
        own = {
            key.removeprefix(prefix): value
            for key, value in weights.items()
            if key.startswith(prefix)
        }
        if own:
            return own
    return dict(weights)
