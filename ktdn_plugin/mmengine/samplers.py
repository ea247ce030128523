"""The order of training samples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmengine.dataset import ClassBalancedDataset, ConcatDataset, RepeatDataset
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from ktdn_plugin.data.order import SampleDraw, TrainingOrder
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.mmengine.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class SeededSampler(Sampler[SampleDraw]):
    """Yields endless training samples in an order determined by the seed alone.

    Neither the samples of an iteration nor their augmentation depend on how many processes share
    them. With ``SeededTrainLoop`` a resumed training continues with the very next sample.

    Args:
        dataset: The dataset, not wrapped by mmengine.
        seed: Seed of order and augmentation; mmengine fills in that of ``randomness``.

    Attributes:
        start: Number of samples already taken by all processes together.

    Raises:
        KTDNError: If the dataset is a wrapper, whose samples have no seeds.
    """

    def __init__(self, dataset: Any, seed: int | None = None) -> None:
        if isinstance(dataset, (ConcatDataset, RepeatDataset, ClassBalancedDataset)):
            raise KTDNError(
                f"SeededSampler: {type(dataset).__name__} hands no seeds on to what is in it; take "
                "dict(type='InfiniteSampler') and IterBasedTrainLoop"
            )
        self.length = len(dataset)
        self.seed = sync_random_seed() if seed is None else seed
        self.rank, self.world_size = get_dist_info()
        self.start = 0
        dataset.seed = self.seed

    def __iter__(self) -> Iterator[SampleDraw]:
        """Yields this process's samples, without end."""
        order = TrainingOrder(
            self.length, 1, self.seed, self.rank, self.world_size, start=self.start
        )
        for batch in order:
            yield from batch

    def __len__(self) -> int:
        """Returns this process's share of a pass over the dataset, which mmengine asks for."""
        return -(-self.length // self.world_size)
