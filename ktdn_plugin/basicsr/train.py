"""``basicsr train``: BasicSR's models and datasets in a loop that counts iterations.

BasicSR's own loop counts epochs: it stops early if incomplete batches are dropped, does not train
at all if no batch is ever full, and restarts an epoch's data on resuming.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ktdn_plugin.basicsr.options import Options
from ktdn_plugin.basicsr.provenance import Provenance
from ktdn_plugin.basicsr.records import Records, Stopwatch, describe_run, described_sets
from ktdn_plugin.basicsr.resume import State, bring_best, restore
from ktdn_plugin.basicsr.retention import keep_newest, save_best
from ktdn_plugin.basicsr.run_folder import (
    copy_options,
    make_folders,
    open_log_file,
    start_log,
)
from ktdn_plugin.basicsr.startup import read_options_text, start_up
from ktdn_plugin.data.order import seed_iteration
from ktdn_plugin.errors import KTDNError, NotFiniteError, PreemptedError, error_context
from ktdn_plugin.training import distributed
from ktdn_plugin.training.preemption import defer_signals

_logger = logging.getLogger("basicsr")


def train_pipeline(arguments: SimpleNamespace, root: Path) -> None:
    """Trains according to the options.

    Args:
        arguments: The command's flags.
        root: The run goes to ``experiments/NAME`` in it.

    Raises:
        KTDNError: If options, data or checkpoints are wrong, or a file turns out to be broken.
    """
    failed = True
    try:
        with distributed.peer_failures_as_errors():
            text = read_options_text(arguments)
            opt, state = start_up(arguments, text, root, is_train=True)
            start_log(opt)
            run = _Run(opt, text, state, str(arguments.opt))
            # Only now that everything the options name exists and fits.
            with distributed.fail_on_all_ranks():
                make_folders(opt, resumed=state is not None)
                copy_options(opt, arguments.opt, text)
                open_log_file(opt, "train")
                if state is not None:
                    bring_best(opt)
            from ktdn_plugin.data.workers import worker_failures_as_errors

            with worker_failures_as_errors():
                run.train()
        failed = False
    finally:
        distributed.leave(failed)


class _Run:
    """One training: everything is built up front, and nothing written before :meth:`train`."""

    def __init__(self, opt: Options, text: str, state: State | None, source: str) -> None:
        from basicsr.models import build_model

        from ktdn_plugin.basicsr.loaders import TrainingBatches, build_eval_loader
        from ktdn_plugin.basicsr.other_networks import naming_networks

        self.opt = opt
        self.start = state["iter"] if state else 0
        self.validated = state.get("progress", {}).get("validated", self.start) if state else 0
        with error_context(source), distributed.fail_on_all_ranks():
            self.batches = TrainingBatches(opt)
            self.val_loaders: list[Any] = [
                build_eval_loader(dataset, opt["rank"], opt["world_size"])
                for dataset in opt["datasets"].values()
                if dataset["phase"] == "val" and opt.get("val") is not None
            ]
        with error_context(source):
            with naming_networks(opt):
                self.model = build_model(opt)
            if state is not None:
                self.batches.start_at(restore(self.model, opt, state, self.progress()))
        datasets = [loader.dataset for loader in self.val_loaders]
        self.provenance = Provenance(opt, text, self.batches.dataset, datasets, state)
        self.model.provenance = self.provenance
        measured = () if state else self.val_loaders
        check_teacher = getattr(self.model, "check_teacher", None)
        self.teacher = check_teacher(measured) if check_teacher else []

    def progress(self) -> dict[str, int]:
        """Returns what a state must contain for training to continue exactly."""
        return {
            "samples": self.batches.taken,
            "images": len(self.batches.dataset),
            "batch": self.batches.per_iteration,
            "processes": self.opt["world_size"],
            "seed": self.opt["manual_seed"],
            "validated": self.validated,
        }

    def train(self) -> None:
        """Trains all remaining iterations."""
        opt, total = self.opt, self.opt["train"]["total_iter"]
        self.records = Records(opt, self.start, self.validated)
        data = {
            "train": described_sets([self.batches.dataset]),
            "val": described_sets(loader.dataset for loader in self.val_loaders),
        }
        stage = getattr(self.model, "STAGE", "")
        describe_run(self.records.run_log, opt, stage, data, self.start)
        self.records.teacher(self.teacher)
        self._introduce(total)
        self.watch = Stopwatch()
        if self.start and self.validated < self.start and self._is_due(self.start):
            self._validate(self.start)  # interrupted before or during this one
        with ExitStack() as stack:
            # A bar on a terminal; in a file, the log's lines have the time left too.
            shown = opt["rank"] == 0 and sys.stderr.isatty()
            if shown:
                stack.enter_context(logging_redirect_tqdm(loggers=[_logger]))
            bar = stack.enter_context(
                tqdm(
                    total=total,
                    initial=self.start,
                    unit="it",
                    disable=not shown,
                    dynamic_ncols=True,
                )
            )
            batches = iter(self.batches)
            self.signalled = stack.enter_context(defer_signals())
            for iteration in range(self.start + 1, total + 1):
                self._iterate(iteration, batches)
                bar.update()
            self._stop_if_signalled(total)  # in case a signal came in the last validation
        _logger.info("Training finished: saving the latest networks.")
        with distributed.fail_on_all_ranks():
            self.model.save(epoch=-1, current_iter=-1)
        if self.validated != total:
            self._validate(total)
        self.records.close()
        if self.batches.skipped:
            _logger.warning(f"{len(self.batches.skipped)} training images were skipped, see above.")

    def _introduce(self, total: int) -> None:
        from ktdn_plugin.basicsr.validation import described_split

        batches = self.batches
        _logger.info(
            f"{len(batches.dataset)} training images ({described_split(batches.dataset)}), "
            f"{batches.per_iteration} per iteration, {total} iterations in total."
        )
        for loader in self.val_loaders:
            dataset: Any = loader.dataset
            _logger.info(
                f"Validation on {dataset.opt['name']}: {len(dataset)} images "
                f"({described_split(dataset)})."
            )

    def _iterate(self, iteration: int, batches: Iterator[Any]) -> None:
        model, opt = self.model, self.opt
        self.watch.start()
        batch = next(batches)
        self.watch.data_is_here()
        before = _schedule(model)
        model.update_learning_rate(iteration, warmup_iter=opt["train"]["warmup_iter"])
        seed_iteration(opt["manual_seed"], iteration, opt["rank"])
        model.feed_data(batch)
        try:
            model.optimize_parameters(iteration)
        except NotFiniteError as error:
            # Nothing was learned from this batch: the state before it is intact.
            _restore_schedule(model, before)
            self.batches.taken -= self.batches.per_iteration
            raise self._stopped(iteration, error) from error
        self.watch.stop()
        self.provenance.iteration = iteration
        if iteration % opt["logger"]["print_freq"] == 0:
            self.records.training(
                self.batches.epoch,
                iteration,
                model.get_current_learning_rate(),
                model.get_current_log(),
                self.watch.read(),
                self.batches.per_iteration,
            )
        self._stop_if_signalled(iteration)
        if iteration % opt["logger"]["save_checkpoint_freq"] == 0:
            self._save(iteration)
        if self._is_due(iteration):
            self._validate(iteration)

    def _stop_if_signalled(self, iteration: int) -> None:
        number = self.signalled()
        if number:
            self._save(iteration)
            raise PreemptedError(number, iteration, "--auto_resume")

    def _stopped(self, iteration: int, error: KTDNError) -> KTDNError:
        saved = ""
        if iteration > 1:
            self._save(iteration - 1)
            saved = f"; --auto_resume resumes from the state of iteration {iteration - 1}"
        return KTDNError(
            f"iteration {iteration}: {error}; check these images, lower train.optim_g.lr, set "
            f"train.clip_grad, or use amp: bf16 or off{saved}"
        )

    def _save(self, iteration: int) -> None:
        self.model.progress = self.progress()
        with distributed.fail_on_all_ranks():
            self.model.save(self.batches.epoch, iteration)
            keep_newest(self.opt)

    def _is_due(self, iteration: int) -> bool:
        val = self.opt.get("val")
        return val is not None and iteration % val["val_freq"] == 0

    def _validate(self, iteration: int) -> None:
        from ktdn_plugin.basicsr.validation import identity_of, validate

        for number, loader in enumerate(self.val_loaders):
            figures = validate(self.model, loader, iteration, self.records.tb_logger)
            name = loader.dataset.opt["name"]
            self.records.validation(iteration, name, identity_of(loader.dataset), figures)
            self.provenance.validated(name, figures)
            if number == 0 and figures:
                save_best(self.model, name, iteration)
        self.validated = iteration


def _schedule(model: Any) -> tuple[list[Any], list[list[float]]]:
    rates = [[group["lr"] for group in one.param_groups] for one in model.optimizers]
    return [dict(one.state_dict()) for one in model.schedulers], rates


def _restore_schedule(model: Any, before: tuple[list[Any], list[list[float]]]) -> None:
    for schedule, state in zip(model.schedulers, before[0], strict=True):
        schedule.load_state_dict(state)
    for optimizer, rates in zip(model.optimizers, before[1], strict=True):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
