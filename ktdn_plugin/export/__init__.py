"""Exporting a trained network to one file that runs without this package."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from ktdn_plugin import __version__
from ktdn_plugin.archs import KTDN
from ktdn_plugin.checkpoints.networks import load_network
from ktdn_plugin.console import print_lines
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.evaluation.stage import warn_if_teacher
from ktdn_plugin.export.format import Format
from ktdn_plugin.export.graph import export_failures_as_errors, record
from ktdn_plugin.export.onnx_file import OnnxFile
from ktdn_plugin.export.torch_file import TorchFile
from ktdn_plugin.inference.folding import fold_batch_norms
from ktdn_plugin.storage.atomic import write_whole
from ktdn_plugin.storage.writable import check_writable

TOLERANCE = 1e-4
"""Largest difference to the network in torch that is rounding; an image is in [0, 1]."""

LEAST_PSNR = 40
"""In dB: what a file with kernels in float16 has to keep to the network on photographs."""

SHAPES = (
    (1, 64, 64),
    (2, 50, 75),
    (1, 33, 80),  # one axis is whole
    (3, 48, 112),  # whole, yet no whole number of the enhancing module's cells
    (1, 17, 300),
    (1, 9, 5),  # too small to be reflected
    (1, 1, 1),
    (1, 784, 32),  # where an enlargement by a factor in float32 takes another cell
)
"""What an exported network is compared on: images, height, width."""

FORMATS: dict[str, Format] = {"onnx": OnnxFile(), "torch": TorchFile()}


def export_checkpoint(
    checkpoint: Path,
    output: Path,
    form: str | None = None,
    *,
    encoder: str | None = None,
    half: bool = False,
    overwrite: bool = False,
) -> None:
    """Exports a checkpoint's network, compares the file with it, and says how to run it.

    Args:
        checkpoint: The checkpoint, in any layout.
        output: The file to write, ending in .onnx or .pt2. Its folder is created if missing.
        form: ``onnx`` or ``torch``; by default what the ending says.
        encoder: Name of the network's timm backbone, where the checkpoint does not tell.
        half: Whether to store kernels in float16; the network computes in float32. ONNX only.
        overwrite: Whether to replace an existing file.

    Raises:
        KTDNError: If anything of this is not possible, or if the exported network differs from
            the checkpoint's by more than :data:`TOLERANCE`, or with ``half`` on photographs by
            less than :data:`LEAST_PSNR`. No file is left then.
    """
    target = _check_output(checkpoint, output, form, overwrite)
    if half and not target.has_half:
        raise KTDNError(f"{output}: --half: only for .onnx files; leave it out")
    warn_if_teacher(checkpoint)
    network = load_network(checkpoint, encoder)
    start = time.monotonic()
    try:
        content, folded = _export(network, target, half)
    except KTDNError as error:
        raise KTDNError(f"{checkpoint}: {error}") from error
    print_lines(
        f"KTDN with encoder {network.encoder.name}, {folded} batch norms folded, exported by torch "
        f"{torch.__version__} in {time.monotonic() - start:.0f} s"
    )
    run = target.runner(content)
    rounded = _prepare(network, half)[0] if half else network
    difference = largest_difference(rounded, run)
    # Not the other way round: a difference that is not a number is none to accept.
    if not difference <= TOLERANCE:
        raise KTDNError(
            f"{output}: not written: the exported network differs from the checkpoint's network by "
            f"{difference:.1e}, more than {TOLERANCE:.0e}; try another version of torch"
        )
    if half and not (kept := lowest_psnr(network, run)) >= LEAST_PSNR:
        raise KTDNError(
            f"{output}: not written: with kernels in float16 its results for photographs have a "
            f"PSNR of {kept:.1f} dB to the checkpoint's, less than {LEAST_PSNR}; leave --half out"
        )
    _write(output, content)
    if half:
        print_lines(f"kernels in float16: at least {kept:.1f} dB to the checkpoint on photographs")
    print_lines(
        f"{output}: {len(content) / 1e6:.1f} MB; largest difference from the checkpoint in torch "
        f"{difference:.1e} (at most {TOLERANCE:.0e}), on images from 1 x 1 to "
        f"{max(height for _, height, _ in SHAPES)} rows"
    )
    path = json.dumps(str(output), ensure_ascii=False)
    print_lines(
        "", "To run it, on images of any size:", "", *target.usage.format(path=path).splitlines()
    )


def _export(network: KTDN, target: Format, half: bool) -> tuple[bytes, int]:
    exported, folded = _prepare(network, half)
    metadata = describe(network)
    program = record(exported)
    with export_failures_as_errors(network):
        return target.to_bytes(program, metadata, half), folded


def _prepare(network: KTDN, half: bool) -> tuple[KTDN, int]:
    """Returns a copy with its batch norms folded, and how many they were.

    With ``half`` its kernels are rounded to what float16 can hold.
    """
    prepared = copy.deepcopy(network)
    folded = fold_batch_norms(prepared)
    for parameter in prepared.parameters() if half else ():
        if parameter.ndim > 1:
            parameter.data = parameter.data.half().float()
    return prepared, folded


def describe(network: KTDN) -> dict[str, str]:
    """Returns what an exported file says about itself."""
    mean, std = (
        [round(float(value), 6) for value in x.flatten()] for x in (network.mean, network.std)
    )
    return {
        "model": "KTDN",
        "encoder": network.encoder.name,
        "head": network.head,
        "mean": f"{mean} (subtracted inside)",
        "std": f"{std} (divided by inside)",
        "input": "RGB images (batch, 3, height, width), float32 in [0, 1], of any size from 1 x 1",
        "output": "RGB images of the same shape, float32; clip to [0, 1]",
        "ktdn_plugin": __version__,
        "torch": torch.__version__,
    }


def largest_difference(network: KTDN, run: Callable[[Tensor], Tensor]) -> float:
    """Compares what an exported file gives with what the network gives.

    Args:
        network: The network, as it was loaded.
        run: Runs the file on images (n, 3, h, w).

    Returns:
        The largest difference over random images of all :data:`SHAPES`; not a number if any is.

    Raises:
        KTDNError: If the file cannot take one of them, or gives another shape.
    """
    generator = torch.Generator().manual_seed(0)
    worst = torch.zeros(())
    for count, height, width in tqdm(SHAPES, desc="comparing", unit="size", disable=None):
        image = torch.rand(count, 3, height, width, generator=generator)
        with torch.inference_mode():
            wanted = network(image)
            try:
                got = run(image)
            # Runtimes have exceptions of their own for what a graph does not allow.
            except Exception as error:
                raise KTDNError(
                    f"the exported network cannot take {count} image(s) of {height} x {width}: "
                    f"{error}"
                ) from error
        if got.shape != wanted.shape:
            raise KTDNError(
                f"the exported network returns {tuple(got.shape)} for {tuple(wanted.shape)}"
            )
        worst = torch.maximum(worst, (got - wanted).abs().max())  # keeps what is not a number
    return float(worst)


def lowest_psnr(network: KTDN, run: Callable[[Tensor], Tensor]) -> float:
    """Compares what an exported file gives for photographs with what the network gives.

    Args:
        network: The network, as it was loaded.
        run: Runs the file on images (n, 3, h, w).

    Returns:
        The lower PSNR in dB; not a number if a result is not finite.
    """
    from skimage import data

    errors = []
    for photograph in (data.chelsea(), data.coffee()):
        image = torch.from_numpy(photograph).movedim(-1, 0)[None] / 255
        with torch.inference_mode():
            wanted, got = network(image).clamp(0, 1), run(image).clamp(0, 1)
        errors.append((got - wanted).square().mean())
    return float(-10 * torch.stack(errors).max().clamp_min(1e-12).log10())


def _check_output(checkpoint: Path, output: Path, form: str | None, overwrite: bool) -> Format:
    """Finds what is wrong with the output before anything is computed."""
    suffixes = {target.suffix: name for name, target in FORMATS.items()}
    found = suffixes.get(output.suffix.lower())
    if form is not None and found != form:
        flag, suffix = FORMATS[form].flag, FORMATS[form].suffix
        raise KTDNError(f"{output}: {flag} writes files that end in {suffix}; use that suffix")
    if found is None:
        raise KTDNError(f"{output}: exported files end in {' or '.join(suffixes)}; use one of them")
    if output.is_dir():
        raise KTDNError(f"{output}: is a folder; give a file")
    if output.exists():
        if checkpoint.exists() and output.samefile(checkpoint):
            raise KTDNError(f"{output}: is the checkpoint itself; choose another file")
        if not overwrite:
            raise KTDNError(f"{output}: already exists; --overwrite replaces it")
    check_writable(output.parent, output)
    FORMATS[found].check_packages()
    return FORMATS[found]


def _write(output: Path, content: bytes) -> None:
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise KTDNError(f"{output}: cannot be written: {error.strerror or error}") from error
    write_whole(output, lambda file: file.write(content))
