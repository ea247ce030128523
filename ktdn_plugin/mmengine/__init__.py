"""KTDN in mmengine: the scope ``ktdn_plugin``, its models, datasets, metrics and hooks.

With ``default_scope = 'ktdn_plugin'`` in a config, or ``type='ktdn_plugin.KTDNDistiller'``, nothing
has to be imported. The command ``ktdn mmengine`` and :func:`build_runner` add what mmengine lacks
for machines without a GPU, and clear messages for config errors.
"""

from __future__ import annotations

from typing import Any

__all__ = ["build_runner"]


def __getattr__(name: str) -> Any:
    # Loaded on first use: mmengine imports this package to find its registries.
    if name == "build_runner":
        from ktdn_plugin.mmengine.run import build_runner

        return build_runner
    raise AttributeError(f"module 'ktdn_plugin.mmengine' has no attribute '{name}'")
