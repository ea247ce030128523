"""Validation and testing, with the images split among processes.

The figures equal those of a single process, digit for digit: each image is measured as in BasicSR,
and the values are summed in image order.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import torch
from basicsr.metrics import calculate_metric
from basicsr.models.sr_model import SRModel
from basicsr.utils import get_root_logger, tensor2img
from numpy.typing import NDArray
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from tqdm import tqdm

from ktdn_plugin.basicsr.attention import attention_heatmap, record_attention
from ktdn_plugin.errors import describe_error, error_context, is_out_of_memory
from ktdn_plugin.metrics import describe_missing
from ktdn_plugin.other_networks import size_failures_as_errors
from ktdn_plugin.photos import write_rgb
from ktdn_plugin.sheets import comparison_sheet
from ktdn_plugin.training import distributed

Figures = dict[str, float]
Failure = tuple[str, str, str]
"""A metric, the image for which it has no value, and the reason."""


def validate(model: Any, loader: DataLoader, current_iter: int | str, tb_logger: Any) -> Figures:
    """Runs a model over a set's images, saves and measures the results.

    Args:
        model: A BasicSR model.
        loader: The set's loader, for this process's images.
        current_iter: Iteration, or whatever else names this validation.
        tb_logger: Tensorboard writer, in the first process, or None.

    Returns:
        Mean of each metric over all processes' images; empty if nothing is measured.
    """
    options: Any = loader.dataset
    name = options.opt["name"]
    metrics = model.opt["val"].get("metrics") or {}
    if metrics and options.opt["type"] == "SingleImageDataset":
        get_root_logger().info(
            f"{name} has no clear images: its results are saved but not measured."
        )
        metrics = {}
    networks = (getattr(model, name, None) for name in ("net_g", "net_g_ema"))
    distributed.share_buffers(*(one for one in networks if isinstance(one, nn.Module)))
    with _bare_networks(model):
        if type(model).nondist_validation is not SRModel.nondist_validation:
            return _validate_its_own_way(model, loader, current_iter, tb_logger, metrics)
        with distributed.fail_on_all_ranks():
            rows, failures = _run(model, loader, current_iter, tb_logger, metrics)
    _report_failures(name, distributed.gather(failures), len(loader.dataset))  # type: ignore[arg-type]
    means = _means(rows, metrics)
    if means:
        _keep_best(model, name, means, current_iter)
        model.metric_results = means
        _report(model, loader, means, current_iter, tb_logger)
    return means


def _report(
    model: Any, loader: DataLoader, means: Figures, current_iter: int | str, tb_logger: Any
) -> None:
    """Logs figures as BasicSR does, with their split, as different splits do not compare."""
    dataset: Any = loader.dataset
    name = dataset.opt["name"]
    lines = [f"Validation {name}, {described_split(dataset)}, {len(dataset)} images"]
    for metric, value in means.items():
        line = f"\t # {metric}: {value:.4f}"
        if hasattr(model, "best_metric_results"):
            best = model.best_metric_results[name][metric]
            if not math.isfinite(best["val"]):  # there never was a finite value
                lines.append(line)
                continue
            line += f"\tBest: {best['val']:.4f} @ {best['iter']} iter"
        lines.append(line)
        if tb_logger:
            tb_logger.add_scalar(f"metrics/{name}/{metric}", value, current_iter)
    get_root_logger().info("\n".join(lines) + "\n")


def described_split(dataset: Any) -> str:
    """Names the split of a dataset, or says that it has no name."""
    split = split_of(dataset)
    return f"split {split}" if split else "unnamed split"


def identity_of(dataset: Any) -> dict[str, str]:
    """Returns a dataset's identity for its figures: its split, and a pixel digest if known."""
    fingerprint = str(getattr(dataset, "fingerprint", None) or "")
    return {"split": split_of(dataset), "fingerprint": fingerprint}


def split_of(dataset: Any) -> str:
    """Returns the name of a dataset's split, empty if it has none."""
    return str(getattr(dataset, "split", None) or "")


