"""Checks the checkpoints that options name before anything starts."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch

from ktdn_plugin.archs import KTDN
from ktdn_plugin.basicsr.dry_run import build_for_inspection
from ktdn_plugin.basicsr.options import Options
from ktdn_plugin.checkpoints import Checkpoint
from ktdn_plugin.checkpoints.loading import fit_weights
from ktdn_plugin.checkpoints.networks import SETTINGS
from ktdn_plugin.errors import KTDNError


def check_checkpoints(opt: Options, is_train: bool) -> list[str]:
    """Checks that the checkpoints of a run are there, can be read, and fit its networks."""
    path = opt["path"]
    problems = []
    for key, value in path.items():
        if key.startswith("pretrain_network_") and value:
            section = opt.get(key.removeprefix("pretrain_"))
            letter = key.removeprefix("pretrain_network_")
            try:
                _check_checkpoint(
                    Path(value),
                    section if path.get(f"strict_load_{letter}", True) else None,
                    path.get(f"param_key_{letter}"),
                )
            except KTDNError as error:
                problems.append(f"path.{key}: {error}")
    if is_train and opt["train"].get("transfer_opt") and not path.get("pretrain_network_t"):
        problems.append(
            "path.pretrain_network_t: missing; it names the trained teacher's checkpoint (train "
            "one with options/train_teacher.yml, or leave out train.transfer_opt)"
        )
    if not is_train and not path.get("pretrain_network_g"):
        problems.append(
            "path.pretrain_network_g: missing; it names the checkpoint to test (testing "
            "random weights is pointless)"
        )
    if path.get("resume_state"):
        try:
            Checkpoint.read(path["resume_state"])
        except KTDNError as error:
            problems.append(f"path.resume_state: {error}")
    return problems


def _check_checkpoint(path: Path, network: dict[str, Any] | None, param_key: str | None) -> None:
    checkpoint = Checkpoint.read(path)
    checkpoint.select(param_key)
    if network is None:
        return
    from basicsr.utils.registry import ARCH_REGISTRY

    built = build_for_inspection(network, ARCH_REGISTRY)
    if built is None:
        return
    if isinstance(built, KTDN):
        # On the meta device they have no values.
        defaults = inspect.signature(KTDN).parameters
        for key in SETTINGS:
            value = torch.tensor(network.get(key, defaults[key].default)).view(1, 3, 1, 1)
            built.register_buffer(key, value, persistent=False)
    fit_weights(built, checkpoint, param_key)
