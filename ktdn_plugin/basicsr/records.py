"""Reports a training's progress: log lines, tensorboard, and the run's own record."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from ktdn_plugin.basicsr.options import Options
from ktdn_plugin.basicsr.provenance import describe_set
from ktdn_plugin.training.run_log import RunLog

_logger = logging.getLogger("basicsr")


class Stopwatch:
    """Measures iterations, and their waiting for data, since it was last read.

    Saving and validating between iterations are not included.
    """

    def __init__(self) -> None:
        self.iterations, self.data, self.whole = 0, 0.0, 0.0

    def start(self) -> None:
        """Starts an iteration."""
        self._started = time.perf_counter()

    def data_is_here(self) -> None:
        """Ends the wait for data."""
        self.data += time.perf_counter() - self._started

    def stop(self) -> None:
        """Ends the iteration."""
        self.whole += time.perf_counter() - self._started
        self.iterations += 1

    def read(self) -> tuple[float, float]:
        """Returns the mean seconds per iteration and those spent waiting for data; resets both."""
        count = max(self.iterations, 1)
        means = self.whole / count, self.data / count
        self.iterations, self.data, self.whole = 0, 0.0, 0.0
        return means


class Records:
    """Reports to the log, to tensorboard and to the run's own record, in the first process.

    Args:
        opt: The run's options; its folder must exist.
        start: Iterations already done. What an interrupted run wrote about later ones is dropped,
            as they are repeated.
        validated: The last iteration whose validation is not repeated.
    """

    def __init__(self, opt: Options, start: int, validated: int) -> None:
        self.opt = opt
        self.start = start
        self.began = time.time()
        self.total = opt["train"]["total_iter"]
        self.shown = opt["rank"] == 0
        self.run_log = run_log_of(opt)
        self.tb_logger = _tensorboard(opt, start) if self.shown else None
        dropped = self.run_log.start(start, validated)
        if dropped:
            _logger.info(dropped)

    def training(
        self,
        epoch: int,
        iteration: int,
        rates: Sequence[float],
        values: Mapping[str, float],
        seconds: tuple[float, float],
        images: int,
    ) -> None:
        """Reports an iteration.

        Args:
            epoch: Its epoch.
            iteration: Its number, from 1.
            rates: Learning rate of each parameter group.
            values: Losses and gradient norm by name.
            seconds: Mean seconds per iteration since the last report, and waiting for data.
            images: Images per iteration, over all processes.
        """
        if not self.shown:
            return
        measured = self.run_log.training(iteration, rates, values, seconds, images, epoch)
        memory = measured["memory_gib"]
        done = iteration - self.start
        left = (time.time() - self.began) / max(done, 1) * (self.total - iteration)
        shown_rates = "".join(f"{rate:.3e}," for rate in rates)
        _logger.info(
            f"[{self.opt['name'][:5]}..][epoch:{epoch:3d}, iter:{iteration:8,d}, "
            f"lr:({shown_rates})] [eta: {timedelta(seconds=int(left))}, time (data): "
            f"{seconds[0]:.3f} ({seconds[1]:.3f})] "
            + " ".join(f"{name}: {value:.4e}" for name, value in values.items())
            + f" img/s: {measured['images_per_second']:.1f}"
            + ("" if memory is None else f" memory: {memory:.2f} GiB")
        )
        if self.tb_logger:
            for name, value in values.items():
                folder = "losses/" if name.startswith("l_") else ""
                self.tb_logger.add_scalar(f"{folder}{name}", value, iteration)
            for group, rate in enumerate(rates):
                self.tb_logger.add_scalar(f"lr/group_{group}", rate, iteration)
            for name, number in measured.items():
                if number is not None:
                    self.tb_logger.add_scalar(f"speed/{name}", number, iteration)

    def validation(
        self,
        iteration: int,
        name: str,
        identity: Mapping[str, str],
        figures: Mapping[str, float],
    ) -> None:
        """Records a validation set's already logged figures, and which data they belong to."""
        self.run_log.figures("val", iteration, name, identity, figures)

    def teacher(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Reports how well the teacher reconstructs."""
        add_teacher(self.run_log, rows)
        if self.tb_logger:
            for row in rows:
                self.tb_logger.add_scalar(f"teacher/{row['set']}/psnr", row["psnr"], 0)

    def close(self) -> None:
        """Closes tensorboard's file."""
        if self.tb_logger:
            self.tb_logger.close()


def run_log_of(opt: Options) -> RunLog:
    """Returns the record of a training, in its folder."""
    return RunLog(opt["path"]["experiments_root"], writes=opt["rank"] == 0)


def add_teacher(run_log: RunLog, rows: Sequence[Mapping[str, Any]]) -> None:
    """Records how well the teacher reconstructs each set."""
    for row in rows:
        identity = {key: row[key] for key in ("split", "fingerprint")}
        run_log.figures("teacher", 0, row["set"], identity, {"psnr": row["psnr"]})


def describe_run(
    run_log: RunLog,
    opt: Options,
    stage: str,
    data: Mapping[str, Sequence[Mapping[str, Any]]],
    iteration: int = 0,
) -> None:
    """Writes a run's ``run.json``.

    Args:
        run_log: The run's record.
        opt: The run's options.
        stage: See :meth:`ktdn_plugin.training.run_log.RunLog.describe`.
        data: The data sets, by phase.
        iteration: The iteration that a resumed run started from.
    """
    import basicsr
    import torch

    state = opt["path"].get("resume_state")
    run_log.describe(
        name=opt["name"],
        toolbox=f"BasicSR {basicsr.__version__}",
        stage=stage,
        options=opt,
        data=data,
        seed=opt.get("manual_seed"),
        device=torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        processes=opt["world_size"],
        resumed_from=(str(state), iteration) if state and iteration else None,
    )


def described_sets(datasets: Iterable[Any]) -> list[dict[str, Any]]:
    """Returns the data sets' entries in ``run.json``: their identity, and their options."""
    return [{**describe_set(one), "options": one.opt} for one in datasets]


def _tensorboard(opt: Options, start: int) -> Any:
    logger = opt["logger"]
    if not logger["use_tb_logger"] or "debug" in opt["name"]:
        return None
    if logger.get("wandb") and logger["wandb"].get("project"):
        from basicsr.utils import init_wandb_logger

        init_wandb_logger(opt)
    from torch.utils.tensorboard import SummaryWriter

    folder = Path(opt["root_path"]) / "tb_logger" / opt["name"]
    # Hides what an interrupted run wrote about later iterations.
    return SummaryWriter(log_dir=str(folder), purge_step=start + 1 if start else None)
