"""``ktdn evaluate``: compare methods by their images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from ktdn_plugin.commands.flags import (
    GT,
    NETWORK,
    OUTPUT,
    AllowIncomplete,
    Network,
    Overwrite,
    valued,
)


def evaluate(
    results: Annotated[Sequence[str], Parameter(name="RESULTS")] = (),
    /,
    *,
    gt: Annotated[Path, GT],
    hazy: Annotated[Path | None, Parameter(show_default="those beside --gt")] = None,
    baseline: Sequence[Literal["hazy", "dcp"]] = (),
    checkpoint: Annotated[Sequence[str], valued("NAME=FILE", consume_multiple=False)] = (),
    dataset: Annotated[str | None, valued("NAME")] = None,
    split: Annotated[str | None, valued("NAME")] = None,
    allow_incomplete: AllowIncomplete = False,
    y: bool = False,
    metrics: Annotated[Sequence[str], valued("METRIC...")] = (),
    per_image: bool = False,
    output: Annotated[Path, OUTPUT] = Path("evaluation.csv"),
    save: Path | None = None,
    overwrite: Overwrite = False,
    shard: Annotated[
        str | None, valued("N/COUNT", show_default="all; torchrun's and srun's are detected")
    ] = None,
    network: Network = NETWORK,
) -> int:
    """Compare methods' results with ground truth, in one table.

    PSNR and SSIM on RGB at full resolution, and other metrics, of any methods'
    images against ground truth, per image and mean.

    Images pair with ground truth by name. Equal names pair; else the name must
    begin with the ground truth's, or with its hazy image's, with or without
    what distinguishes these (_GT, _hazy, ...), followed by '_', '-', '.' or a
    space and then no digit: 01, 01_hazy, 01_dehazed and 01_hazy_ktdn_test
    pair with 01_GT.png, 01_2 and 011 do not. No ground truth may be left
    without an image, or have two; images without ground truth are ignored, and
    counted.

    Built-in methods start from the hazy images: those beside the
    ground truth (in a store, or a folder with hazy and clear ones in it), or
    --hazy.

    --metrics takes ciede2000; ssim_pooled, SSIM as DehazeFormer, FocalNet and
    ConvIR measure it; lpips and dists (pip install torchmetrics); and what
    pyiqa (pip install pyiqa) has: niqe, musiq, ... Its licence (PolyForm
    Noncommercial) allows non-commercial use only. Networks among them download
    their weights.

    Figures are recorded in .ktdn-evaluate beside the table as they are measured:
    after an interruption, the same command continues.

    exit code: 0; 1 if anything could not be measured, which is reported after the
    rest is measured, or if nothing can be compared; 2 for unusable arguments.

    examples:
      ktdn evaluate results/NAME/visualization --gt val/clear
      ktdn evaluate ours=results/a theirs=results/b --gt nh-haze-val \\
          --baseline hazy dcp -o table.csv
      ktdn evaluate --gt NH-HAZE --dataset nh-haze --split challenge-val \\
          --baseline hazy dcp --save dehazed \\
          --checkpoint ktdn=experiments/NAME/models/net_g_latest.pth

    Args:
        results: A method's images, in a folder or store: FOLDER, or NAME=FOLDER to name the
            method.
        gt: Clear images, the ground truth. A folder or store, or a folder with hazy and clear
            images in it.
        hazy: Hazy images. A folder or store.
        baseline: Built-in methods: the hazy images unchanged, the dark channel prior.
        checkpoint: A trained network: ktdn_small, ktdn_tiny or a file. It is run and compared; may
            be given several times.
        dataset: How the images are laid out: nh-haze, nh-haze2, o-haze, i-haze, dense-haze,
            reside-its, reside-ots, sots-indoor, sots-outdoor or folders. Stores know
            theirs; clear images alone need none.
        split: Part of the dataset. For folders, what to call the images; stores know theirs.
        y: PSNR and SSIM on the Y channel too: psnr_y, ssim_y.
        metrics: More metrics: ciede2000, ssim_pooled, lpips, dists; from pyiqa (licence:
            non-commercial) niqe, ...
        per_image: Print each image's values too.
        output: Where to write. A table, .csv, with a Markdown version beside it. Both replace
            existing ones.
        save: Folder to save the images of dcp and of checkpoints to, as METHOD/IMAGE.png.
        shard: Do one share of the photos, such as 3/16. For array jobs; the shares may run at the
            same time, on any machines. The last one writes the table.
    """
    from ktdn_plugin.evaluation import evaluate as compare

    evaluation = compare(
        results,
        gt,
        output,
        hazy=hazy,
        baselines=baseline,
        checkpoints=checkpoint,
        dataset=dataset,
        split=split,
        allow_incomplete=allow_incomplete,
        y=y,
        metrics=metrics,
        per_image=per_image,
        save=save,
        overwrite=overwrite,
        shard=shard,
        **vars(network),
    )
    return int(bool(evaluation.problems))
