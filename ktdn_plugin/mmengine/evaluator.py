"""Evaluates with any metrics: if one fails, validation continues without it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.logging import MMLogger
from mmengine.structures import BaseDataElement

from ktdn_plugin.errors import KTDNError, describe_error, is_out_of_memory
from ktdn_plugin.metrics import describe_missing


class TolerantEvaluator(Evaluator):
    """mmengine's evaluator, tolerating and naming metrics that raise or return NaN.

    Their figure is None: ``save_best`` skips it, and logs stay valid JSON.

    Args:
        metrics: The metrics, or the configs to build them from.
    """

    def __init__(self, metrics: dict[str, Any] | BaseMetric | Sequence[Any]) -> None:
        super().__init__(metrics)
        self._missing: dict[str, list[tuple[str, str]]] = {}
        for metric in self.metrics:
            # Others wait for the first process's figures: it must not fail before sending them.
            guarded: Any = self._guarded(type(metric).__name__, metric.compute_metrics)
            metric.compute_metrics = guarded

    def process(self, data_samples: Sequence[BaseDataElement], data_batch: Any = None) -> None:
        """Passes a batch's results to each metric."""
        samples = [
            one.to_dict() if isinstance(one, BaseDataElement) else one for one in data_samples
        ]
        names = [str(one.get("name", "")) for one in samples]
        for metric in self.metrics:
            try:
                metric.process(data_batch, samples)
            except Exception as error:  # a metric may raise anything
                missing = self._missing.setdefault(type(metric).__name__, [])
                missing += [(name, _reason(error)) for name in names]

    def evaluate(self, size: int) -> dict[str, Any]:
        """Returns the figures over all images; None for a metric without one."""
        metrics: dict[str, Any] = {}
        for metric in self.metrics:
            figures = metric.evaluate(size)
            for name in figures:
                if name in metrics:
                    raise ValueError(
                        f"There are multiple evaluation results with the same metric name {name}. "
                        "Please make sure all metrics have different prefixes."
                    )
            metrics.update(figures)
        for name, missing in self._missing.items():
            MMLogger.get_current_instance().warning(describe_missing(name, missing, size))
        self._missing = {}
        for name, value in metrics.items():
            if isinstance(value, float) and not math.isfinite(value):
                MMLogger.get_current_instance().warning(f"{name} is {value}: it is not logged")
                metrics[name] = None
        return metrics

    def _guarded(
        self, name: str, compute: Callable[[list[Any]], dict[str, Any]]
    ) -> Callable[[list[Any]], dict[str, Any]]:
        def guarded(results: list[Any]) -> dict[str, Any]:
            try:
                return compute(results)
            except Exception as error:  # a metric may raise anything
                MMLogger.get_current_instance().warning(f"{name}: no value ({_reason(error)})")
                return {name: None}

        return guarded


def _reason(error: Exception) -> str:
    if isinstance(error, KTDNError) or is_out_of_memory(error):
        raise error
    return describe_error(error)


def tolerant(evaluator: Any) -> Any:
    """Returns an evaluator for a config's metrics, keeping one that the config names itself."""
    if isinstance(evaluator, (list, tuple)):
        return TolerantEvaluator(evaluator)
    if isinstance(evaluator, dict) and "metrics" not in evaluator:
        return TolerantEvaluator(evaluator)
    return evaluator
