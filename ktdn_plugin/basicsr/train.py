"""``basicsr train``: BasicSR's models, datasets and log in a loop that counts iterations.

BasicSR's own loop counts epochs: it stops short where incomplete batches are dropped, and trains
nothing at all where no batch is ever full.
"""

from __future__ import annotations

import logging
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ktdn_plugin.basicsr import launch
from ktdn_plugin.basicsr.options import Options
from ktdn_plugin.basicsr.prepare import explained, prepare, validate
from ktdn_plugin.basicsr.resume import State
from ktdn_plugin.basicsr.run_folder import (
    copy_options,
    make_folders,
    open_log_file,
    start_log,
)
from ktdn_plugin.errors import KTDNError


def train_pipeline(arguments: Namespace, root: Path) -> None:
    """Trains as the options say.

    Args:
        arguments: The command's flags.
        root: The run goes to ``experiments/NAME`` in it.

    Raises:
        KTDNError: If options, data or checkpoints are wrong, or a file turns out to be broken.
    """
    opt, state = prepare(arguments, root, is_train=True)
    # Read now: the file may lie in an earlier run's folder, which is about to be renamed.
    text = arguments.opt.read_text(encoding="utf-8")
    try:
        logger = start_log(opt)
        with explained(str(arguments.opt)):
            loader, sampler, val_loaders, model = _build(opt)
            if state is not None:
                _resume(model, state, opt["path"]["resume_state"])
        # Only now, when all that the options name is there and fits.
        make_folders(opt, resumed=state is not None)
        copy_options(opt, arguments.opt, text)
        open_log_file(opt, "train")
        _train(opt, state, loader, sampler, val_loaders, model, logger)
    finally:
        launch.leave()


def _build(opt: Options) -> tuple[Any, Any, list[Any], Any]:
    from basicsr.models import build_model

    from ktdn_plugin.basicsr.loaders import build_eval_loader, build_train_loader

    loader, sampler = build_train_loader(opt)
    val_loaders = [
        build_eval_loader(dataset)
        for dataset in opt["datasets"].values()
        if dataset["phase"] == "val" and opt.get("val") is not None
    ]
    return loader, sampler, val_loaders, build_model(opt)


def _resume(model: Any, state: State, file: str) -> None:
    try:
        model.resume_training(state)
        for optimizer in model.optimizers:
            # torch takes another optimizer's settings in, and misses its own at the first step.
            missing = set(optimizer.defaults) - set(optimizer.param_groups[0])
            if missing:
                raise KeyError(", ".join(sorted(missing)))
    except (KeyError, ValueError, AssertionError) as error:
        raise KTDNError(
            f"{file}: the state of a training with another optimizer or scheduler ({error}); "
            "change them back, or start from its network by path.pretrain_network_g"
        ) from error


def _train(
    opt: Options,
    state: State | None,
    loader: Any,
    sampler: Any,
    val_loaders: list[Any],
    model: Any,
    logger: logging.Logger,
) -> None:
    from basicsr.train import init_tb_loggers

    tb_logger = init_tb_loggers(opt)
    total = opt["train"]["total_iter"]
    logger.info(
        f"{len(loader.dataset)} training images, {len(loader)} iterations an epoch, "
        f"{total} iterations in all; validation: {sum(map(len, val_loaders))} images."
    )
    epoch, iteration = (state["epoch"], state["iter"]) if state else (0, 0)
    if state is not None:
        logger.info(f"Resuming from {opt['path']['resume_state']}: {iteration} of {total} done.")

    run = _Run(opt, model, val_loaders, tb_logger, iteration)
    batches = _endless(opt, loader, sampler, epoch)
    with ExitStack() as stack:
        # On a terminal a bar; in a file the log's lines, which have the time left as well.
        shown = opt["rank"] == 0 and sys.stderr.isatty()
        if shown:
            stack.enter_context(logging_redirect_tqdm(loggers=[logger]))
        bar = stack.enter_context(
            tqdm(total=total, initial=iteration, unit="it", disable=not shown, dynamic_ncols=True)
        )
        for current in range(iteration + 1, total + 1):
            run.iterate(current, batches)
            bar.update()
    logger.info("End of training: saving the latest networks.")
    model.save(epoch=-1, current_iter=-1)
    run.finish(total)


class _Run:
    """One training under way: iterations with their log lines, checkpoints and validations."""

    def __init__(
        self, opt: Options, model: Any, val_loaders: list[Any], tb_logger: Any, start: int
    ) -> None:
        from basicsr.utils import AvgTimer, MessageLogger

        self.opt = opt
        self.model = model
        self.val_loaders = val_loaders
        self.tb_logger = tb_logger
        self.log = MessageLogger(opt, start, tb_logger)
        self.iter_timer, self.data_timer = AvgTimer(), AvgTimer()
        self.validated = -1

    def iterate(self, iteration: int, batches: Iterator[tuple[int, Any]]) -> None:
        self.data_timer.start()
        self.iter_timer.start()
        epoch, batch = next(batches)
        self.data_timer.record()
        model, opt = self.model, self.opt
        model.update_learning_rate(iteration, warmup_iter=opt["train"].get("warmup_iter", -1))
        model.feed_data(batch)
        model.optimize_parameters(iteration)
        self.iter_timer.record()
        if iteration % opt["logger"]["print_freq"] == 0:
            self._write_log(epoch, iteration)
        if iteration % opt["logger"]["save_checkpoint_freq"] == 0:
            model.save(epoch, iteration)
        if opt.get("val") is not None and iteration % opt["val"].get("val_freq", 5000) == 0:
            self._validate(iteration)

    def finish(self, iteration: int) -> None:
        if self.validated != iteration:
            self._validate(iteration)
        if self.tb_logger:
            self.tb_logger.close()

    def _write_log(self, epoch: int, iteration: int) -> None:
        self.log(
            {
                "epoch": epoch,
                "iter": iteration,
                "lrs": self.model.get_current_learning_rate(),
                "time": self.iter_timer.get_avg_time(),
                "data_time": self.data_timer.get_avg_time(),
                **self.model.get_current_log(),
            }
        )

    def _validate(self, iteration: int) -> None:
        for loader in self.val_loaders:
            validate(self.model, loader, iteration, self.tb_logger)
        self.validated = iteration


def _endless(opt: Options, loader: Any, sampler: Any, epoch: int) -> Iterator[tuple[int, Any]]:
    from ktdn_plugin.basicsr.loaders import read_batches

    while True:
        sampler.set_epoch(epoch)
        for batch in read_batches(loader, opt):
            yield epoch, batch
        epoch += 1
