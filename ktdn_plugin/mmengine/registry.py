"""The scope ``ktdn_plugin``: children of mmengine's registries, filled on first use."""

from __future__ import annotations

from mmengine import registry as root
from mmengine.registry import Registry

from ktdn_plugin.mmengine import compat

SCOPE = "ktdn_plugin"

compat.apply()


LOCATIONS: dict[str, tuple[str, ...]] = {
    "MODELS": ("networks", "data_preprocessor", "models", "averaged_model"),
    "DATASETS": ("datasets",),
    "DATA_SAMPLERS": ("samplers",),
    "LOOPS": ("loops",),
    "METRICS": ("metrics",),
    "HOOKS": ("hooks",),
    "OPTIM_WRAPPERS": ("optim_wrapper",),
}
"""Modules of this package that fill each registry, imported on first lookup."""


def _child(name: str) -> Registry:
    parent: Registry = getattr(root, name)
    modules = [f"ktdn_plugin.mmengine.{module}" for module in LOCATIONS.get(name, ())]
    return Registry(parent.name, parent=parent, scope=SCOPE, locations=modules)


MODELS = _child("MODELS")
DATASETS = _child("DATASETS")
DATA_SAMPLERS = _child("DATA_SAMPLERS")
LOOPS = _child("LOOPS")
METRICS = _child("METRICS")
HOOKS = _child("HOOKS")
OPTIM_WRAPPERS = _child("OPTIM_WRAPPERS")
# Without these, mmengine would warn of each one that the default scope lacks it.
OTHERS = [
    _child(name)
    for name, item in vars(root).items()
    if isinstance(item, Registry) and name not in LOCATIONS
]
