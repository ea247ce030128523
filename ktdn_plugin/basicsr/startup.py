"""Turns a command's flags into checked options, for both training and testing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import torch

from ktdn_plugin import process_rank
from ktdn_plugin.allocator import keep_freed_memory
from ktdn_plugin.basicsr import register
from ktdn_plugin.basicsr.compat import improve_every_model
from ktdn_plugin.basicsr.options import Options
from ktdn_plugin.basicsr.options.loading import (
    apply_overrides,
    check_and_complete,
    parse_options,
    raise_problems,
    set_debug,
    set_folders,
    skip_needless_downloads,
)
from ktdn_plugin.basicsr.resume import State, agree, find_resume_state
from ktdn_plugin.basicsr.run_folder import check_folder
from ktdn_plugin.errors import error_context
from ktdn_plugin.text_files import LARGEST_YAML, read_text
from ktdn_plugin.training import distributed


def read_options_text(arguments: SimpleNamespace) -> str:
    """Reads the options' text once, as a shell's ``<(command)`` cannot be read twice.

    The file may also be in an earlier run's folder, which is renamed later.

    Raises:
        KTDNError: If it cannot be read.
    """
    return read_text(arguments.opt, LARGEST_YAML, may_be_pipe=True)


def start_up(
    arguments: SimpleNamespace, text: str, root: Path, is_train: bool
) -> tuple[Options, State | None]:
    """Parses, completes and checks options, joins the other processes, and seeds.

    If this raises, nothing has been written.

    Args:
        arguments: The command's flags, see :mod:`ktdn_plugin.commands.train`.
        text: The options' text, see :func:`read_options_text`.
        root: The project's root; runs go to ``experiments`` and ``results`` in it.
        is_train: Whether to train or to test.

    Returns:
        The options, and the state to resume from if there is one.

    Raises:
        KTDNError: With one line for each problem.
    """
    source = str(arguments.opt)
    opt = parse_options(text, source)
    apply_overrides(opt, arguments.force_yml or [])
    check_and_complete(opt, source, is_train)
    register()
    # This process is ours, so BasicSR's own models get the improvements too.
    improve_every_model()
    if arguments.debug:
        set_debug(opt)
    set_folders(opt, root, is_train)
    opt["is_train"] = is_train
    opt["root_path"] = str(root)
    # A launcher that restarts a run wants it to continue.
    restarted = process_rank.variable_as_number("TORCHELASTIC_RESTART_COUNT", 0) > 0
    opt["auto_resume"] = arguments.auto_resume or (restarted and is_train)

    # Before checking files: a host that lacks one must not keep the others waiting.
    place = process_rank.detect_rank(arguments.launcher)
    opt["world_size"] = place.world_size if place else 1
    opt["rank"] = place.rank if place else 0
    timeout = opt["dist_params"]["timeout"]
    opt["dist"] = distributed.join(place, use_gpu=opt["num_gpu"] > 0, timeout=timeout)
    with distributed.fail_on_all_ranks():
        state = find_resume_state(opt) if is_train else None
        skip_needless_downloads(opt)
        with error_context(source):
            _check(source, opt, state, is_train)
    agree(opt, state)

    from basicsr.utils import set_random_seed

    set_random_seed(opt["manual_seed"] + opt["rank"])
    torch.backends.cudnn.benchmark = True
    if is_train and not opt["num_gpu"]:
        keep_freed_memory()
    return opt, state


def _check(source: str, opt: Options, state: State | None, is_train: bool) -> None:
    # Imported late: these need BasicSR, which register() has made importable.
    from ktdn_plugin.basicsr.dry_run import dry_run
    from ktdn_plugin.basicsr.options.files import check_files

    problems = dry_run(opt, is_train) + check_files(opt, is_train)
    if state is None:
        problems += check_folder(opt)
    raise_problems(source, problems)