def _run(
    model: Any, loader: DataLoader, current_iter: int | str, tb_logger: Any, metrics: dict[str, Any]
) -> tuple[list[tuple[int, list[float]]], list[Failure]]:
    dataset: Any = loader.dataset
    name = dataset.opt["name"]
    rows, failures = [], []
    for index, data in _with_bar(loader, model.opt, f"validating {name}"):
        draw = tb_logger if index == 0 else None
        network = getattr(model, "net_g_ema", model.net_g)
        model.feed_data(data)
        with (
            record_attention(network if draw else nn.Module()) as maps,
            size_failures_as_errors(network, data["lq"], data["lq_path"][0]),
        ):
            model.test()
        visuals = model.get_current_visuals()
        images = {"img": tensor2img([visuals["result"]])}
        if "gt" in visuals:
            images["img2"] = tensor2img([visuals["gt"]])
            del model.gt
        if draw:
            sheet = _sheet(model, visuals["lq"], images, maps)
            draw.add_image(f"images/{name}", sheet, current_iter, dataformats="HWC")
        del model.lq, model.output
        if model.device.type == "cuda":
            torch.cuda.empty_cache()  # photographs of different sizes fragment memory
        if model.opt["val"]["save_img"]:
            # BasicSR's own writer leaves truncated files behind.
            write_rgb(_result_path(model.opt, data, name, current_iter), _as_rgb(images["img"]))
        values = []
        for metric, options in metrics.items():
            value, reason = _measure(images, options)
            values.append(value)
            if math.isnan(value):
                failures.append((metric, str(data["lq_path"][0]), reason))
        rows.append((index, values))
    return rows, failures


def _measure(images: dict[str, Any], options: dict[str, Any]) -> tuple[float, str]:
    """Returns a metric's value on an image, or NaN and the reason, so validation continues."""
    try:
        return float(calculate_metric(images, options)), "it returned NaN"
    except Exception as error:  # any metric may fail: NIQE's algebra does on flat images
        if is_out_of_memory(error):
            raise
        return float("nan"), describe_error(error)


def _report_failures(name: str, failures: list[list[Failure]], images: int) -> None:
    """Logs one line for each metric that could not be computed for every image."""
    by_metric: dict[str, list[tuple[str, str]]] = {}
    for metric, image, reason in (one for part in failures for one in part):
        by_metric.setdefault(metric, []).append((image, reason))
    for metric, found in by_metric.items():
        line = describe_missing(f"val.metrics.{metric}: {name}", found, images)
        get_root_logger().warning(f"{line}.")


def _result_path(opt: dict[str, Any], data: Any, name: str, current_iter: int | str) -> Path:
    stem = Path(data["lq_path"][0]).stem
    folder = Path(opt["path"]["visualization"])
    if opt["is_train"]:
        return folder / stem / f"{stem}_{current_iter}.png"
    return folder / name / f"{stem}_{opt['val']['suffix'] or opt['name']}.png"


def _as_rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Converts an image from BasicSR's format, BGR or grey, to RGB."""
    order = cv2.COLOR_GRAY2RGB if image.ndim == 2 else cv2.COLOR_BGR2RGB
    return np.asarray(cv2.cvtColor(image, order), np.uint8)


def _with_bar(loader: DataLoader, opt: dict[str, Any], text: str) -> Iterator[tuple[int, Any]]:
    """Yields each image with its number in the whole set, showing a progress bar."""
    shown = opt["rank"] == 0 and (sys.stderr.isatty() or (opt.get("val") or {}).get("pbar", False))
    bar = tqdm(loader, desc=text, unit="image", disable=not shown, leave=False, dynamic_ncols=True)
    return zip(loader.sampler, bar, strict=True)


def _means(rows: list[tuple[int, list[float]]], metrics: dict[str, Any]) -> Figures:
    everything = sorted(row for part in distributed.gather(rows) for row in part)
    if not metrics or not everything:
        return {}
    columns = zip(*(values for _, values in everything), strict=True)
    return {
        metric: _mean([value for value in column if not math.isnan(value)])
        for metric, column in zip(metrics, columns, strict=True)
    }


def _mean(values: list[float]) -> float:
    return sum(values, 0.0) / len(values) if values else float("nan")


