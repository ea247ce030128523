"""KTDN's encoder: any timm backbone that has features at strides 4, 8 and 16.

The published network's encoder, Res2Net-101 v1b 26w 4s cut after its third stage (Gao et al.,
"Res2Net: A New Multi-scale Backbone Architecture", TPAMI 2021), is timm's ``res2net101d``: same
layers, same key names.
"""

from __future__ import annotations

import functools
import logging
import re
import textwrap
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from timm.models import FeatureDictNet
from torch import Tensor, nn

from ktdn_plugin.errors import KTDNError, did_you_mean
from ktdn_plugin.storage.safe_loading import load_tensors
from ktdn_plugin.storage.state_dicts import compare_keys, select_weights

STRIDES = (4, 8, 16)
STAGES = ("stage1", "stage2", "stage3")


class _Backbone(NamedTuple):
    indices: tuple[int, ...]
    channels: tuple[int, ...]
    options: dict[str, Any]


@functools.lru_cache(maxsize=32)
def _inspect_backbone(name: str) -> _Backbone:
    """Finds which of a timm backbone's features have strides 4, 8 and 16, without its weights."""
    architecture = name.split(".")[0]
    if not timm.is_model(architecture):
        raise KTDNError(
            f"encoder '{name}' is not a timm model"
            f"{did_you_mean(architecture, timm.list_models())}"
            " (see timm.list_models())"
        )
    # Transformers of fixed size (Swin and its kin) take any size when told so.
    attempts: tuple[dict[str, Any], ...] = ({"strict_img_size": False}, {})
    for options in attempts:
        try:
            # On 'meta' nothing is computed and no random number is drawn.
            with torch.device("meta"):
                probe: Any = timm.create_model(name, features_only=True, **options)
            break
        except TypeError as error:
            if not options:
                raise KTDNError(
                    f"encoder '{name}' cannot be built by timm for features: {error}"
                ) from error
        except (RuntimeError, AttributeError, AssertionError) as error:
            raise KTDNError(
                f"encoder '{name}' cannot be built by timm for features: {error}"
            ) from error
    reductions = list(probe.feature_info.reduction())
    if any(reductions.count(stride) != 1 for stride in STRIDES):
        raise KTDNError(
            f"encoder '{name}' has features at strides {reductions}; KTDN needs 4, 8 and 16: "
            "choose a hierarchical backbone such as res2net101d, resnet18 or convnext_atto"
        )
    positions = [reductions.index(stride) for stride in STRIDES]
    channels = probe.feature_info.channels()
    backbone = _Backbone(
        indices=tuple(probe.feature_info.out_indices[position] for position in positions),
        channels=tuple(channels[position] for position in positions),
        options=options,
    )
    _check_sizes(name, backbone)
    return backbone


