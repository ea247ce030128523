"""Loads checkpoints of any layout but only the right network's; saves them with metadata."""

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
    """Lets ``load_from`` take checkpoints of BasicSR's side, KTDN's authors or another model.

    It also takes the name of a bundled network, such as ``ktdn_small``.

    mmengine loads what fits and only warns about the rest: with another network's checkpoint,
    training would start from random weights. Here it is refused.

    Saved checkpoints get our metadata, see :mod:`ktdn_plugin.checkpoints.metadata`, in ``meta``.
    """

    # Before the averaging hook, which also reads the checkpoint.
    priority = "VERY_HIGH"

    def before_run(self, runner: Runner) -> None:
        """Replaces the name of a bundled network with its file."""
        if runner._load_from:
            runner._load_from = str(file_of(runner._load_from))

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Converts a checkpoint's weights to the model's own layout, in place.

        Raises:
            KTDNError: If they are another network's.
        """
        model: Any = runner.model.module if is_model_wrapper(runner.model) else runner.model
        source = runner._load_from or "the checkpoint"
        weights = fit_model(model, Checkpoint(checkpoint, source), resumes=runner._resume)
        if weights is not None:
            checkpoint["state_dict"] = weights
            # An average in another layout only belongs with its own weights.
            checkpoint.pop("ema_state_dict", None)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Keeps the figures for later checkpoints, including those of a resumed training."""
        keep_figures(runner, metrics or {})

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Adds our metadata to a checkpoint."""
        checkpoint["meta"][KEY] = describe(runner, checkpoint["meta"]["iter"])


def fit_model(model: Any, checkpoint: Checkpoint, *, resumes: bool) -> dict[str, Tensor] | None:
    """Converts a checkpoint's weights to a model's own layout.

    Args:
        model: The model.
        checkpoint: The checkpoint.
        resumes: Whether training is being resumed, which only takes the model's own checkpoints.

    Returns:
        Name to tensor; None if the checkpoint already has the model's layout.

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
        # Adapters, which a network's file cannot contain, stay as they are.
        rest = {key: value for key, value in wanted.items() if not key.startswith(prefix)}
        weights = {**rest, **weights}
    problem = compare_keys(wanted, weights)
    if problem:
        name = type(model).__name__
        raise KTDNError(f"{source}: a checkpoint of a different model than this {name}: {problem}")
    return weights
