"""Opens the metrics that images are measured by: ours, torchmetrics' and pyiqa's."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from ktdn_plugin.errors import KTDNError, did_you_mean
from ktdn_plugin.metrics import MEASURES, ON_RGB, ON_Y, Measure

PERCEPTUAL = ("lpips", "dists")
"""The metrics that torchmetrics computes."""

INSTALL_PYIQA = "pip install pyiqa"


def open_measures(y: bool, metrics: Sequence[str], device: str) -> list[Measure]:
    """Opens metrics; those of a name that we have are ours, whatever pyiqa means by it.

    Args:
        y: Whether to measure PSNR and SSIM on the Y channel, too.
        metrics: Names of further metrics.
        device: Where networks among them run; ``auto`` is a GPU where there is one.

    Raises:
        KTDNError: If there is no such metric, or it cannot be prepared.
    """
    wanted = list(dict.fromkeys(metrics))
    pyiqas = [name for name in wanted if name not in MEASURES and name not in PERCEPTUAL]
    for name in pyiqas:  # before anything is loaded, and any licence is named
        _check_name(name, wanted)
    opened = [*ON_RGB, *(ON_Y if y else ())]
    opened += [MEASURES[name] for name in wanted if name in MEASURES]
    perceptual = [name for name in wanted if name in PERCEPTUAL]
    if not perceptual and not pyiqas:
        return list(dict.fromkeys(opened))
    import torch

    from ktdn_plugin.evaluation import perceptual_measures, pyiqa_measures

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    opened += perceptual_measures.open_measures(perceptual, device)
    return [*dict.fromkeys(opened), *pyiqa_measures.open_measures(pyiqas, device)]


def _check_name(name: str, wanted: Sequence[str]) -> None:
    """Refuses a metric that neither we have nor pyiqa, of which nothing is run."""
    ours = (*MEASURES, *PERCEPTUAL)
    spec = _find_pyiqa()
    if spec is None:
        hint = did_you_mean(name, ours)
        if hint:
            raise KTDNError(
                f"--metrics {name}: no such metric{hint} (others come from pyiqa, which is not "
                f"installed: {INSTALL_PYIQA})"
            )
        raise KTDNError(
            f"--metrics {' '.join(one for one in wanted if one not in ours)}: pyiqa is not "
            f"installed: {INSTALL_PYIQA} (its licence allows non-commercial use only)"
        )
    theirs = _pyiqa_names(spec)
    if theirs and name not in theirs:
        some = f", only {', '.join((*ours, *sorted(theirs)))[:200]}, ..."
        hint = did_you_mean(name, [*ours, *sorted(theirs)]) or some
        raise KTDNError(f"--metrics {name}: there is no such metric{hint}")


def _find_pyiqa() -> Path | None:
    try:
        spec = importlib.util.find_spec("pyiqa")
    except ValueError:  # something else is in its place
        return None
    places = spec.submodule_search_locations if spec else None
    return Path(places[0]) if places else None


def _pyiqa_names(folder: Path) -> set[str]:
    """Reads the names of pyiqa's metrics without running it; an empty set if it hides them."""
    try:
        tree = ast.parse((folder / "default_model_configs.py").read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "DEFAULT_CONFIGS":
            tables = (part for part in ast.walk(node.value) if isinstance(part, ast.Dict))
            keys = next(tables, ast.Dict([], [])).keys  # of the outermost
            return {str(key.value) for key in keys if isinstance(key, ast.Constant)}
    return set()
