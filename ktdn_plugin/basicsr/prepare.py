"""From a command's flags to checked options: what training and testing have in common."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from ktdn_plugin.basicsr import launch, register
from ktdn_plugin.basicsr.check_names import check_names, check_step
from ktdn_plugin.basicsr.check_structure import check_structure
from ktdn_plugin.basicsr.options import (
    Options,
    apply_overrides,
    load_options,
    normalize,
    raise_problems,
    set_debug,
    set_defaults,
    set_folders,
    skip_needless_downloads,
)
from ktdn_plugin.basicsr.resume import State, find_resume_state
from ktdn_plugin.basicsr.run_folder import check_folder
from ktdn_plugin.errors import KTDNError


def prepare(arguments: Namespace, root: Path, is_train: bool) -> tuple[Options, State | None]:
    """Loads, completes and checks options, joins the other processes, seeds.

    Nothing has been written when this raises.

    Args:
        arguments: The command's flags, see :func:`ktdn_plugin.cli.add_basicsr_flags`.
        root: The project's root; runs go to ``experiments`` and ``results`` in it.
        is_train: Whether to train or to test.

    Returns:
        The options, and the state to resume from if there is one.

    Raises:
        KTDNError: One line for each problem.
    """
    source = str(arguments.opt)
    opt = load_options(source)
    apply_overrides(opt, arguments.force_yml or [])
    normalize(opt)
    raise_problems(source, check_structure(opt, is_train))
    register()
    set_defaults(opt)
    if arguments.debug:
        set_debug(opt)
    set_folders(opt, root, is_train)
    opt["is_train"] = is_train
    opt["root_path"] = str(root)
    opt["auto_resume"] = arguments.auto_resume
    state = find_resume_state(opt) if is_train else None
    skip_needless_downloads(opt)
    # Imported late: it reads data through BasicSR, which register() has made importable.
    from ktdn_plugin.basicsr.check_files import check_files

    with explained(source):
        problems = check_names(opt, is_train)
        if not problems and is_train:
            problems = check_step(opt)
        problems += check_files(opt, is_train)
        if state is None:
            problems += check_folder(opt)
        raise_problems(source, problems)

    from basicsr.utils import set_random_seed
    from basicsr.utils.dist_util import get_dist_info

    opt["dist"] = launch.join(arguments.launcher, use_gpu=opt["num_gpu"] > 0)
    opt["rank"], opt["world_size"] = get_dist_info()
    set_random_seed(opt["manual_seed"] + opt["rank"])
    torch.backends.cudnn.benchmark = True
    return opt, state


@contextmanager
def explained(source: str) -> Iterator[None]:
    """Turns what options' values lead BasicSR and torch to into one line that names the file.

    Raises:
        KTDNError: In place of any other error that a value of the wrong kind may cause.
    """
    try:
        yield
    except (
        TypeError,
        ValueError,
        AttributeError,
        KeyError,
        AssertionError,
        ArithmeticError,
    ) as error:
        raise KTDNError(
            f"{source}: these options cannot be used ({type(error).__name__}: {error}); --debug "
            "shows where"
        ) from error


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
        if isinstance(item, DistributedDataParallel)
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
