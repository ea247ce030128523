"""Data loaders for BasicSR's datasets, with per-sample seeds and errors that name the file."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import torch
from basicsr.data import build_dataset
from basicsr.data.prefetch_dataloader import CUDAPrefetcher
from torch.utils.data import DataLoader, Dataset

from ktdn_plugin.basicsr.options import Options
from ktdn_plugin.data.order import SeededDataset, TrainingOrder
from ktdn_plugin.data.skipping import AT_MOST, SkipCount, SkippingDataset
from ktdn_plugin.data.workers import worker_failures_as_errors
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.photos import decode_rgb
from ktdn_plugin.training.preemption import shield_workers

_logger = logging.getLogger("basicsr")


class NamedErrors(Dataset):
    """A dataset whose errors name the file; BasicSR's own say ``'NoneType' has no attribute``.

    Args:
        dataset: A dataset of BasicSR's kind, with ``paths`` and ``opt``.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self.opt = dataset.opt

    def __getattr__(self, name: str) -> Any:
        # Other attributes that models use. 'dataset' itself is missing while unpickling.
        if name == "dataset":
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        try:
            return self.dataset[index]
        except KTDNError:
            raise
        except Exception as error:
            raise KTDNError(self._explain(index, error)) from error

    def _explain(self, index: int, error: Exception) -> str:
        paths = getattr(self.dataset, "paths", None)
        entry = paths[index] if paths is not None else f"sample {index}"
        files = entry if isinstance(entry, dict) else {"lq_path": entry}
        client = getattr(self.dataset, "file_client", None)
        for key, file in files.items():
            if client is None:
                break
            kind = key.removesuffix("_path")
            is_lmdb = client.backend == "lmdb"
            name = f"{self.opt[f'dataroot_{kind}']}, key '{file}'" if is_lmdb else file
            try:
                content = client.get(file, kind)
                if content is None:  # an LMDB's answer for a missing key
                    return f"{name}: no such image"
                decode_rgb(content, name)
            except KTDNError as problem:
                return str(problem)
            except OSError as problem:
                return f"{name}: {problem.strerror}"
        what = " ".join(" ".join(map(str, error.args)).split())
        return f"{' and '.join(map(str, files.values()))}: {what} ({type(error).__name__})"


class TrainingBatches:
    """Endless batches of ``datasets.train`` for one process, tracking the position in the data.

    Args:
        opt: The run's options.

    Attributes:
        taken: Number of samples taken by all processes together.
        skipped: The images that this process could not read, with ``on_error: skip``.
    """

    def __init__(self, opt: Options) -> None:
        options = opt["datasets"]["train"]
        self.opt = opt
        self.dataset = build_sorted(options)
        # Without a launcher one process feeds all GPUs.
        self.copies = 1 if opt["dist"] else max(opt["num_gpu"], 1)
        steps = opt["train"].get("grad_accum_steps", 1)
        self.batch_size = options["batch_size_per_gpu"] * self.copies * steps
        self.per_iteration = self.batch_size * opt["world_size"]
        self.taken = 0
        self.skips = options.get("on_error") == "skip"
        # Other processes than the first only log errors.
        level = logging.WARNING if opt["rank"] == 0 else logging.ERROR
        self.skipped = SkipCount(
            len(self.dataset),
            options.get("skip_at_most", AT_MOST),
            lambda line: _logger.log(level, line),
        )
        # Epochs only appear in the log: passes over the data follow each other seamlessly.
        self.epoch_length = len(self.dataset) * options["dataset_enlarge_ratio"]

    def start_at(self, samples: int) -> None:
        """Continues after ``samples`` samples taken by all processes together."""
        self.taken = samples

    def _loader(self) -> DataLoader:
        options, opt = self.opt["datasets"]["train"], self.opt
        workers = options["num_worker_per_gpu"] * self.copies
        dataset: Dataset = SeededDataset(NamedErrors(self.dataset), opt["manual_seed"])
        loader: DataLoader[Any] = DataLoader(
            SkippingDataset(dataset) if self.skips else dataset,
            batch_sampler=TrainingOrder(
                len(self.dataset),
                self.batch_size,
                opt["manual_seed"],
                opt["rank"],
                opt["world_size"],
                self.taken,
            ),
            num_workers=workers,
            # An unresponsive worker gets no more time than a process.
            timeout=opt["dist_params"]["timeout"] if workers else 0,
            pin_memory=options["pin_memory"] and torch.cuda.is_available(),
        )
        shield_workers(loader)
        return loader

    @property
    def epoch(self) -> int:
        """The epoch of the last batch, counted as BasicSR does, from 0."""
        return max(self.taken - 1, 0) // self.epoch_length

    def __iter__(self) -> Iterator[Any]:
        """Yields the batches; an error in a worker reaches the caller as a single line.

        With ``prefetch_mode: cuda`` each is copied to the GPU while the previous one is processed.
        """
        with worker_failures_as_errors():
            for batch in self._read():
                self.taken += self.per_iteration
                self.skipped.note(batch)
                yield batch

    def _read(self) -> Iterator[Any]:
        loader = self._loader()
        if self.opt["datasets"]["train"].get("prefetch_mode") != "cuda":
            yield from loader
            return
        prefetcher = CUDAPrefetcher(loader, self.opt)
        while (batch := prefetcher.next()) is not None:
            yield batch


def build_eval_loader(options: dict[str, Any], rank: int = 0, world_size: int = 1) -> DataLoader:
    """Builds the loader of a validation or test set: whole images, one at a time, in order.

    Args:
        options: The dataset's options.
        rank: This process's rank: it gets every ``world_size``-th image, from the ``rank``-th on.
        world_size: Number of processes that share the images.
    """
    return share_out(build_sorted(options), rank, world_size)


def share_out(dataset: Any, rank: int = 0, world_size: int = 1) -> DataLoader:
    """Builds the loader of one process's share of an already built validation set."""
    named = dataset if isinstance(dataset, NamedErrors) else NamedErrors(dataset)
    return DataLoader(named, batch_size=1, sampler=range(rank, len(named), world_size))


def build_sorted(options: dict[str, Any]) -> Any:
    """Builds a dataset with its files in an order independent of the file system."""
    dataset = build_dataset(options)
    if options["type"] == "PairedImageDataset":
        dataset.paths.sort(key=lambda pair: str(pair["gt_path"]))
    return dataset
