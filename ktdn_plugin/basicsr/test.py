"""``basicsr test``: runs a checkpoint over whole images, saves and measures the results."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from ktdn_plugin.basicsr import launch
from ktdn_plugin.basicsr.prepare import make_folders, prepare, start_log, validate


def test_pipeline(arguments: Namespace, root: Path) -> None:
    """Tests as the options say.

    Args:
        arguments: The command's flags.
        root: Results go to ``results/NAME`` in it.

    Raises:
        KTDNError: If options, data or checkpoint are wrong.
    """
    opt = prepare(arguments, root, is_train=False)
    opt["val"] = {"save_img": True, "suffix": None, **(opt.get("val") or {})}
    try:
        _test(opt)
    finally:
        launch.leave()


def _test(opt: dict) -> None:
    from basicsr.models import build_model

    from ktdn_plugin.basicsr.loaders import build_eval_loader

    make_folders(opt)
    logger = start_log(opt, "test")
    sets = [dataset for phase, dataset in sorted(opt["datasets"].items()) if phase != "train"]
    loaders = [build_eval_loader(dataset) for dataset in sets]
    model = build_model(opt)
    for loader in loaders:
        name = loader.dataset.opt["name"]  # type: ignore[attr-defined]
        logger.info(f"Testing {name}: {len(loader)} images.")
        validate(model, loader, opt["name"])
    if opt["val"]["save_img"]:
        logger.info(f"Results: {opt['path']['visualization']}")
