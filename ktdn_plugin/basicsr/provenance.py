"""Describes a run in its checkpoints: its name, data, iteration and figures."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from ktdn_plugin.basicsr.options import Options
from ktdn_plugin.checkpoints.metadata import Metadata, describe_training


class Provenance:
    """Tracks a training, for its checkpoints' metadata.

    Args:
        opt: The run's options.
        text: The options file's text, before any ``--force_yml``.
        train_set: The training images.
        val_sets: The validation sets.
        state: The state that the run resumes from, or None.

    Attributes:
        iteration: The last finished iteration.
        last: Validation set to the ``iteration`` of its last validation, and its ``figures``.
    """

    def __init__(
        self,
        opt: Options,
        text: str,
        train_set: Any,
        val_sets: Sequence[Any],
        state: Mapping[str, Any] | None,
    ) -> None:
        state = state or {}
        self.name: str = opt["name"]
        self.options = hashlib.sha256(text.encode()).hexdigest()
        self.total: int = opt["train"]["total_iter"]
        self.data = {
            "train": [describe_set(train_set)],
            "val": [describe_set(one) for one in val_sets],
        }
        self.iteration: int = state.get("iter", 0)
        self.last: dict[str, Any] = dict(state.get("last_metric_results") or {})

    def validated(self, name: str, figures: Mapping[str, float]) -> None:
        """Records a validation set's figures."""
        if figures:
            plain = {metric: float(value) for metric, value in figures.items()}
            self.last[name] = {"iteration": self.iteration, "figures": plain}


def describe_set(dataset: Any) -> dict[str, Any]:
    """Returns what identifies a data set: name, split, fingerprint, number of images."""
    from ktdn_plugin.basicsr.validation import identity_of

    return {"name": dataset.opt["name"], **identity_of(dataset), "images": len(dataset)}


def last_of(model: Any) -> dict[str, Any]:
    """Returns each validation set's last figures, if the model is in one of our runs."""
    provenance = getattr(model, "provenance", None)
    return dict(provenance.last) if provenance is not None else {}


def describe(model: Any, network: nn.Module, iteration: int | str) -> Metadata:
    """Returns the metadata of a checkpoint.

    Args:
        model: A BasicSR model; outside our runs, less is known about it.
        network: The network being saved, without a wrapper.
        iteration: Its iteration, or whatever else the file is named after.

    Returns:
        See :mod:`ktdn_plugin.checkpoints.metadata`.
    """
    import basicsr  # importable by now, see ktdn_plugin.basicsr.compat

    toolbox = f"BasicSR {basicsr.__version__}"
    provenance: Provenance | None = getattr(model, "provenance", None)
    if provenance is None:
        return describe_training(network, toolbox)
    numbered = isinstance(iteration, int) and iteration >= 0
    run = {
        "name": provenance.name,
        "iteration": iteration if numbered else provenance.iteration,
        "total": provenance.total,
        "options": provenance.options,
    }
    stage = getattr(model, "STAGE", "")
    best = {
        name: {
            metric: {"iteration": int(row["iter"]), "value": float(row["val"])}
            for metric, row in metrics.items()
        }
        for name, metrics in getattr(model, "best_metric_results", {}).items()
    }
    return describe_training(
        network,
        toolbox,
        run={**run, "stage": stage} if stage else run,
        data=provenance.data,
        metrics={"last": provenance.last, "best": best},
    )
