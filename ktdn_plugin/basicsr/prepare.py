"""From a command's flags to checked options: what training and testing have in common."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ktdn_plugin import __version__
from ktdn_plugin.basicsr import launch, register
from ktdn_plugin.basicsr.check import check_names, check_step, check_structure
from ktdn_plugin.basicsr.options import (
    Options,
    apply_overrides,
    load_options,
    raise_problems,
    set_debug,
    set_defaults,
    set_folders,
    skip_needless_downloads,
)


def prepare(arguments: Namespace, root: Path, is_train: bool) -> Options:
    """Loads, completes and checks options, joins the other processes, seeds.

    Nothing has been written when this raises.

    Args:
        arguments: The command's flags, see :func:`ktdn_plugin.cli.add_basicsr_flags`.
        root: The project's root; runs go to ``experiments`` and ``results`` in it.
        is_train: Whether to train or to test.

    Raises:
        KTDNError: One line for each problem.
    """
    source = str(arguments.opt)
    opt = load_options(source)
    apply_overrides(opt, arguments.force_yml or [])
    raise_problems(source, check_structure(opt, is_train))
    register()
    set_defaults(opt)
    if arguments.debug:
        set_debug(opt)
    set_folders(opt, root, is_train)
    # Imported late: it reads data through BasicSR, which register() has made importable.
    from ktdn_plugin.basicsr.check_files import check_files

    problems = check_names(opt, is_train)
    if not problems and is_train:
        problems = check_step(opt)
    raise_problems(source, problems + check_files(opt, is_train))

    from basicsr.utils import set_random_seed
    from basicsr.utils.dist_util import get_dist_info

    opt["is_train"] = is_train
    opt["root_path"] = str(root)
    opt["auto_resume"] = arguments.auto_resume
    opt["dist"] = launch.join(arguments.launcher)
    opt["rank"], opt["world_size"] = get_dist_info()
    set_random_seed(opt["manual_seed"] + opt["rank"])
    skip_needless_downloads(opt)
    torch.backends.cudnn.benchmark = True
    return opt


def make_folders(opt: Options) -> None:
    """Makes the run's folders; BasicSR moves an earlier run's of the same name out of the way."""
    from basicsr.utils import make_exp_dirs, mkdir_and_rename

    folders = ("experiments_root", "results_root", "models", "training_states", "log")
    wanted = {key: opt["path"][key] for key in (*folders, "visualization") if key in opt["path"]}
    make_exp_dirs({"is_train": opt["is_train"], "path": wanted})
    if opt["is_train"] and opt["logger"]["use_tb_logger"] and opt["rank"] == 0:
        mkdir_and_rename(str(Path(opt["root_path"]) / "tb_logger" / opt["name"]))
    launch.wait_for_all()


def start_log(opt: Options, kind: str) -> Any:
    """Starts the run's log file and logs versions and options."""
    import basicsr
    from basicsr.utils import get_root_logger, get_time_str
    from basicsr.utils.options import dict2str

    file = Path(opt["path"]["log"]) / f"{kind}_{opt['name']}_{get_time_str()}.log"
    logger = get_root_logger(log_file=str(file))
    logger.info(
        f"ktdn-plugin {__version__}, BasicSR {basicsr.__version__}, torch {torch.__version__}, "
        f"{opt['world_size']} process(es), {opt['num_gpu'] or 'no'} GPU(s)"
    )
    logger.info(dict2str(opt))
    return logger


def validate(model: Any, loader: Any, current_iter: int | str, tb_logger: Any = None) -> None:
    """Runs a model's validation in the first process, the others wait.

    Args:
        model: A BasicSR model.
        loader: The validation set's loader.
        current_iter: Iteration, or what else names this validation.
        tb_logger: Tensorboard writer.
    """
    if model.opt["rank"] == 0:
        with _bare_networks(model), _without_needless_metrics(model, loader):
            model.nondist_validation(loader, current_iter, tb_logger, model.opt["val"]["save_img"])
    launch.wait_for_all()


@contextmanager
def _bare_networks(model: Any) -> Iterator[None]:
    """Takes networks out of their wrappers: a wrapped one waits for the other processes."""
    wrapped = {
        name: item
        for name, item in vars(model).items()
        if isinstance(item, nn.Module) and isinstance(item, DistributedDataParallel)
    }
    try:
        for name, item in wrapped.items():
            setattr(model, name, item.module)
        yield
    finally:
        for name, item in wrapped.items():
            setattr(model, name, item)


@contextmanager
def _without_needless_metrics(model: Any, loader: Any) -> Iterator[None]:
    """Measures nothing where a set has no clear images to measure against."""
    options = model.opt["val"]
    metrics = options.get("metrics")
    if metrics and loader.dataset.opt["type"] == "SingleImageDataset":
        from basicsr.utils import get_root_logger

        name = loader.dataset.opt["name"]
        get_root_logger().info(f"{name} has no clear images: its results are saved, not measured.")
        options["metrics"] = None
    try:
        yield
    finally:
        options["metrics"] = metrics
