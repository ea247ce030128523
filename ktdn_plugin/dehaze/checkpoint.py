"""Dehazing with a checkpoint: what ``ktdn dehaze`` does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ktdn_plugin.dehaze.run import dehaze_all
from ktdn_plugin.dehaze.shards import Shard, find_shard
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.model_zoo.weights import resolve_checkpoint
from ktdn_plugin.pipeline import DevicePool, usable_cores
from ktdn_plugin.system_memory import available


def dehaze_with(
    checkpoint: str | Path,
    inputs: Sequence[Path],
    output: Path | None,
    *,
    network: Mapping[str, Any],
    strength: float = 1.0,
    shard: str | None = None,
    workers: int | None = None,
    **options: Any,
) -> None:
    """Dehazes photographs and videos with a trained network, loaded only if there is work to do.

    Args:
        checkpoint: A file, or the name of bundled weights.
        inputs: See :func:`~ktdn_plugin.dehaze.run.dehaze_all`.
        output: See :func:`~ktdn_plugin.dehaze.run.dehaze_all`.
        network: How :class:`~ktdn_plugin.Dehazer` runs it: device, several joined by commas,
            precision, max_memory, encoder, base_size.
        strength: How much of the network's change is applied.
        shard: See :func:`~ktdn_plugin.dehaze.shards.find_shard`.
        workers: See :func:`~ktdn_plugin.dehaze.run.dehaze_all`; by default the CPU cores are
            divided among the processes on this machine.
        options: Passed to :func:`~ktdn_plugin.dehaze.run.dehaze_all`.

    Raises:
        KTDNError: As for :func:`~ktdn_plugin.dehaze.run.dehaze_all`, or if there is no such
            checkpoint.
    """
    path = resolve_checkpoint(checkpoint)
    share = find_shard(shard)
    if share is not None and workers is None:
        workers = max(1, usable_cores() // share.beside)

    def load() -> Callable[[Any], Any]:
        from ktdn_plugin.evaluation.stage import warn_if_teacher

        warn_if_teacher(path)
        return _load(path, strength=strength, share=share, **network)

    dehaze_all(
        inputs,
        output,
        load,
        checkpoint=path,
        precision=network["precision"],
        strength=strength,
        base_size=network["base_size"],
        shard=share,
        workers=workers,
        **options,
    )


def _load(
    path: Path, *, device: str, max_memory: Any, share: Shard | None, **options: Any
) -> Callable[[Any], Any]:
    """Loads a network onto one device or several."""
    import torch

    from ktdn_plugin.inference import Dehazer
    from ktdn_plugin.inference.devices import find_device

    names = [name.strip() for name in device.split(",")]
    places = [find_device(name) for name in names]
    repeated = [name for name, place in zip(names, places, strict=True) if places.count(place) > 1]
    if repeated:
        raise KTDNError(f"--device {device}: {repeated[0]} is named twice; name each device once")
    if share is not None and device == "auto" and places[0].type == "cuda":
        places = [find_device(f"cuda:{share.local % torch.cuda.device_count()}")]
    if share is not None and max_memory is None and places[0].type == "cpu":
        free = available()
        max_memory = None if free is None else free // share.beside
    networks = {
        str(place): Dehazer(path, device=place, max_memory=max_memory, **options)
        for place in places
    }
    return next(iter(networks.values())) if len(networks) == 1 else DevicePool(networks)
