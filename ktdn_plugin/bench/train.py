"""``ktdn bench train``: a student's training step, the plain way and ours, on this machine.

Every variant takes the same steps from the same weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from ktdn_plugin.allocator import keep_freed_memory
from ktdn_plugin.archs import KTDN
from ktdn_plugin.bench.variants import (
    MINIMUM_SIZE,
    PLAIN,
    build_step,
    synthetic_batches,
    variant_names,
)
from ktdn_plugin.bench.ways import (
    Step,
    Way,
    explain_peak,
    format_ways,
    measure,
    raise_if_failed,
    require_least,
)
from ktdn_plugin.console import print_lines
from ktdn_plugin.environment import describe_machine
from ktdn_plugin.errors import KTDNError, did_you_mean
from ktdn_plugin.inference.devices import find_device

BATCH_SIZES = {"cpu": 2, "cuda": 4}


def run_bench(
    encoder: str = "res2net101d",
    batch_size: int | None = None,
    size: int = 256,
    steps: int = 5,
    warmup: int = 2,
    device: str = "auto",
    variants: Sequence[str] | None = None,
    options: Path | None = None,
    seed: int = 0,
) -> None:
    """Measures a training step, and prints a table.

    Args:
        encoder: The networks' timm backbone.
        batch_size: Images per batch; by default 2 on a CPU, 4 on a GPU.
        size: Height and width of an image.
        steps: Timed steps of each variant; the median is reported.
        warmup: Steps before them, at least one.
        device: ``auto`` (a GPU if there is one), ``cpu``, ``cuda`` or ``cuda:1``.
        variants: Names of variants, by default all that the device can run; ``plain``, the
            baseline, is always included.
        options: Options file for ``ktdn train``: also measure how long training waits for its
            data.
        seed: Seed of weights and images.

    Raises:
        KTDNError: If an argument is wrong, or, after the table, if a variant could not be measured.
    """
    try:
        place = find_device(device, tuple(BATCH_SIZES))
    except KTDNError as error:
        raise KTDNError(f"bench: {error}") from error
    if batch_size is None:
        batch_size = BATCH_SIZES[place.type]
    names = _check(batch_size, size, steps, warmup, variants, place)
    # Report errors right away, not after minutes of measuring.
    with torch.device("meta"):
        KTDN(encoder)
    if options is not None:
        from ktdn_plugin.basicsr.samples import load_training_options

        load_training_options(options, place, seed)
    job = {
        "encoder": encoder,
        "batch_size": batch_size,
        "size": size,
        "device": str(place),
        "seed": seed,
    }
    ways = [Way(name, {"variant": name, **job}) for name in names]
    for line in describe_machine(place):
        print_lines(line)
    print_lines(
        f"step   {encoder}, batch {batch_size}, {size} x {size}, median of {steps} steps", ""
    )
    measure(__name__, ways, steps, warmup)
    print_lines(*format_ways(ways, extras={"first loss": _first_loss, "off": _difference}))
    print_lines(
        "",
        explain_peak(place),
        "off: largest difference of one of the first step's losses from its.",
    )
    if options is not None:
        print_lines("", _data_share(options, encoder, place, steps, warmup, seed))
    raise_if_failed(ways)


def _check(
    batch_size: int,
    size: int,
    steps: int,
    warmup: int,
    variants: Sequence[str] | None,
    device: torch.device,
) -> list[str]:
    require_least({"batch size": (batch_size, 1), "size": (size, MINIMUM_SIZE)})
    require_least({"steps": (steps, 1), "warmup": (warmup, 1)})
    known = variant_names(device)
    if variants is None:
        return known
    for name in variants:
        if name not in known:
            raise KTDNError(
                f"bench: there is no variant '{name}' on {device.type}"
                f"{did_you_mean(name, known)} (there are {', '.join(known)})"
            )
    return [name for name in known if name == PLAIN or name in variants]


def prepare(variant: str, encoder: str, batch_size: int, size: int, device: str, seed: int) -> Step:
    """Builds a variant's networks and batches; its result contains the weighted losses by name."""
    place = torch.device(device)
    if variant != PLAIN and place.type == "cpu":
        keep_freed_memory()  # as ktdn train does
    torch.backends.cudnn.benchmark = True  # as in training
    step = build_step(variant, encoder, place, seed)
    batches = [
        (hazy.to(place), clear.to(place))
        for hazy, clear in synthetic_batches(batch_size, size, seed)
    ]

    def run() -> Callable[[], dict[str, Any]]:
        batches.append(batches.pop(0))
        losses = step(*batches[-1])
        return lambda: {
            "count": batch_size,
            "losses": {name: loss.item() for name, loss in losses.items()},
        }

    return run


def _first_loss(way: Way, _: Way) -> str:
    return f"{sum(way.result['losses'].values()):.5f}"


def _difference(way: Way, base: Way) -> str:
    wanted = base.result["losses"]
    return f"{max(abs(loss - wanted[name]) for name, loss in way.result['losses'].items()):.1e}"


def _data_share(
    options: Path, encoder: str, device: torch.device, steps: int, warmup: int, seed: int
) -> str:
    # Imported late: it reads data through BasicSR, which the table does not need.
    from ktdn_plugin.bench.data_share import measure_data_share

    share = measure_data_share(options, encoder, device, steps, warmup, seed)
    n, _, height, width = share.shape
    return (
        f"data   {options}: {share.waiting / share.total:.1%} of the time waiting for data "
        f"({1000 * share.waiting / steps:.1f} of {1000 * share.total / steps:.1f} ms a step; ours, "
        f"{encoder}, batch {n}, {height} x {width})"
    )
