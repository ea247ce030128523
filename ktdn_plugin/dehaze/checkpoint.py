"""Dehazing with a checkpoint: what ``ktdn dehaze`` does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ktdn_plugin.dehaze.pipe import dehaze_pipe, is_pipe
from ktdn_plugin.dehaze.raw_frames import dehaze_raw, parse_size
from ktdn_plugin.dehaze.run import dehaze_all
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.inference.base import Dehazer, is_onnx
from ktdn_plugin.model_zoo.weights import resolve_checkpoint
from ktdn_plugin.photos import ReadLimits
from ktdn_plugin.pipeline import DevicePool, usable_cores
from ktdn_plugin.shards import Shard, divide_devices, find_shard
from ktdn_plugin.videos import SMOOTH, VideoOptions


def dehaze_with(
    checkpoint: str | Path,
    inputs: Sequence[Path],
    output: Path | None,
    *,
    network: Mapping[str, Any],
    strength: float = 1.0,
    shard: str | None = None,
    workers: int | None = None,
    max_pixels: int | None = None,
    codec: Literal["auto", "h264", "hevc"] = "auto",
    crf: int | None = None,
    smooth: float = SMOOTH,
    raw: str | None = None,
    **options: Any,
) -> None:
    """Dehazes photographs and videos with a trained network, loaded only if there is work to do.

    ``-`` stands for standard input and output, see :mod:`ktdn_plugin.dehaze.pipe`.

    Args:
        checkpoint: A file, or the name of bundled weights.
        inputs: See :func:`~ktdn_plugin.dehaze.run.dehaze_all`.
        output: See :func:`~ktdn_plugin.dehaze.run.dehaze_all`.
        network: How :class:`~ktdn_plugin.Dehazer` runs it: device, several joined by commas,
            precision, max_memory, encoder, base_size.
        strength: How much of the network's change is applied.
        shard: See :func:`~ktdn_plugin.shards.find_shard`.
        workers: See :func:`~ktdn_plugin.dehaze.run.dehaze_all`; by default the CPU cores are
            divided among the processes on this machine.
        max_pixels: The most pixels that a photograph may have; by default what the memory allows.
        codec: See :class:`~ktdn_plugin.videos.VideoOptions`.
        crf: The same.
        smooth: The same.
        raw: Size of raw frames, such as ``1920x1080``, see :mod:`ktdn_plugin.dehaze.raw_frames`.
        options: Passed to :func:`~ktdn_plugin.dehaze.run.dehaze_all`.

    Raises:
        KTDNError: As for :func:`~ktdn_plugin.dehaze.run.dehaze_all`, or if there is no such
            checkpoint.
    """
    video = VideoOptions(codec, crf, smooth)
    size = None if raw is None else parse_size(raw)
    path = resolve_checkpoint(checkpoint)
    share = find_shard(shard)
    if share is not None and workers is None:
        workers = max(1, usable_cores() // share.beside)
    limits = _limits(network, max_pixels)

    def load() -> Callable[[Any], Any]:
        if not is_onnx(path):  # which need no torch, and were looked at when they were exported
            from ktdn_plugin.evaluation.stage import warn_if_teacher

            warn_if_teacher(path)
        return _load(path, strength=strength, share=share, **network)

    if is_pipe(inputs, output):
        if shard is not None:
            raise KTDNError(f"--shard {shard}: not with a pipe, which has one result")
        given = video.given()
        if size is not None:
            if codec != "auto" or crf is not None:
                raise KTDNError(
                    f"{given[0]}: not with --raw, whose frames are raw again; leave it out"
                )
            limits.check("--raw", *size)
            dehaze_raw(inputs, output, load, size, smooth=smooth, workers=workers, **options)
            return
        if given:
            raise KTDNError(f"{given[0]}: is of videos, and a pipe takes one photo; leave it out")
        dehaze_pipe(inputs, output, load, limits=limits, **options)
        return
    if size is not None:
        raise KTDNError(f"--raw {raw}: is of a pipe; ktdn dehaze - --raw {raw} -o -")
    dehaze_all(
        inputs,
        output,
        load,
        limits=limits,
        checkpoint=path,
        precision=network["precision"],
        strength=strength,
        base_size=network["base_size"],
        shard=share,
        workers=workers,
        video=video,
        **options,
    )


def _load(
    path: Path, *, device: str, max_memory: Any, share: Shard | None, **options: Any
) -> Callable[[Any], Any]:
    """Loads a network onto one device or several."""
    names = [name.strip() for name in device.split(",")]
    if share is not None and not is_onnx(path):
        names, max_memory = divide_devices(names, max_memory, share)
    if len(names) == 1:
        return Dehazer(path, device=names[0], max_memory=max_memory, **options)
    networks = {
        name: Dehazer(path, device=name, max_memory=max_memory, **options) for name in names
    }
    places = [str(network.device) for network in networks.values()]
    if len(set(places)) < len(names):
        raise KTDNError(f"--device {device}: names a device twice; name each once")
    return DevicePool(networks)


def _limits(network: Mapping[str, Any], max_pixels: int | None) -> ReadLimits:
    """Returns what may be read: on a CPU the memory's limit is the whole process's."""
    if max_pixels is not None and max_pixels < 1:
        raise KTDNError(f"--max-pixels must be 1 or more, got {max_pixels}")
    max_memory = None
    if network["max_memory"] is not None:
        from ktdn_plugin.inference.devices import find_device
        from ktdn_plugin.inference.memory_sizes import parse_memory

        is_cpu = find_device(network["device"].partition(",")[0]).type == "cpu"
        max_memory = parse_memory(network["max_memory"]) if is_cpu else None
    return ReadLimits(max_pixels, max_memory)
