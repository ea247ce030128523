"""What a training tells while it runs: log lines, tensorboard, and ``metrics.jsonl``."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from ktdn_plugin.basicsr.options import Options
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.storage.atomic import write_whole
from ktdn_plugin.system_memory import peak_taken

_logger = logging.getLogger("basicsr")

FILE = "metrics.jsonl"
"""In a run's folder: one JSON object a line, for ``ktdn curves`` and for people's own scripts."""


class Stopwatch:
    """Time of iterations and their waiting for data, since it was last asked.

    Saving and validating between iterations are not counted.
    """

    def __init__(self) -> None:
        self.iterations, self.data, self.whole = 0, 0.0, 0.0

    def start(self) -> None:
        """Starts an iteration."""
        self._started = time.perf_counter()

    def data_is_here(self) -> None:
        """Ends the waiting for data."""
        self.data += time.perf_counter() - self._started

    def stop(self) -> None:
        """Ends the iteration."""
        self.whole += time.perf_counter() - self._started
        self.iterations += 1

    def read(self) -> tuple[float, float]:
        """Returns the mean seconds of an iteration, and of them waiting for data; starts anew."""
        count = max(self.iterations, 1)
        means = self.whole / count, self.data / count
        self.iterations, self.data, self.whole = 0, 0.0, 0.0
        return means


class Records:
    """Writes what the first process reports; the others' stay silent.

    Args:
        opt: The run's options; its folder is there.
        start: Iterations done before. What an interrupted run had written of later ones is
            dropped: they are done, and written, again.
        validated: The last iteration whose validation is not done again.
    """

    def __init__(self, opt: Options, start: int, validated: int) -> None:
        self.opt = opt
        self.start = start
        self.began = time.time()
        self.total = opt["train"]["total_iter"]
        self.shown = opt["rank"] == 0
        self.path = Path(opt["path"]["experiments_root"]) / FILE
        self.tb_logger = _tensorboard(opt, start) if self.shown else None
        if self.shown and self.path.exists():
            self._drop_later(validated)

    def _drop_later(self, validated: int) -> None:
        kept = []
        for line in self.path.read_text(encoding="utf-8").splitlines(keepends=True):
            try:
                row = json.loads(line)
            except ValueError:  # cut off in the middle
                continue
            if row["iter"] <= (validated if row["kind"] == "val" else self.start):
                kept.append(line)
        write_whole(self.path, lambda file: file.write("".join(kept).encode()))

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
            rates: Learning rate of each group of parameters.
            values: Losses and gradient norm by name.
            seconds: Mean seconds of the iterations since the last report, and waiting for data.
            images: Images of an iteration, of all processes.
        """
        if not self.shown:
            return
        speed = images / max(seconds[0], 1e-9)
        share = seconds[1] / max(seconds[0], 1e-9)
        taken = peak_taken()
        memory = None if taken is None else taken / 2**30
        done = iteration - self.start
        left = (time.time() - self.began) / max(done, 1) * (self.total - iteration)
        shown_rates = "".join(f"{rate:.3e}," for rate in rates)
        _logger.info(
            f"[{self.opt['name'][:5]}..][epoch:{epoch:3d}, iter:{iteration:8,d}, "
            f"lr:({shown_rates})] [eta: {timedelta(seconds=int(left))}, time (data): "
            f"{seconds[0]:.3f} ({seconds[1]:.3f})] "
            + " ".join(f"{name}: {value:.4e}" for name, value in values.items())
            + f" img/s: {speed:.1f}"
            + ("" if memory is None else f" memory: {memory:.2f} GiB")
        )
        row = {"kind": "train", "iter": iteration, "epoch": epoch, "lr": list(rates), **values}
        measured: dict[str, float | None] = {
            "images_per_second": speed,
            "data_share": share,
            "memory_gib": memory,
        }
        self._write({**row, **measured})
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
        """Records a validation set's figures, and which data they are of; logged they are."""
        if self.shown and figures:
            row = {"kind": "val", "iter": iteration, "set": name}
            self._write({**row, **identity, **figures})

    def teacher(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Reports how well the teacher reconstructs."""
        for row in rows if self.shown else ():
            self._write({"kind": "teacher", "iter": 0, **row})
            if self.tb_logger:
                self.tb_logger.add_scalar(f"teacher/{row['set']}/psnr", row["psnr"], 0)

    def _write(self, row: Mapping[str, Any]) -> None:
        finite = {key: _finite(value) for key, value in row.items()}
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(finite, allow_nan=False) + "\n")
        except OSError as error:
            raise KTDNError(f"{self.path}: cannot be written ({error.strerror})") from error

    def close(self) -> None:
        """Ends tensorboard's file."""
        if self.tb_logger:
            self.tb_logger.close()


def _finite(value: Any) -> Any:
    """Returns what JSON can hold of a value: null stands for NaN and infinity."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return [_finite(one) for one in value] if isinstance(value, list) else value


def _tensorboard(opt: Options, start: int) -> Any:
    logger = opt["logger"]
    if not logger["use_tb_logger"] or "debug" in opt["name"]:
        return None
    if logger.get("wandb") and logger["wandb"].get("project"):
        from basicsr.utils import init_wandb_logger

        init_wandb_logger(opt)
    from torch.utils.tensorboard import SummaryWriter

    folder = Path(opt["root_path"]) / "tb_logger" / opt["name"]
    # What an interrupted run wrote of later iterations is hidden.
    return SummaryWriter(log_dir=str(folder), purge_step=start + 1 if start else None)
