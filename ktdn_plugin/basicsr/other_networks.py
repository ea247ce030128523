"""Runs networks that are not ours once on an empty crop before training.

Our own networks can be checked against the options without this, see
:mod:`ktdn_plugin.basicsr.dry_run`. Nothing is known about others until they run, which happens
before anything is written.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ktdn_plugin.basicsr.options import Options
from ktdn_plugin.errors import KTDNError, describe_error, did_you_mean, is_out_of_memory
from ktdn_plugin.losses import KnowledgeTransferLoss
from ktdn_plugin.training.features import name_features
from ktdn_plugin.training.steps import FrozenTeacher

Features = dict[str, Tensor]


@contextmanager
def naming_networks(opt: Options) -> Iterator[None]:
    """Names the network that cannot be built, if building a BasicSR model fails.

    Args:
        opt: The run's options.

    Raises:
        KTDNError: Instead of what one of its networks raises when built separately.
    """
    from basicsr.archs import build_network

    try:
        yield
    except (KTDNError, OSError, ImportError):
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        for key in [key for key in opt if key.startswith("network_")]:
            try:
                build_network(opt[key])
            except Exception as reason:  # third-party networks may raise anything
                raise KTDNError(
                    f"{key}: {opt[key]['type']} cannot be built from these options "
                    f"({describe_error(reason)}); --debug shows where"
                ) from error
        raise


def name_compared(network: nn.Module, train: Options, letter: str, loss: Any) -> nn.Module:
    """Names the features that a loss compares, as ``train.features_g`` or ``features_t`` says.

    Args:
        network: The student or the teacher; it is changed.
        train: The options under ``train``.
        letter: ``g`` for the student, ``t`` for the teacher.
        loss: The transfer loss; features that it does not compare are not computed.

    Raises:
        KTDNError: If a module is unknown, or names are missing for a network without features.
    """
    where, names = f"train.features_{letter}", loss.feature_names
    modules = train.get(f"features_{letter}") or {}
    if not modules and not hasattr(network, "feature_extractor"):
        some = ", ".join(f"{name}: MODULE" for name in names)
        raise KTDNError(
            f"network_{letter}.type: {type(network).__name__} has no named features, which "
            f"train.transfer_opt compares; name its modules in {where}: {{{some}}}"
        )
    for name in names if modules else ():
        if name not in modules:
            raise KTDNError(
                f"{where}: no module is given for '{name}', which train.transfer_opt compares"
                f"{did_you_mean(name, modules)}"
            )
    with _blaming(where):
        return name_features(network, {name: modules[name] for name in names if modules})


def compute_features(
    network: nn.Module, train: Options, letter: str, loss: Any, crop: Tensor
) -> Features:
    """Computes the features that a loss compares, of a network not needed afterwards.

    Args:
        network: The student or the teacher.
        train: The options under ``train``.
        letter: ``g`` for the student, ``t`` for the teacher.
        loss: The transfer loss.
        crop: Images (n, c, h, w) on the network's device, possibly ``meta``.

    Raises:
        KTDNError: If the network does not produce them.
    """
    name_compared(network, train, letter, loss)
    where = f"train.features_{letter}" if train.get(f"features_{letter}") else "train.transfer_opt"
    with _blaming(where):
        return network.eval().feature_extractor(loss.feature_names).to(crop.device)(crop)  # type: ignore[operator]


def try_network(opt: Options, network: nn.Module, where: str) -> None:
    """Checks that a network maps an image to a single image of the same size.

    Args:
        opt: The run's options.
        network: The network, without its wrapper; left unchanged.
        where: Its section in the options.

    Raises:
        KTDNError: If it does not.
    """
    crop = _empty_crop(opt, network)
    if crop is None or _is_ours(network):
        return
    with _blaming(where):
        output = _run(network, crop)
        name = type(network).__name__
        if not isinstance(output, Tensor):
            raise KTDNError(f"{name} gives {type(output).__name__}, not one tensor (n, c, h, w)")
        if output.shape != crop.shape:
            raise KTDNError(
                f"{name} returns {tuple(output.shape)} for images {tuple(crop.shape)}; configure "
                "it to keep "
                "their size (upscale: 1, or similar)"
            )


def try_transfer(
    opt: Options,
    student: nn.Module,
    network: nn.Module,
    teacher: FrozenTeacher,
    loss: KnowledgeTransferLoss,
) -> None:
    """Checks that student and teacher produce features that the loss can compare.

    Args:
        opt: The run's options.
        student: The student, without its wrapper; left unchanged.
        network: The teacher's whole network.
        teacher: The teacher, before it is compiled.
        loss: The loss, without its wrapper.

    Raises:
        KTDNError: If they do not fit together.
    """
    try_network(opt, network, "network_t")
    crop = _empty_crop(opt, student)
    if crop is None or (_is_ours(student) and _is_ours(network)):
        return
    with _blaming("train.features_g" if opt["train"].get("features_g") else "network_g"):
        ours = _run(student, crop, return_features=True)[1]
    with _blaming("train.features_t" if opt["train"].get("features_t") else "network_t"):
        theirs = teacher(crop)
    with _blaming("train.transfer_opt"), torch.no_grad():
        compare_once(loss, ours, theirs)


def compare_once(loss: KnowledgeTransferLoss, student: Features, teacher: Features) -> None:
    """Compares features of the same crop.

    Raises:
        KTDNError: If their sizes differ, which the images cannot cause here, or the loss returns
            more than one number.
        ValueError: If the loss cannot compare them.
    """
    for name in loss.feature_names:
        if name in student and name in teacher:
            sizes = student[name].shape[2:], teacher[name].shape[2:]
            if sizes[0] != sizes[1]:
                raise KTDNError(
                    f"feature '{name}' is {_size(sizes[0])} in the student, {_size(sizes[1])} in "
                    "the teacher; choose modules of equal stride in train.features_g, features_t"
                )
    check_scalar(loss(student, teacher))


def check_scalar(loss: Tensor) -> None:
    """Refuses a loss that returns one value per image or pixel."""
    if loss.ndim:
        raise KTDNError("does not return a scalar; use another reduction (mean or sum)")


def _empty_crop(opt: Options, network: nn.Module) -> Tensor | None:
    dataset = opt["datasets"]["train"]
    size = dataset.get("gt_size")
    if size is None or opt["scale"] != 1:  # another plugin's dataset, whose crops are unknown
        return None
    channels = 1 if dataset.get("color") == "y" else 3
    device = next((one.device for one in network.parameters()), None)
    return torch.zeros(1, channels, size, size, device=device)


def _size(size: torch.Size) -> str:
    return " x ".join(map(str, size))


def _is_ours(network: nn.Module) -> bool:
    return type(network).__module__.startswith("ktdn_plugin.")


@torch.no_grad()
def _run(network: nn.Module, crop: Tensor, **flags: bool) -> Any:
    was_training = network.training
    network.eval()  # this must not affect batch statistics
    try:
        # Not __call__, which would compile a network set up for it, for a batch of one.
        return network.forward(crop, **flags)
    finally:
        network.train(was_training)


@contextmanager
def _blaming(where: str) -> Iterator[None]:
    try:
        yield
    except KTDNError as error:
        raise KTDNError(f"{where}: {error}") from error
    except ValueError as error:
        raise KTDNError(f"{where}: {error}") from error
    except Exception as error:  # third-party networks may raise anything
        if is_out_of_memory(error):
            raise
        raise KTDNError(
            f"{where}: fails on a crop of datasets.train.gt_size ({describe_error(error)}); "
            "--debug shows where"
        ) from error
