"""KTDN in BasicSR: registration, models, datasets, and the commands' pipelines."""

from __future__ import annotations

from typing import Any


def register() -> None:
    """Registers KTDN's archs, blocks, losses, models and datasets under their plain names.

    Idempotent. First makes BasicSR work with current torch, see :mod:`ktdn_plugin.basicsr.compat`.

    Raises:
        KTDNError: If BasicSR is not installed, or something else is registered under one of the
            names.
    """
    from ktdn_plugin.basicsr import compat

    compat.apply()

    from basicsr.utils import registry

    from ktdn_plugin.archs import KTDN
    from ktdn_plugin.basicsr.datasets import DATASETS
    from ktdn_plugin.basicsr.ktdn_model import KTDNModel
    from ktdn_plugin.basicsr.ktdn_teacher_model import KTDNTeacherModel
    from ktdn_plugin.blocks import EM, FAM
    from ktdn_plugin.losses import LOSSES

    for target, items in (
        (registry.ARCH_REGISTRY, (KTDN, FAM, EM)),
        (registry.LOSS_REGISTRY, LOSSES),
        (registry.DATASET_REGISTRY, DATASETS),
        (registry.MODEL_REGISTRY, (KTDNTeacherModel, KTDNModel)),
    ):
        for item in items:
            _add(target, item)


def _add(registry: Any, item: type) -> None:
    from ktdn_plugin.errors import KTDNError

    if item.__name__ not in registry:
        registry.register(item)
    elif registry.get(item.__name__) is not item:
        raise KTDNError(
            f"BasicSR's {registry._name} registry already contains another '{item.__name__}' "
            f"({registry.get(item.__name__).__module__}); rename that one"
        )
