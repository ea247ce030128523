"""``ktdn dehaze``: dehaze photographs and videos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from ktdn_plugin.commands.flags import GT, NETWORK, OUTPUT, Debug, Network, Overwrite, Whole, valued


def dehaze(
    inputs: Annotated[Sequence[Path], Parameter(name="INPUT")],
    /,
    *,
    output: Annotated[Path | None, OUTPUT, Parameter(show_default="dehazed")] = None,
    checkpoint: Annotated[str, valued("NAME_OR_FILE")] = "ktdn_small",
    strength: Annotated[float, valued("X")] = 1.0,
    network: Network = NETWORK,
    compare: bool = False,
    gt: Annotated[Path | None, GT] = None,
    split: Annotated[str | None, valued("NAME")] = None,
    format: Annotated[
        Literal["png", "jpg", "webp", "tiff"] | None,
        Parameter(show_default="the photo's; JPEG for HEIC, AVIF, JPEG XL; else PNG"),
    ] = None,
    quality: Annotated[Whole | None, Parameter(show_default="95")] = None,
    compression: Annotated[Whole | None, Parameter(show_default="fast")] = None,
    codec: Annotated[
        Literal["auto", "h264", "hevc"], Parameter(show_default="h264; hevc for 10 bit")
    ] = "auto",
    crf: Annotated[Whole | None, Parameter(show_default="18 for h264, 20 for hevc")] = None,
    smooth: Annotated[float, valued("SECONDS")] = 0.5,
    raw: Annotated[str | None, valued("WIDTHxHEIGHT")] = None,
    workers: Annotated[Whole | None, valued("N", show_default="the number of CPU cores")] = None,
    shard: Annotated[
        str | None, valued("N/COUNT", show_default="all; torchrun's and srun's are detected")
    ] = None,
    max_pixels: Annotated[Whole | None, Parameter(show_default="what memory allows")] = None,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Dehaze photographs and videos with a trained network.

    Photographs of any size, 8 or 16 bit, keep their size, depth, alpha
    channel, EXIF data, colour profile and other metadata.

    Each result is written whole or not at all, and existing results are skipped:
    after an interruption, the same command continues. One with another
    checkpoint, precision or strength, or another photo of that name, is refused
    (OUT/.ktdn-dehaze keeps what results were made with, and from). Files that
    cannot be dehazed do not stop the others; they are named at the end, and the
    exit code is 1. With --debug the first one stops the command.

    examples:
      ktdn dehaze photo.jpg                   dehazed/photo.jpg, with ktdn_small
      ktdn dehaze photo.jpg --strength 0.7    leaves some of the haze
      ktdn dehaze photo.jpg -o clear.png      another format, by its suffix
      ktdn dehaze photos -o out --compare     a folder, with comparisons
      ktdn dehaze hazy --gt clear             a table of PSNR and SSIM
      ktdn dehaze hazy --checkpoint net.pth   your own network
      ktdn dehaze clip.mp4 -o clear.mp4       a video, its sound kept
      ktdn dehaze - -o - < in.jpg > out.jpg   from program to program

    Args:
        inputs: A photo, a folder of photos (searched on all levels), a store that 'ktdn prepare'
            has made (its hazy images), or a video; - reads a photo from standard input.
        output: Where to write. A folder; for a single photo or video, also the file; for a photo
            also - for standard output.
        checkpoint: A trained network: ktdn_small, ktdn_tiny or a file. The two ship with the
            package; a file is a KTDN from any training program, .pth or .safetensors, or the .onnx
            that 'ktdn export' made of one, run without torch.
        strength: How much of the network's change to apply, 0 to 2. 0.7 leaves some of the haze,
            more than 1 exaggerates.
        compare: Write NAME_compare.png too: hazy | dehazed (| clear, with --gt) at full size.
        gt: Clear images, the ground truth. A folder or store; they have the hazy ones' names, also
            in one folder with them (01_hazy.png, 01_GT.png). Prints a table of PSNR and SSIM on
            RGB, and writes it to OUT/metrics.csv. A store that is INPUT is measured by its own.
        split: Part of the dataset. What the table of --gt calls the images; stores know theirs.
        format: Format to write.
        quality: Quality of JPEG and WebP, 1 to 100.
        compression: Compression of PNG and TIFF, zlib's level: 0 (none) to 9 (smallest, slowest).
            The pixels are the same.
        codec: Codec of videos. All browsers play h264; hevc makes smaller files, slowly.
        crf: Constant rate factor of videos, 0 to 51. Less is better, and larger.
        smooth: Seconds over which the change of a video's frames is averaged. Against flicker; 0
            dehazes each frame by itself.
        raw: Size of raw frames on standard input. 8 bit RGB, as ffmpeg's rawvideo in rgb24; they
            go to standard output.
        workers: Number of workers. Threads that read and write photos while the network computes;
            0 does one thing after another.
        shard: Do one share of the photos, such as 3/16. For array jobs; the shares may run at the
            same time, on any machines, and into one folder.
        max_pixels: Pixels of the largest photo that is read. Set it for files of strangers, of
            which a small one may hold pixels for all memory.
    """
    from ktdn_plugin.dehaze import dehaze_with

    dehaze_with(
        checkpoint,
        inputs,
        output,
        network=vars(network),
        strength=strength,
        ground_truth=gt,
        split=split,
        compare=compare,
        form=format,
        quality=quality,
        compression=compression,
        codec=codec,
        crf=crf,
        smooth=smooth,
        raw=raw,
        workers=workers,
        shard=shard,
        max_pixels=max_pixels,
        overwrite=overwrite,
        stop_at_errors=debug,
    )