def _keep_best(model: Any, name: str, means: Figures, current_iter: int | str) -> None:
    earlier = getattr(model, "best_metric_results", {}).pop(name, {})
    model._initialize_best_metric_results(name)
    # Keep the earlier best figures of metrics that still exist.
    kept = {metric: earlier[metric] for metric in means if metric in earlier}
    model.best_metric_results[name].update(kept)
    for metric, value in means.items():
        if math.isfinite(value):
            model._update_best_metric_result(name, metric, value, current_iter)


def _validate_its_own_way(
    model: Any, loader: DataLoader, current_iter: int | str, tb_logger: Any, metrics: dict[str, Any]
) -> Figures:
    """Runs another model's own validation, in one process only, while the others wait."""
    options, dataset = model.opt["val"], cast(Any, loader.dataset)
    given = options.get("metrics")
    with distributed.fail_on_all_ranks():
        if model.opt["rank"] == 0:
            options["metrics"] = metrics or None
            whole = DataLoader(dataset, batch_size=1)
            with error_context(f"{type(model).__name__}'s validation on {dataset.opt['name']}"):
                model.nondist_validation(whole, current_iter, tb_logger, options["save_img"])
            options["metrics"] = given
    results = getattr(model, "metric_results", {}) if metrics else {}
    return dict(distributed.gather({name: float(value) for name, value in results.items()})[0])


def measure_reconstruction(
    network: nn.Module, loader: DataLoader, opt: dict[str, Any], device: torch.device
) -> float:
    """Measures how well a teacher reproduces the clear images of a validation set.

    Args:
        network: The whole teacher.
        loader: The set's loader, for this process's images.
        opt: The run's options.
        device: The network's device.

    Returns:
        Mean PSNR in dB over all processes' images, on RGB at full size.
    """
    from basicsr.metrics import calculate_psnr

    rows = []
    name = loader.dataset.opt["name"]  # type: ignore[attr-defined]
    with distributed.fail_on_all_ranks(), torch.no_grad():
        for index, data in _with_bar(loader, opt, f"teacher on {name}"):
            clear = data["gt"].to(device)
            with size_failures_as_errors(network, clear, data["gt_path"][0]):
                image = network(clear)
            images = [tensor2img([one.cpu()]) for one in (image, clear)]
            rows.append((index, [float(calculate_psnr(*images, crop_border=0))]))
    return _means(rows, {"psnr": None}).get("psnr", float("nan"))


def _sheet(model: Any, lq: Any, images: dict[str, Any], maps: list[Any]) -> Any:
    """Draws hazy | dehazed | clear | attention, for the teacher with the clear image only once."""
    hazy = tensor2img([lq], rgb2bgr=False)
    cells = {"hazy": (hazy, ""), "dehazed": (images["img"][..., ::-1], "")}
    if "img2" in images:
        cells["clear"] = (images["img2"][..., ::-1], "")
    if "img2" in images and np.array_equal(hazy, images["img2"][..., ::-1]):
        cells = {"clear": cells["clear"], "reconstructed": cells["dehazed"]}
    if maps:
        shown = maps[-1][0, 0]
        caption = f"{float(shown.min()):.3f} to {float(shown.max()):.3f}"
        cells["pixel attention"] = (attention_heatmap(shown, *hazy.shape[:2]), caption)
    row = [(np.ascontiguousarray(image), caption) for image, caption in cells.values()]
    return comparison_sheet([row], list(cells))


@contextmanager
def _bare_networks(model: Any) -> Iterator[None]:
    """Temporarily unwraps networks and disables their compiled code.

    A wrapped network would wait for the other processes, which may have one image less; compiled
    code would be recompiled for each image size.
    """
    wrapped = {
        name: item
        for name, item in vars(model).items()
        if isinstance(item, DistributedDataParallel)
    }
    networks = [item for item in vars(model).values() if isinstance(item, nn.Module)]
    compiled = {}
    for network in networks:
        for module in network.modules():
            if module._compiled_call_impl is not None:
                compiled[module] = module._compiled_call_impl
                module._compiled_call_impl = None
    try:
        for name, item in wrapped.items():
            setattr(model, name, item.module)
        yield
    finally:
        for name, item in wrapped.items():
            setattr(model, name, item)
        for module, implementation in compiled.items():
            module._compiled_call_impl = implementation
