"""The base of both stages' models: a network that maps images to images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from mmengine.device import get_device
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from ktdn_plugin.archs import KTDN
from ktdn_plugin.errors import KTDNError, NotFiniteError
from ktdn_plugin.mmengine.registry import MODELS
from ktdn_plugin.other_networks import size_failures_as_errors
from ktdn_plugin.training.batch_norm import synchronize
from ktdn_plugin.training.precision import apply_speed_options
from ktdn_plugin.training.steps import Step

Config = dict[str, Any]
Samples = Sequence[BaseDataElement]

PREPROCESSOR = {"type": "ktdn_plugin.DehazingDataPreprocessor"}

NOT_FINITE_ADVICE = (
    "check these images, lower the learning rate, or set optim_wrapper.clip_grad; --resume goes "
    "on from the last checkpoint"
)


class Restorer(BaseModel):
    """The base of both stages: a network that maps images to images.

    The three modes are mmengine's: ``tensor`` returns the network's images, ``predict`` data
    elements with ``dehazed`` images in [0, 1], ``loss`` the losses.

    Attributes:
        batch_names: Names of the images that losses were last computed on.
    """

    NETWORK = ""  # the attribute that is trained, which is also the prefix of its weights
    STAGE = ""  # for its checkpoints
    OPTIONS = ("ssim_loss", "lab_loss")  # suggested; any other NAME_loss works too

    def __init__(
        self,
        network: Config,
        losses: Mapping[str, Config | None],
        data_preprocessor: Config | nn.Module | None,
        *,
        sync_bn: bool,
        channels_last: bool,
        clamp_output: bool,
    ) -> None:
        super().__init__(data_preprocessor or PREPROCESSOR)
        built = MODELS.build(network)
        if sync_bn and dist.is_available() and dist.is_initialized():
            warn = MMLogger.get_current_instance().warning
            built = synchronize(built.to(get_device()), "model.sync_bn", warn)
        setattr(self, self.NETWORK, apply_speed_options(built, channels_last=channels_last))
        self.clamp_output = clamp_output
        given = {_log_name(type(self), key): options for key, options in losses.items() if options}
        if not given:
            raise KTDNError(
                f"{type(self).__name__}: no image loss is given; set pixel_loss, laplacian_loss, "
                "..."
            )
        self.image_losses = nn.ModuleDict(
            {name: MODELS.build(options) for name, options in given.items()}
        )
        self.batch_names: list[str] = []

    @property
    def network(self) -> nn.Module:
        """The network being trained."""
        network: nn.Module = getattr(self, self.NETWORK)
        return network

    def forward(
        self, inputs: Tensor, data_samples: Samples | None = None, mode: str = "tensor"
    ) -> Any:
        """Runs the network.

        Args:
            inputs: Hazy RGB images (n, 3, h, w) in [0, 1].
            data_samples: One for each image; with ``clear`` (3, h, w) in [0, 1] if available.
            mode: ``tensor``, ``predict`` or ``loss``.

        Returns:
            Images (n, 3, h, w), not clamped; or a data element for each, with ``dehazed``; or name
            to loss (scalars), whose sum is to be backpropagated.

        Raises:
            ValueError: If the mode is none of these.
            KTDNError: If losses are requested without clear images to compare with.
        """
        if mode == "tensor":
            return self.network(inputs)
        if mode == "predict":
            return self._predict(inputs, data_samples)
        if mode != "loss":
            raise ValueError(f"mode '{mode}' is not one of tensor, predict, loss")
        clear = clear_images(data_samples)
        self.batch_names = [str(sample.get("name", "")) for sample in data_samples or ()]
        losses = self.step(inputs, clear).losses
        # mmengine only adds up entries with 'loss' in their name.
        return {f"loss_{name.removeprefix('l_')}": loss for name, loss in losses.items()}

    def step(self, hazy: Tensor, clear: Tensor) -> Step:
        """Runs one forward pass and computes its losses."""
        raise NotImplementedError

    def parse_losses(self, losses: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Adds up the losses, as mmengine does; logs their mean over all processes.

        Raises:
            NotFiniteError: If one is not finite in any process; nothing is learned from it.
        """
        total, log = super().parse_losses(losses)
        own = torch.stack([value.detach() for value in log.values()])
        values = own.clone()
        if dist.is_available() and dist.is_initialized():
            # Log the losses of the whole batch.
            dist.all_reduce(values)
            values /= dist.get_world_size()
            log = dict(zip(log, values, strict=True))
        if not values.isfinite().all():
            pairs = zip(log, own.isfinite().tolist(), strict=True)
            bad = [name for name, good in pairs if not good and name in losses]
            bad = bad or ["a loss of another process"]
            raise NotFiniteError(
                f"{', '.join(bad)} became NaN or infinite on the batch of "
                f"{', '.join(self.batch_names)}; {NOT_FINITE_ADVICE}"
            )
        return total, log

    def _predict(self, inputs: Tensor, data_samples: Samples | None) -> list[BaseDataElement]:
        name = str(data_samples[0].get("name", "")) if data_samples else "the batch"
        with size_failures_as_errors(self.network, inputs, name):
            images = self.network(inputs).clamp(0, 1)
        samples = data_samples or [BaseDataElement() for _ in images]
        results = []
        for hazy, image, sample in zip(inputs, images, samples, strict=True):
            result = sample.clone()
            result.set_data({"hazy": hazy, "dehazed": image})
            results.append(result)
        return results


def _log_name(model: type, key: str) -> str:
    """Returns a loss's name in the log: the part before ``_loss``, except for the usual two."""
    usual = {"pixel_loss": "l_rec", "laplacian_loss": "l_lap"}
    name = key.removesuffix("_loss")
    if name in ("", key):
        # Worded like Python's own error, which the config check recognises.
        raise TypeError(f"{model.__name__}() got an unexpected keyword argument '{key}'")
    return usual.get(key, f"l_{name}")


def without_pretrained(network: Mapping[str, Any], *, files: bool = True) -> Config:
    """Returns a network's config without pretrained weights, for a network that gets others.

    Args:
        network: The network's config; it is not changed.
        files: Whether to drop files of pretrained weights as well as downloads; only in KTDN's own
            config, as it is unknown what others would accept instead of a path.

    Returns:
        A copy.
    """
    is_ktdn = network.get("type") is KTDN or str(network.get("type")).rpartition(".")[2] == "KTDN"
    config: Config = {}
    for key, value in network.items():
        if key == "pretrained" and (value is True or (files and is_ktdn and value)):
            config[key] = False
        elif isinstance(value, Mapping):
            config[key] = without_pretrained(value, files=files)
        else:
            config[key] = value
    return config


def clear_images(data_samples: Samples | None) -> Tensor:
    """Stacks the clear images of samples, (n, 3, h, w).

    Raises:
        KTDNError: If there are none.
    """
    if not data_samples or not all("clear" in sample for sample in data_samples):
        raise KTDNError(
            "there are no clear images to train on: the dataset's samples need 'data_samples' "
            "with 'clear', such as from PairedHazeDataset"
        )
    return torch.stack([sample.clear for sample in data_samples])
