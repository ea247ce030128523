"""Data loaders over BasicSR's datasets: fresh randomness each epoch, errors that name the file."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from basicsr.data import build_dataset
from basicsr.data.data_sampler import EnlargedSampler
from basicsr.data.prefetch_dataloader import CUDAPrefetcher
from torch.utils.data import DataLoader, Dataset

from ktdn_plugin.basicsr.options import Options
from ktdn_plugin.data.images import decode_image
from ktdn_plugin.errors import KTDNError


class NamedErrors(Dataset):
    """A dataset whose errors name the file; BasicSR's own say ``'NoneType' has no attribute``.

    Args:
        dataset: A dataset of BasicSR's kind, with ``paths`` and ``opt``.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self.opt = dataset.opt

    def __getattr__(self, name: str) -> Any:
        # What else a model asks of its dataset. 'dataset' itself is not there while unpickling.
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
                decode_image(client.get(file, kind), name)
            except KTDNError as problem:
                return str(problem)
            except OSError as problem:
                return f"{name}: {problem.strerror}"
        what = " ".join(" ".join(map(str, error.args)).split())
        return f"{' and '.join(map(str, files.values()))}: {what} ({type(error).__name__})"


def seed_worker(worker_id: int) -> None:
    """Seeds a worker's generators from torch's, which differs in every epoch and worker.

    BasicSR's own seeds workers alike in each epoch, and so repeats the very same crops.
    """
    seed = torch.initial_seed() % 2**32
    random.seed(seed)
    np.random.seed(seed)


def build_train_loader(opt: Options) -> tuple[DataLoader, EnlargedSampler]:
    """Builds the loader of ``datasets.train``.

    Raises:
        KTDNError: If there are too few images for one batch.
    """
    options = opt["datasets"]["train"]
    dataset = _build(options)
    sampler = EnlargedSampler(
        dataset, opt["world_size"], opt["rank"], options.get("dataset_enlarge_ratio", 1)
    )
    copies = 1 if opt["dist"] else max(opt["num_gpu"], 1)
    workers = options["num_worker_per_gpu"] * copies
    loader: DataLoader = DataLoader(
        NamedErrors(dataset),
        batch_size=options["batch_size_per_gpu"] * copies,
        sampler=sampler,
        num_workers=workers,
        drop_last=True,
        pin_memory=options.get("pin_memory", False) and torch.cuda.is_available(),
        worker_init_fn=seed_worker,
        persistent_workers=options.get("persistent_workers", True) and workers > 0,
    )
    if not len(loader):
        raise KTDNError(
            f"datasets.train: {len(dataset)} images do not fill one batch of {loader.batch_size}; "
            "lower batch_size_per_gpu or set dataset_enlarge_ratio"
        )
    return loader, sampler


def build_eval_loader(options: dict[str, Any]) -> DataLoader:
    """Builds the loader of one validation or test set: whole images, one at a time, in order."""
    return DataLoader(NamedErrors(_build(options)), batch_size=1)


def _build(options: dict[str, Any]) -> Any:
    dataset = build_dataset(options)
    if options["type"] == "PairedImageDataset":
        # It lists a folder in the order of the file system, which no seed reproduces elsewhere.
        dataset.paths.sort(key=lambda pair: str(pair["gt_path"]))
    return dataset


def read_batches(loader: DataLoader, opt: Options) -> Iterator[Any]:
    """Goes through a loader once; an error in a worker reaches the caller as its one line.

    Args:
        loader: The training set's loader.
        opt: The run's options; with ``prefetch_mode: cuda`` each batch is copied to the GPU while
            the one before is worked on.
    """
    try:
        if opt["datasets"]["train"].get("prefetch_mode") == "cuda":
            prefetcher = CUDAPrefetcher(loader, opt)
            while (batch := prefetcher.next()) is not None:
                yield batch
        else:
            yield from loader
    except KTDNError as error:
        # A worker's exception comes back with its whole traceback for a message.
        marker = f"{KTDNError.__module__}.{KTDNError.__qualname__}: "
        raise KTDNError(str(error).rsplit(marker, 1)[-1].strip()) from error
