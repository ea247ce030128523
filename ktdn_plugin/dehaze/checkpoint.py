"""Dehazing with a checkpoint: what ``ktdn dehaze`` does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ktdn_plugin.dehaze.run import dehaze_all
from ktdn_plugin.inference.base import Dehazer, is_onnx
from ktdn_plugin.model_zoo.weights import resolve_checkpoint


def dehaze_with(
    checkpoint: str | Path,
    inputs: Sequence[Path],
    output: Path | None,
    *,
    network: Mapping[str, Any],
    strength: float = 1.0,
    **options: Any,
) -> None:
    """Dehazes photographs and videos with a trained network, loaded only if there is work to do.

    Args:
        checkpoint: A file, or the name of bundled weights.
        inputs: See :func:`~ktdn_plugin.dehaze.run.dehaze_all`.
        output: See :func:`~ktdn_plugin.dehaze.run.dehaze_all`.
        network: How :class:`~ktdn_plugin.Dehazer` runs it: device, precision, max_memory, encoder,
            base_size.
        strength: How much of the network's change is applied.
        options: Passed to :func:`~ktdn_plugin.dehaze.run.dehaze_all`.

    Raises:
        KTDNError: As for :func:`~ktdn_plugin.dehaze.run.dehaze_all`, or if there is no such
            checkpoint.
    """
    path = resolve_checkpoint(checkpoint)

    def load() -> Callable[[Any], Any]:
        if not is_onnx(path):  # which need no torch, and were looked at when they were exported
            from ktdn_plugin.evaluation.stage import warn_if_teacher

            warn_if_teacher(path)
        return Dehazer(path, strength=strength, **network)

    dehaze_all(
        inputs,
        output,
        load,
        checkpoint=path,
        precision=network["precision"],
        strength=strength,
        base_size=network["base_size"],
        **options,
    )
