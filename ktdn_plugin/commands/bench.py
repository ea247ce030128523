"""``ktdn bench``: benchmark KTDN on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from ktdn_plugin.commands.flags import CROP_SIZE, GT, OptionsFile, Whole, valued


def train(
    *,
    encoder: Annotated[str, valued("NAME")] = "res2net101d",
    batch_size: Annotated[Whole | None, Parameter(show_default="2 on a CPU, 4 on a GPU")] = None,
    crop_size: Annotated[Whole, CROP_SIZE] = 256,
    steps: Whole = 5,
    warmup: Whole = 2,
    device: Annotated[str, valued("NAME")] = "auto",
    variants: Annotated[Sequence[str] | None, valued("NAME...", show_default="all")] = None,
    opt: OptionsFile | None = None,
    seed: Whole = 0,
) -> None:
    """Measure a training step's time and memory: the plain way, ours, and each switch.

    Args:
        encoder: Encoder, a timm backbone.
        batch_size: Images in a batch.
        crop_size: Height and width of the training crops, in pixels.
        steps: Timed runs of each variant.
        warmup: Runs before the timed ones.
        device: Where to compute. auto, cpu, cuda or cuda:1.
        variants: Variants to measure beside 'plain'.
        opt: Options file. YAML, as BasicSR's; also measures the wait for its training data.
        seed: Seed of the random numbers.
    """
    from ktdn_plugin.bench.train import run_bench

    run_bench(encoder, batch_size, crop_size, steps, warmup, device, variants, opt, seed)


def data(
    *,
    hazy: Path | None = None,
    gt: Annotated[Path | None, GT] = None,
    pairs: Whole = 6,
    crop_size: Annotated[Whole, CROP_SIZE] = 256,
    workers: Sequence[Whole] = (0,),
    steps: Whole = 5,
    warmup: Whole = 1,
    seed: Whole = 0,
) -> None:
    """Measure training crops per second and core: BasicSR's dataset and ours, files and store.

    Args:
        hazy: Hazy images. A folder; without it, pairs are made from photographs.
        gt: Clear images, the ground truth. A folder.
        pairs: Pairs to read from, at most.
        crop_size: Height and width of the training crops, in pixels.
        workers: Number of workers. Each reader is measured with each of these numbers.
        steps: Timed runs of each variant. One reads for half a second or longer.
        warmup: Runs before the timed ones.
        seed: Seed of the random numbers.
    """
    from ktdn_plugin.bench.data import run_bench_data

    run_bench_data(hazy, gt, pairs, crop_size, workers, steps, warmup, seed)


def dehaze(
    *,
    checkpoint: Annotated[str | None, valued("NAME_OR_FILE", show_default="random weights")] = None,
    encoder: Annotated[str, valued("NAME")] = "res2net101d",
    sizes: Annotated[Sequence[str], valued("WIDTHxHEIGHT...")] = ("1600x1200",),
    precisions: Annotated[
        Sequence[str] | None,
        valued("PRECISION...", show_default="all that the device has"),
    ] = None,
    max_memory: Annotated[Sequence[str], valued("SIZE...")] = (),
    beside: Annotated[Sequence[str], valued("NAME_OR_FILE...")] = (),
    steps: Whole = 3,
    warmup: Whole = 1,
    device: Annotated[str, valued("NAME")] = "auto",
    seed: Whole = 0,
    folder: Annotated[Whole | None, valued("PHOTOS")] = None,
    formats: Annotated[Sequence[Literal["jpg", "png", "tiff", "webp"]], valued("FORMAT...")] = (
        "jpg",
        "png",
    ),
    processes: Sequence[Whole] = (1, 2),
) -> None:
    """Measure dehazing, time and memory: the plain way, and ours in each precision.

    With --folder: 'ktdn dehaze' on a folder, from its start, against a loop
    that reads, computes and writes one photo after another.

    Args:
        checkpoint: A trained network: ktdn_small, ktdn_tiny or a file. With --folder ktdn_small by
            default.
        encoder: Encoder, a timm backbone. For random weights.
        sizes: Image sizes in pixels.
        precisions: Precisions of the computation: float32, tf32, bf16, fp16.
        max_memory: Memory limit, such as 4GB. Measured beside the run without one; least is the
            least that is enough.
        beside: Other trained networks, measured in the same run: ktdn_small, net_g.pth, ...
        steps: Timed runs of each variant.
        warmup: Runs before the timed ones.
        device: Where to compute. auto, cpu, cuda or cuda:1.
        seed: Seed of the random numbers.
        folder: Measure the whole command on a folder of so many photos.
        formats: Formats of the photos. A table for each.
        processes: Numbers of processes that share the photos, the CPU cores and the memory limit.
    """
    from ktdn_plugin.bench.dehaze import run_bench_dehaze

    run_bench_dehaze(
        checkpoint,
        encoder,
        sizes,
        precisions,
        max_memory,
        beside,
        steps,
        warmup,
        device,
        seed,
        folder,
        formats,
        processes,
    )


def transfer(*, opt: OptionsFile, seeds: Sequence[Whole] = (0, 1, 2)) -> None:
    """Measure what knowledge transfer adds: train with it, without, and with an untrained teacher.

    Args:
        opt: Options file. YAML, as BasicSR's; a student's, such as
            options/release/train_transfer.yml.
        seeds: Seeds of the runs.
    """
    from ktdn_plugin.bench.transfer import run_bench_transfer

    run_bench_transfer(opt, seeds)
