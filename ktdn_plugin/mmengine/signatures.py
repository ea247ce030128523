"""Checks what a config names: types that are registered, and arguments that they take."""

from __future__ import annotations

import contextlib
import difflib
import inspect
import io
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine import registry as root
from mmengine.hooks import EMAHook
from mmengine.registry import Registry

from ktdn_plugin.errors import did_you_mean
from ktdn_plugin.mmengine import registry as ours

INSIDE: dict[str, Registry] = {
    "data_preprocessor": root.MODELS,
    "dataset": root.DATASETS,
    "sampler": root.DATA_SAMPLERS,
    "batch_sampler": root.DATA_SAMPLERS,
    "collate_fn": root.FUNCTIONS,
    "optimizer": root.OPTIMIZERS,
    "vis_backends": root.VISBACKENDS,
    "pipeline": root.TRANSFORMS,
    "init_cfg": root.WEIGHT_INITIALIZERS,
    "metrics": root.METRICS,
}
"""Registries of what is named inside of something else."""

TYPED = {
    root.MODELS: (
        "student", "teacher", "generator", "pixel_loss", "laplacian_loss", "transfer_loss",
        "data_preprocessor",
    ),
    root.DATASETS: ("dataset", "sampler"),
    root.OPTIM_WRAPPERS: ("optimizer",),
}  # fmt: skip
"""Keys of a section of a registry that are given as a ``dict(type=...)`` or not at all."""

FILLED_IN = {
    "params", "optimizer", "dataset", "runner", "dataloader", "evaluator", "save_dir", "model",
}  # fmt: skip
"""Arguments that mmengine gives itself to what it builds, each where it is wanted."""

ALWAYS = {
    "type", "_scope_", "_delete_", "priority", "convert_to_iter_based", "paramwise_cfg",
    "constructor",
}  # fmt: skip
"""Keys that mmengine takes out before it builds something."""

SIMILAR = 0.8  # how alike an unknown key of a class that takes any is to be called a mistake


def check_section(node: Any, registry: Registry, where: str) -> list[str]:
    """Checks all that a section of a config builds.

    Args:
        node: The section.
        registry: What it is built from.
        where: Its key in the config.

    Returns:
        One line for each problem.
    """
    problems: list[str] = []
    if isinstance(node, Mapping):
        if "type" in node:
            problems += _check_one(node, registry, where)
        for key, value in node.items():
            if key in TYPED.get(registry, ()):
                problems += check_typed(value, f"{where}.{key}")
            problems += check_section(value, INSIDE.get(key, registry), f"{where}.{key}")
    elif isinstance(node, (list, tuple)):
        for number, value in enumerate(node):
            problems += check_section(value, registry, f"{where}.{number}")
    return problems


def check_typed(node: Any, where: str) -> list[str]:
    """Checks that a section says what it is, where there is one."""
    if isinstance(node, Mapping):
        return [] if "type" in node else [f"{where}.type: missing"]
    if isinstance(node, (str, int, float, list, tuple)):
        return [f"{where}: {node!r} must be a dict(type=...)"]
    return []


def check_arguments(
    node: Mapping[str, Any], item: Any, where: str, *, insists: bool = True
) -> list[str]:
    """Checks that a class or function takes the keys of a section.

    Args:
        node: The section.
        item: The class or function.
        where: The section's key in the config.
        insists: Whether what a class cannot do without has to be in the section.

    Returns:
        One line for each problem.
    """
    known, takes_any, required = _arguments(item)
    if item is EMAHook:  # hands on what it does not know
        average = find(node.get("ema_type", "ExponentialMovingAverage"), root.MODELS)
        if average is None:
            hint = _suggest(node["ema_type"], _names(root.MODELS))
            return [f"{where}.ema_type: there is no '{node['ema_type']}'{hint}"]
        more, takes_any, _ = _arguments(average)
        known = [*known, *more]
    given = [str(key) for key in node if key not in ALWAYS]
    problems = []
    for key in given:
        if key in known:
            continue
        near = difflib.get_close_matches(key, known, n=1, cutoff=SIMILAR)
        if not takes_any or near:
            name = getattr(item, "__name__", str(item))
            problems.append(f"{where}.{key}: {name} takes no '{key}'{did_you_mean(key, known)}")
    if insists and inspect.isclass(item):
        problems += [f"{where}.{key}: missing" for key in required if key not in node]
    return problems


def find(name: Any, registry: Registry) -> Any:
    """Finds what a name stands for under the default scope; None where it is unknown."""
    if not isinstance(name, str):  # configs that import their classes name them so
        return name if callable(name) else None
    # mmengine tells of a scope that is not there by several lines of its own.
    silence = io.StringIO()
    with (
        contextlib.redirect_stdout(silence),
        contextlib.redirect_stderr(silence),
        contextlib.suppress(ImportError, AttributeError, KeyError),
        registry.switch_scope_and_registry(None) as scoped,
    ):
        return scoped.get(name)
    return None


def _check_one(node: Mapping[str, Any], registry: Registry, where: str) -> list[str]:
    item = find(node["type"], registry)
    if item is None:
        hint = _suggest(node["type"], _names(registry))
        return [f"{where}.type: there is no '{node['type']}'{hint}"]
    # Of others' models nobody knows what those around them fill in.
    insists = registry is not root.MODELS or item in ours.MODELS.module_dict.values()
    return check_arguments(node, item, where, insists=insists)


def _suggest(name: Any, names: list[str]) -> str:
    """Suggests by the name itself, whichever scope it is in."""
    last = str(name).rpartition(".")[2]
    full = {one.rpartition(".")[2]: one for one in reversed(names)}
    if last in full:
        return f"; did you mean '{full[last]}'?"
    near = difflib.get_close_matches(last, full, n=1)
    return f"; did you mean '{full[near[0]]}'?" if near else did_you_mean(name, names)


def _names(registry: Registry) -> list[str]:
    """Lists the names that would have been found, those that need no scope first."""
    with registry.switch_scope_and_registry(None) as scoped:
        names = []
        parent: Registry | None = scoped
        while parent is not None:
            parent.import_from_location()
            names += list(parent.module_dict)
            parent = parent.parent
        for scope, child in scoped.root.children.items():
            if child is not scoped:
                child.import_from_location()
                names += [f"{scope}.{name}" for name in child.module_dict]
    return names


def _arguments(item: Any) -> tuple[list[str], bool, list[str]]:
    """Gives the arguments that an item takes, whether it takes any, and those it insists on."""
    known = list(getattr(item, "OPTIONS", ()))
    takes_any, required = False, []
    for number, function in enumerate(_constructors(item)):
        try:
            parameters = list(inspect.signature(function).parameters.values())
        except (ValueError, TypeError):  # built in
            return known, True, []
        named = [one for one in parameters if one.kind in (one.KEYWORD_ONLY, _BOTH)]
        known += [one.name for one in named if one.name != "self"]
        if number == 0:
            required = [
                one.name
                for one in named
                if one.default is one.empty and one.name not in {"self", *FILLED_IN}
            ]
        takes_any = any(one.kind is one.VAR_KEYWORD for one in parameters)
        if not takes_any:
            break
    return known, takes_any and not hasattr(item, "OPTIONS"), required


_BOTH = inspect.Parameter.POSITIONAL_OR_KEYWORD


def _constructors(item: Any) -> Iterator[Any]:
    if not inspect.isclass(item):
        yield item
        return
    for base in item.__mro__:
        if "__init__" in vars(base) and base is not object:
            yield vars(base)["__init__"]
