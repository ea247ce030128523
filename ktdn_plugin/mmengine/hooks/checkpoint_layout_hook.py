"""Loads checkpoints of any layout, and no other network's; saves what they tell of themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor

from ktdn_plugin.checkpoints import Checkpoint
from ktdn_plugin.checkpoints.loading import check_settings, fit_weights
from ktdn_plugin.checkpoints.metadata import KEY
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.mmengine.provenance import describe, keep_figures
from ktdn_plugin.mmengine.registry import HOOKS
from ktdn_plugin.model_zoo.weights import file_of
from ktdn_plugin.storage.state_dicts import compare_keys


@HOOKS.register_module()
class CheckpointLayoutHook(Hook):
    """Lets ``load_from`` take what BasicSR's side, KTDN's authors or another model has saved.

    So does it take the name of a network that comes with the package, ``ktdn_small``.

    mmengine loads what fits and only warns of the rest: a checkpoint of another network would
    train on from random weights. Here it is refused.

    What it saves gets our metadata, see :mod:`ktdn_plugin.checkpoints.metadata`, into its ``meta``.
    """

    # Before the averaging hook, which looks into the checkpoint as well.
    priority = "VERY_HIGH"

    def before_run(self, runner: Runner) -> None:
        """Replaces the name of a network that comes with the package by its file."""
        if runner._load_from:
            runner._load_from = str(file_of(runner._load_from))

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Brings a checkpoint's weights into the model's own layout, in place.

        Raises:
            KTDNError: If they are another network's.
        """
        model: Any = runner.model.module if is_model_wrapper(runner.model) else runner.model
        source = runner._load_from or "the checkpoint"
        weights = fit_model(model, Checkpoint(checkpoint, source), resumes=runner._resume)
        if weights is not None:
            checkpoint["state_dict"] = weights
            # An average of another layout goes with its own weights alone.
            checkpoint.pop("ema_state_dict", None)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Keeps the figures for the checkpoints to come, those of a resumed training as well."""
        keep_figures(runner, metrics or {})

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Adds to a checkpoint what it is of."""
        checkpoint["meta"][KEY] = describe(runner, checkpoint["meta"]["iter"])


def fit_model(model: Any, checkpoint: Checkpoint, *, resumes: bool) -> dict[str, Tensor] | None:
    """Brings a checkpoint's weights into a model's own layout.

    Args:
        model: The model.
        checkpoint: The checkpoint.
        resumes: Whether a training is resumed, which takes the model's own checkpoints alone.

    Returns:
        Name to tensor; None where the checkpoint has the model's layout already.

    Raises:
        KTDNError: If they are another network's.
    """
    wanted = model.state_dict()
    prefix = f"{model.NETWORK}." if hasattr(model, "NETWORK") else ""
    content, source = checkpoint.content, checkpoint.path
    own = content.get("state_dict") if isinstance(content, Mapping) else None
    part = getattr(model, model.NETWORK) if prefix else getattr(model, "network", model)
    if isinstance(own, Mapping) and not compare_keys(wanted, own):
        check_settings(part, checkpoint.weights, checkpoint)
        return None
    if resumes:
        problem = compare_keys(wanted, own) if isinstance(own, Mapping) else "no state_dict"
        raise KTDNError(
            f"{source}: the training of a different model than this {type(model).__name__}: "
            f"{problem}; "
            "resume one of its own, or start from these weights with load_from alone"
        )
    weights = {f"{prefix}{key}": value for key, value in fit_weights(part, checkpoint).items()}
    if prefix:
        # What a network's file cannot have, the adapters, stays as it is.
        rest = {key: value for key, value in wanted.items() if not key.startswith(prefix)}
        weights = {**rest, **weights}
    problem = compare_keys(wanted, weights)
    if problem:
        name = type(model).__name__
        raise KTDNError(f"{source}: a checkpoint of a different model than this {name}: {problem}")
    return weights
