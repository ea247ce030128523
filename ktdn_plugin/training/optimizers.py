"""Optimisers by name: torch's, and those that timm adds."""

from __future__ import annotations

from collections.abc import Callable

import timm.optim
import torch

from ktdn_plugin.errors import KTDNError, did_you_mean

OptimizerClass = Callable[..., torch.optim.Optimizer]

UNUSABLE = {
    "LBFGS": "it calls the network several times per step",
    "SparseAdam": "it only takes sparse gradients",
    "Muon": "it only takes matrices; timm's 'muon' takes every weight",
}


def _torchs() -> dict[str, OptimizerClass]:
    return {
        name: item
        for name, item in vars(torch.optim).items()
        if isinstance(item, type)
        and issubclass(item, torch.optim.Optimizer)
        and item is not torch.optim.Optimizer
    }


def _timms() -> list[str]:
    return [str(name) for name in timm.optim.list_optimizers()]


def find_optimizer(name: str) -> OptimizerClass:
    """Finds an optimiser class.

    Args:
        name: As torch spells it (``AdamW``), else as timm does (``lion``, ``adan``, ``lamb``).

    Raises:
        KTDNError: If there is none of that name, it cannot train a network by its gradients
            alone, or it needs a package that is not there.
    """
    if name in UNUSABLE:
        raise KTDNError(f"'{name}' cannot be used: {UNUSABLE[name]}")
    torchs = _torchs()
    if name in torchs:
        return torchs[name]
    names = _timms()
    if name.lower() not in names:
        raise KTDNError(
            f"neither torch nor timm has an optimizer '{name}'"
            f"{did_you_mean(name, [*names, *torchs])}"
        )
    if timm.optim.get_optimizer_info(name.lower()).second_order:
        raise KTDNError(f"'{name}' cannot be used: it needs second derivatives")
    try:
        return timm.optim.get_optimizer_class(name.lower())
    except (ImportError, AssertionError) as error:  # others' packages, or a GPU
        raise KTDNError(f"'{name}' cannot be used here: {error}") from error
