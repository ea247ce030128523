"""``basicsr test``: runs a checkpoint over whole images, saves and measures the results."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ktdn_plugin.basicsr.options import Options
from ktdn_plugin.basicsr.records import describe_run, described_sets
from ktdn_plugin.basicsr.run_folder import make_folders, open_log_file, start_log
from ktdn_plugin.basicsr.startup import read_options_text, start_up
from ktdn_plugin.csv_files import write_csv
from ktdn_plugin.errors import error_context
from ktdn_plugin.training import distributed
from ktdn_plugin.training.run_log import RunLog


def test_pipeline(arguments: SimpleNamespace, root: Path) -> None:
    """Tests according to the options.

    Args:
        arguments: The command's flags.
        root: Results go to ``results/NAME`` in it.

    Raises:
        KTDNError: If options, data or checkpoint are wrong.
    """
    failed = True
    try:
        with distributed.peer_failures_as_errors():
            text = read_options_text(arguments)
            opt, _ = start_up(arguments, text, root, is_train=False)
            opt.setdefault("val", {"save_img": True, "suffix": ""})
            _test(opt, str(arguments.opt))
        failed = False
    finally:
        distributed.leave(failed)


def _test(opt: Options, source: str) -> None:
    from ktdn_plugin.basicsr.validation import described_split, identity_of, validate

    logger = start_log(opt)
    with error_context(source):
        loaders, model = _build(opt)
    with distributed.fail_on_all_ranks():
        make_folders(opt)
        open_log_file(opt, "test")
        data = {"test": described_sets(loader.dataset for loader in loaders)}
        run_log = RunLog(opt["path"]["results_root"], writes=opt["rank"] == 0)
        describe_run(run_log, opt, "test", data)
    rows = []
    for loader in loaders:
        dataset = loader.dataset
        name = dataset.opt["name"]
        logger.info(f"Testing {name}: {len(dataset)} images ({described_split(dataset)}).")
        figures = validate(model, loader, opt["name"], None)
        known = {metric: value for metric, value in figures.items() if not math.isnan(value)}
        rows.append({"set": name, **identity_of(dataset), "images": len(dataset), **known})
    with distributed.fail_on_all_ranks():
        if opt["rank"] == 0:
            _write_table(opt, rows)
    if opt["val"]["save_img"]:
        logger.info(f"Results: {opt['path']['visualization']}")


def _write_table(opt: Options, rows: list[dict[str, Any]]) -> None:
    """Writes ``metrics.csv``, giving the split along with each set's figures."""
    path = Path(opt["path"]["results_root"]) / "metrics.csv"
    checkpoint = opt["path"].get("pretrain_network_g")
    columns = [
        "set",
        "split",
        "fingerprint",
        "images",
        *(opt["val"].get("metrics") or {}),
        "checkpoint",
    ]
    found: list[dict[str, Any]] = [{**row, "checkpoint": checkpoint or ""} for row in rows]
    write_csv(path, [columns, *([row.get(name, "") for name in columns] for row in found)])


def _build(opt: Options) -> tuple[list[Any], Any]:
    from basicsr.models import build_model

    from ktdn_plugin.basicsr.loaders import build_eval_loader
    from ktdn_plugin.basicsr.other_networks import naming_networks

    sets = [dataset for _, dataset in sorted(opt["datasets"].items())]
    loaders = [
        build_eval_loader(dataset, opt["rank"], opt["world_size"])
        for dataset in sets
        if dataset["phase"] != "train"
    ]
    with naming_networks(opt):
        return loaders, build_model(opt)