def _check_sizes(name: str, backbone: _Backbone) -> None:
    """Checks that a backbone takes any multiple of 16 and gives features of exact size.

    Some declare the strides, yet need multiples of 32 (HRNet) or their training size (CoAtNet).
    """
    height, width = 48, 80
    wanted = [(height // stride, width // stride) for stride in STRIDES]
    try:
        with torch.device("meta"), torch.no_grad():
            body = timm.create_model(
                name, features_only=True, out_indices=backbone.indices, **backbone.options
            ).eval()
            features = body(torch.zeros(1, 3, height, width))
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = str(error) or type(error).__name__
    else:
        if _is_channels_last(body):
            features = [feature.permute(0, 3, 1, 2) for feature in features]
        sizes = [tuple(feature.shape[-2:]) for feature in features]
        if sizes == wanted:
            return
        reason = f"its features have the sizes {sizes} instead of {wanted}"
    raise KTDNError(
        f"encoder '{name}' does not take a {height} x {width} image "
        f"({textwrap.shorten(reason, 160)}); KTDN needs a backbone that accepts every multiple of "
        "16, such as res2net101d, resnet18 or convnext_atto"
    )


def _is_channels_last(body: nn.Module) -> bool:
    return str(getattr(body, "output_fmt", "NCHW")).endswith("NHWC")


def _drop_unused_tail(body: nn.Module, stages: int) -> None:
    """Removes the blocks behind the last feature, where timm leaves them in place.

    A parameter that never gets a gradient is dead weight, and an error under DDP; the few that
    are no whole block are frozen.
    """
    if isinstance(body, FeatureDictNet):  # timm rebuilds these from what the features need
        return
    training = body.training
    parameters = dict(body.named_parameters())
    with torch.enable_grad():
        features = body.eval()(torch.zeros(1, 3, 64, 64))[:stages]
        total = torch.stack([feature.sum() for feature in features]).sum()
        gradients = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
    body.train(training)
    unused = {name for name, grad in zip(parameters, gradients, strict=True) if grad is None}
    for path, module in body.named_modules():
        if not isinstance(module, nn.Sequential):
            continue
        while len(module) and _all_in(unused, f"{path}.{len(module) - 1}.", parameters):
            del module[-1]
    for name, parameter in body.named_parameters():
        if name in unused:
            parameter.requires_grad_(False)


def _all_in(unused: set[str], prefix: str, parameters: dict[str, nn.Parameter]) -> bool:
    below = [name for name in parameters if name.startswith(prefix)]
    return bool(below) and all(name in unused for name in below)


class Encoder(nn.Module):
    """A timm backbone cut after its stride-16 features.

    Args:
        name: Name of a timm model whose features come at strides 4, 8 and 16; the hub's names of
            timm's own, such as ``hf-hub:timm/resnet18.a1_in1k``, are the same.
        pretrained: ``True`` takes timm's ImageNet weights; a path takes the weights of that file
            (``.pth`` or ``.safetensors``, in timm's key names); ``False`` starts at random.
        stages: How many of the three stages to keep, 1 to 3.

    Attributes:
        channels: Widths of the kept stages, shallow to deep.
        is_channels_last: Whether the backbone gives its features as (n, h, w, c).

    Raises:
        KTDNError: If timm has no such model, if it does not give the strides, or if the weights
            asked for are not available. Never falls back on random weights.

    Example:
        >>> encoder = Encoder("mobilenetv2_100")
        >>> encoder.channels
        (24, 32, 96)
        >>> [tuple(one.shape[2:]) for one in encoder(torch.rand(1, 3, 64, 96))]
        [(16, 24), (8, 12), (4, 6)]
    """

    def __init__(self, name: str, pretrained: bool | str | Path = False, stages: int = 3) -> None:
        super().__init__()
        if not 1 <= stages <= len(STAGES):
            raise ValueError(f"stages must be 1, 2 or 3, got {stages}")
        if not isinstance(name, str):
            raise KTDNError(f"encoder: {name!r} is not a timm model")
        # What the hub calls timm's own models; timm would ask the hub for its description.
        name = re.sub(r"^(hf[-_]hub:)?timm/", "", name)
        backbone = _inspect_backbone(name)
        self.name = name
        self.channels = backbone.channels[:stages]
        build = functools.partial(
            timm.create_model,
            name,
            features_only=True,
            out_indices=backbone.indices[:stages],
            **backbone.options,
        )
        if pretrained is True:
            self.body = _with_imagenet_weights(build, name)
        else:
            self.body = build(pretrained=False)
            if pretrained is not False and pretrained is not None:
                _load_file(self.body, name, Path(pretrained))
        _drop_unused_tail(self.body, stages)
        self.is_channels_last = _is_channels_last(self.body)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Returns the stages' features, shallow to deep.

        Args:
            x: Normalised images (n, 3, h, w); h and w multiples of 16.

        Returns:
            One (n, c, h / s, w / s) tensor per stage, s = 4, 8, 16.
        """
        features = self.body(x)
        if self.is_channels_last:
            return [feature.permute(0, 3, 1, 2) for feature in features]
        return list(features)

    def cut(self, stages: int) -> Encoder:
        """Returns an encoder of the first stages alone, with this one's weights.

        Args:
            stages: How many stages to keep, 1 to 3.

        Returns:
            This encoder if nothing is cut off, else a smaller one on the same device.
        """
        if stages == len(self.channels):
            return self
        # Its random weights are replaced at once: the caller's random numbers go on unmoved.
        with torch.random.fork_rng(devices=[]):
            smaller = Encoder(self.name, stages=stages)
        own = self.state_dict()
        smaller.load_state_dict({key: own[key] for key in smaller.state_dict()})
        reference = next(self.parameters())
        return smaller.to(reference.device, reference.dtype).train(self.training)


def _with_imagenet_weights(build: functools.partial[nn.Module], name: str) -> nn.Module:
    # The hub's client warns at each of its retries; the one error below says it all.
    hub_log = logging.getLogger("huggingface_hub")
    level = hub_log.level
    hub_log.setLevel(logging.ERROR)
    try:
        return build(pretrained=True)
    # Whatever the hub, the network or the disk raises, the user needs one answer: where to put it.
    except Exception as error:
        config = timm.get_pretrained_cfg(name)
        source = str(config.hf_hub_id or config.url or "") if config else ""
        if config and source.endswith("/"):
            source += f"{config.architecture}.{config.tag}"
        if not source:
            raise KTDNError(
                f"encoder '{name}': timm publishes no weights for it; use pretrained: false, or "
                "the path of a weights file"
            ) from error
        reason = textwrap.shorten(str(error), 160) or type(error).__name__
        raise KTDNError(
            f"encoder '{name}': its ImageNet weights cannot be downloaded ({reason}); on a "
            f"machine with access fetch model.safetensors of '{source}' from the Hugging Face "
            "hub, and give its path: pretrained: /path/to/model.safetensors"
        ) from error
    finally:
        hub_log.setLevel(level)


def _canonical(key: str) -> str:
    # timm's feature networks flatten 'stages.0.' into 'stages_0.'; its weight files do not.
    return re.sub(r"_(\d+)\.", r".\1.", key)


def _load_file(body: nn.Module, name: str, path: Path) -> None:
    weights = select_weights(load_tensors(path), path)
    available = {_canonical(key): value for key, value in weights.items()}
    wanted = body.state_dict()
    found = {key: available[_canonical(key)] for key in wanted if _canonical(key) in available}
    problem = compare_keys(wanted, found)
    if problem:
        raise KTDNError(f"{path} does not contain the weights of timm's '{name}': {problem}")
    body.load_state_dict(found)
