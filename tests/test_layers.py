"""The house has floors: what a package imports lies below it, and nothing imports in a circle.

Only imports that run when a module is imported count: what a function imports when it is called may
lie above, as the commands' own work does.
"""

from __future__ import annotations

import ast
import graphlib
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import ktdn_plugin

ROOT = Path(ktdn_plugin.__file__).parent
UP = {("registry", "mmengine")}
"""The one arrow up: mmengine looks for a scope's registries in ``SCOPE.registry``."""


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in ROOT.rglob("*.py")}


def imported(node: ast.AST) -> Iterator[str]:
    """Lists what is imported where a module is, functions and type checking left out."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module:
            for alias in child.names:
                full = f"{child.module}.{alias.name}"
                yield full if full in MODULES else child.module
        yield from imported(child)


def package_of(module: str) -> str:
    return [*module.split("."), "__init__"][1]


def arrows() -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for module, path in MODULES.items():
        for other in imported(ast.parse(path.read_text(encoding="utf-8"))):
            pair = package_of(module), package_of(other)
            if other in MODULES and pair[0] != pair[1] and pair not in UP:
                found[pair[0]].add(pair[1])
    return found


def test_no_circle() -> None:
    order = list(graphlib.TopologicalSorter(arrows()).static_order())
    assert order.index("storage") < order.index("archs") < order.index("checkpoints")


def test_networks_import_nothing_above_them() -> None:
    found = arrows()
    assert found["blocks"] == set()
    assert found["archs"] == {"blocks", "errors", "storage"}
    assert found["storage"] == {"errors"}
    assert found["photos"] == {"errors", "storage", "system_memory"}


def test_the_map_has_everything_in_its_order() -> None:
    _, listed, _ = (ROOT / "README.md").read_text(encoding="utf-8").split("```", 2)
    floors: dict[str, int] = {}
    for number, line in enumerate(listed.splitlines()):
        for name in re.match(r"(?:\w+(?:/|\.py) *)*", line)[0].split():
            floors[name.removesuffix(".py").removesuffix("/")] = number
    there = {package_of(module) for module in MODULES} - {"__init__", "__main__", "registry"}
    assert set(floors) == there
    above = {
        (package, other)
        for package, others in arrows().items()
        for other in others - {"__init__", "registry"}
        if package in floors and floors[other] > floors[package]
    }
    assert not above
