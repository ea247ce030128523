"""What a checkpoint file is and what it says about itself, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ktdn_plugin.archs import KTDN
from ktdn_plugin.checkpoints.checkpoint import Checkpoint
from ktdn_plugin.checkpoints.metadata import (
    AVERAGED,
    FOUND,
    UNUSED,
    Metadata,
    without_infinity,
)
from ktdn_plugin.checkpoints.networks import (
    complete_options,
    doubt,
    empty_network,
    without_settings,
)
from ktdn_plugin.console import print_lines, readable_size
from ktdn_plugin.errors import KTDNError, SeveralErrors, printable
from ktdn_plugin.model_zoo.weights import resolve_checkpoint
from ktdn_plugin.storage.state_dicts import StateDict, compare_keys
from ktdn_plugin.text_tables import table_lines

INPUT = "RGB in [0, 1], any size"

NAMES = {
    "ktdn": "ours (BasicSR's)",
    "published": "published (KTDN's authors')",
    "safetensors": "safetensors",
    "mmengine": "mmengine's",
    "bare": "a state dict by itself",
}


def describe_checkpoint(path: str | Path) -> dict[str, Any]:
    """Finds out what a checkpoint file is, without running anything in it.

    Args:
        path: The file, in any layout.

    Returns:
        ``file``, ``bytes`` and ``kind``: ``network``, or ``training state``, which has ``note``
        beside these. Of a network:

        - ``layout``, ``weights`` (``params``, ``params_ema`` or both), ``dtype``;
        - ``network`` as in the metadata; its ``encoder`` is None where neither metadata nor weights
          tell, and ``note`` says why; ``note`` also names encoders that would fit as well;
        - ``from_metadata``: which of these the metadata tells; ``found``: the rest, which is found
          from the weights or is the default, when the file was converted at the latest;
        - ``parameters``, batch statistics not counted;
        - ``metadata``, see :mod:`ktdn_plugin.checkpoints.metadata`; empty where there is none.

    Raises:
        KTDNError: If it is not a checkpoint of a KTDN; it says what it is.
    """
    path = resolve_checkpoint(path)
    checkpoint = Checkpoint.read(path)
    found: dict[str, Any] = {"file": str(path), "bytes": path.stat().st_size}
    if checkpoint.is_training_state:
        return {**found, "kind": "training state", "note": checkpoint.describe_state()}
    metadata, guesses = checkpoint.metadata, checkpoint.guesses
    given = checkpoint.network_options
    told = sorted(key for key in given if key not in guesses)
    weights = checkpoint.select_ktdn()
    found |= {
        "kind": "network",
        "layout": checkpoint.layout,
        "weights": list(checkpoint.param_keys),
        "dtype": _dtypes(weights),
    }
    try:
        completed = complete_options(weights, given, path, guesses)
    except KTDNError as error:
        return {
            **found,
            "network": {"type": KTDN.__name__, "encoder": None, **given},
            "from_metadata": told,
            "found": sorted(guesses),
            "parameters": None,
            "note": str(error).removeprefix(f"{path}: "),
            "metadata": metadata,
        }
    options = completed.options
    network = empty_network(options, path)
    problem = compare_keys(network.state_dict(), without_settings(weights))
    if problem:
        raise KTDNError(
            f"{path}: its weights do not fit KTDN with encoder '{options['encoder']}', which its "
            f"metadata names: {problem}"
        )
    found |= {
        "network": {"type": KTDN.__name__, **options},
        "from_metadata": told,
        "found": sorted(completed.found),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "metadata": metadata,
    }
    note = doubt(completed)
    return {**found, "note": note} if note else found


def _dtypes(weights: StateDict) -> str:
    kinds = {
        str(value.dtype).removeprefix("torch.")
        for value in weights.values()
        if value.is_floating_point()
    }
    return " and ".join(sorted(kinds))


def print_checkpoints(paths: Sequence[Path], as_json: bool = False) -> None:
    """Prints what checkpoint files are.

    Args:
        paths: The files.
        as_json: One JSON list, of what :func:`describe_checkpoint` gives for each.

    Raises:
        KTDNError: One line for each file that is not a checkpoint of a KTDN, after all others have
            been printed.
    """
    found: list[dict[str, Any]] = []
    problems: list[str] = []
    for path in paths:
        try:
            found.append(describe_checkpoint(path))
        except KTDNError as error:
            problems += error.lines
    if as_json:
        print_lines(*json.dumps(without_infinity(found), indent=2, allow_nan=False).split("\n"))
    elif found:
        for number, one in enumerate(found):
            print_lines(*([""] if number else []), *_lines(one))
    if problems:
        raise SeveralErrors(problems)


def _lines(found: Mapping[str, Any]) -> list[str]:
    rows = [("size on disk", readable_size(found["bytes"]))]
    if found["kind"] == "network":
        rows += [*_network_rows(found), *training_rows(found["metadata"])]
    if "note" in found:
        rows.append(("note", found["note"]))
    return [printable(found["file"]), *(f"  {line}" for line in table_lines(rows, "ll"))]


def _network_rows(found: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    network = found["network"]
    source = {
        key: "" if key in found["from_metadata"] else " (inferred from the weights)"
        for key in ("encoder", "reduction", "head", "widths")
    }
    averaged = " (averaged)" if found["metadata"].get(AVERAGED) is True else ""
    yield "layout", f"{NAMES[found['layout']]}, {' and '.join(found['weights'])}{averaged}"
    yield "architecture", network["type"]
    if network["encoder"] is None:
        yield "encoder", "unknown, see note"
    else:
        yield "encoder", network["encoder"] + source["encoder"]
    if "reduction" in network:
        yield "reduction", str(network["reduction"]) + source["reduction"]
    if "head" in network:
        yield "head", network["head"] + source["head"]
    if network.get("widths"):
        yield "widths", ", ".join(map(str, network["widths"])) + source["widths"]
    if found["parameters"] is not None:
        yield "parameters", f"{found['parameters']:,d}"
    yield "dtype", found["dtype"]
    yield "input", INPUT
    for key in ("mean", "std"):
        if key in network:
            default = _no_word(key, found["metadata"]) if key in found["found"] else ""
            yield key, ", ".join(f"{number:g}" for number in network[key]) + default


def _no_word(key: str, metadata: Metadata) -> str:
    told = key in _mapping(metadata.get("network"))
    return f" (the default; the file {'was converted from one that ' if told else ''}has none)"


def training_rows(metadata: Metadata) -> Iterable[tuple[str, str]]:
    """Lists what metadata says of the training: names and texts."""
    if set(metadata) <= {"network", AVERAGED, FOUND, UNUSED}:
        yield "training", "not recorded in the file"
        return
    programs = [str(metadata[key]) for key in ("toolbox",) if key in metadata]
    if "ktdn_plugin" in metadata:
        programs.insert(0, f"ktdn-plugin {metadata['ktdn_plugin']}")
    if programs:
        yield "trained with", ", ".join(programs)
    run = _mapping(metadata.get("run"))
    if run:
        stage = f", {run['stage']} stage" if run.get("stage") else ""
        yield "run", f"{run.get('name', 'without a name')}{stage}"
        yield "iteration", f"{run.get('iteration', '?')} of {run.get('total', '?')}"
        if run.get("options"):
            yield "options file", f"SHA-256 {run['options']}"
    data = _mapping(metadata.get("data"))
    for key, name in (("train", "trained on"), ("val", "validated on")):
        sets = data.get(key)
        for one in sets if isinstance(sets, list) else ():
            yield name, _set(_mapping(one))
    metrics = _mapping(metadata.get("metrics"))
    for name, row in _mapping(metrics.get("last")).items():
        row = _mapping(row)
        yield "last figures", f"{name}: {_figures(row.get('figures'))}{_when(row)}"
    for name, row in _mapping(metrics.get("best")).items():
        texts = (
            f"{metric} {_number(_mapping(one).get('value'))}{_when(_mapping(one))}"
            for metric, one in _mapping(row).items()
        )
        yield "best figures", f"{name}: {', '.join(texts)}"


def _mapping(value: Any) -> Mapping[str, Any]:
    # Others may have written the metadata: nothing is taken for granted.
    return value if isinstance(value, Mapping) else {}


def _set(one: Mapping[str, Any]) -> str:
    split = f"split {one['split']}" if one.get("split") else "unnamed split"
    count = f", {one['images']} images" if "images" in one else ""
    digest = f", fingerprint {one['fingerprint']}" if one.get("fingerprint") else ""
    return f"{one.get('name', 'a set')}: {split}{count}{digest}"


def _when(row: Mapping[str, Any]) -> str:
    key = next((key for key in ("iteration", "epoch") if key in row), None)
    return f" ({key} {row[key]})" if key else ""


def _figures(figures: Any) -> str:
    return ", ".join(f"{name} {_number(value)}" for name, value in _mapping(figures).items())


def _number(value: Any) -> str:
    return f"{value:.4f}" if type(value) in (int, float) else str(value)
