"""``basicsr train``: BasicSR's models, datasets and log in a loop that counts iterations.

BasicSR's own loop counts epochs: it stops short where incomplete batches are dropped, and trains
nothing at all where no batch is ever full.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ktdn_plugin.basicsr import launch
from ktdn_plugin.basicsr.options import Options, skip_needless_downloads
from ktdn_plugin.basicsr.prepare import make_folders, prepare, start_log, validate
from ktdn_plugin.basicsr.resume import find_resume_state


def train_pipeline(arguments: Namespace, root: Path) -> None:
    """Trains as the options say.

    Args:
        arguments: The command's flags.
        root: The run goes to ``experiments/NAME`` in it.

    Raises:
        KTDNError: If options, data or checkpoints are wrong, or a file turns out to be broken.
    """
    opt = prepare(arguments, root, is_train=True)
    try:
        _train(opt, arguments)
    finally:
        launch.leave()


def _train(opt: Options, arguments: Namespace) -> None:
    from basicsr.models import build_model
    from basicsr.train import init_tb_loggers
    from basicsr.utils.options import copy_opt_file

    from ktdn_plugin.basicsr.loaders import build_eval_loader, build_train_loader

    state = find_resume_state(opt)
    skip_needless_downloads(opt)
    if state is None:
        make_folders(opt)
    copy_opt_file(arguments.opt, opt["path"]["experiments_root"])
    logger = start_log(opt, "train")
    tb_logger = init_tb_loggers(opt)

    loader, sampler = build_train_loader(opt)
    val_loaders = [
        build_eval_loader(dataset)
        for phase, dataset in opt["datasets"].items()
        if phase.startswith("val") and opt.get("val") is not None
    ]
    total = opt["train"]["total_iter"]
    logger.info(
        f"{len(loader.dataset)} training images, {len(loader)} iterations an epoch, "  # type: ignore[arg-type]
        f"{total} iterations in all; validation: {sum(map(len, val_loaders))} images."
    )
    model = build_model(opt)
    epoch, iteration = 0, 0
    if state is not None:
        model.resume_training(state)
        epoch, iteration = state["epoch"], state["iter"]
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
