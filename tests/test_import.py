"""What importing the package costs and loads, and which toolboxes its core knows: none."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import ktdn_plugin

PACKAGE = Path(ktdn_plugin.__file__).parent
TOOLBOXES = ("basicsr", "mmengine", "spandrel")
RIMS = (Path("basicsr"), Path("mmengine"), Path("comfyui/node"))
# Parts of rims that have to lie here: where mmengine looks for a scope, and spandrel's side.
OUTPOSTS = (Path("registry.py"), Path("spandrel.py"))
# These hand over to a rim, but only when they are called.
LAZY = (
    Path("__init__.py"),
    Path("bench/data.py"),
    Path("bench/data_share.py"),
    Path("bench/train.py"),
    Path("bench/transfer.py"),
    Path("commands/demo.py"),
    Path("commands/install_basicsr.py"),
    Path("commands/mmengine.py"),
    Path("commands/options.py"),
    Path("commands/train.py"),
    Path("haze/run.py"),
)
HEAVY = ("torch", "torchvision", "timm", "cv2", "numpy", "pydantic", *TOOLBOXES)


def core_files() -> list[Path]:
    files = [file.relative_to(PACKAGE) for file in PACKAGE.rglob("*.py")]
    rims = {*RIMS, *OUTPOSTS}
    return sorted(file for file in files if rims.isdisjoint((file, *file.parents)))


def module_name(file: Path) -> str:
    parts = ("ktdn_plugin", *file.with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


CORE_MODULES = [module_name(file) for file in core_files() if file.name != "__main__.py"]


def in_a_fresh_process(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("module", ["ktdn_plugin", "ktdn_plugin.cli", "ktdn_plugin.errors"])
def test_importing_loads_nothing_heavy_and_takes_no_time(module: str) -> None:
    seconds, loaded = json.loads(
        in_a_fresh_process(
            "import json, sys, time\n"
            "start = time.perf_counter()\n"
            f"import {module}\n"
            "seconds = time.perf_counter() - start\n"
            "print(json.dumps([seconds, list(sys.modules)]))"
        )
    )
    assert module in loaded
    assert [name for name in HEAVY if name in loaded] == []
    assert seconds < 0.3


@pytest.mark.parametrize(
    "code", ["from ktdn_plugin.photos import read_photo", "from ktdn_plugin import write_photo"]
)
def test_photographs_are_read_and_written_without_torch(code: str) -> None:
    loaded = json.loads(
        in_a_fresh_process(f"import json, sys\n{code}\nprint(json.dumps(list(sys.modules)))")
    )
    assert "ktdn_plugin.photos" in loaded
    assert [name for name in ("torch", "torchvision", *TOOLBOXES) if name in loaded] == []


def test_core_modules_load_no_toolbox() -> None:
    assert "ktdn_plugin.archs.ktdn_arch" in CORE_MODULES
    loaded = json.loads(
        in_a_fresh_process(
            "import importlib, json, sys\n"
            "loaded = {}\n"
            f"for module in {CORE_MODULES!r}:\n"
            "    importlib.import_module(module)\n"
            f"    loaded[module] = [name for name in {TOOLBOXES!r} if name in sys.modules]\n"
            "print(json.dumps(loaded))"
        )
    )
    assert [module for module, toolboxes in loaded.items() if toolboxes] == []


@pytest.mark.parametrize("file", [f for f in core_files() if f not in LAZY], ids=str)
def test_core_files_import_no_toolbox_and_no_rim(file: Path) -> None:
    assert [name for name in imports(file) if name.startswith(TOOLBOXES)] == []
    rims = tuple(module_name(rim) for rim in RIMS)
    assert [name for name in imports(file) if name.startswith(rims)] == []


def test_nothing_but_the_main_module_imports_the_commands() -> None:
    files = [file.relative_to(PACKAGE) for file in PACKAGE.rglob("*.py")]
    using = [f for f in files if any(n.startswith("ktdn_plugin.cli") for n in imports(f))]
    assert using == [Path("__main__.py")]


def imports(file: Path) -> list[str]:
    """Full names of all that a file imports, inside functions too."""
    names = []
    for node in ast.walk(ast.parse((PACKAGE / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute in this package"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


@pytest.mark.parametrize("name", ktdn_plugin.__all__)
def test_public_names_resolve(name: str) -> None:
    value = getattr(ktdn_plugin, name)
    assert value is getattr(ktdn_plugin, name)
    assert name in dir(ktdn_plugin)
    if name != "__version__":
        assert value.__name__ == name
        assert value.__module__.startswith("ktdn_plugin")


def test_star_import_and_names_that_are_there() -> None:
    names: dict[str, object] = {}
    exec("from ktdn_plugin import *", names)
    assert set(ktdn_plugin.__all__) <= set(names)
    assert len(set(ktdn_plugin.__all__)) == len(ktdn_plugin.__all__)
    for name in ("FAM", "EM", "KTDN", "LaplacianLoss", "KnowledgeTransferLoss", "register"):
        assert name in ktdn_plugin.__all__


def test_unknown_attribute() -> None:
    with pytest.raises(AttributeError, match="module 'ktdn_plugin' has no attribute 'KTDM'"):
        ktdn_plugin.KTDM  # noqa: B018
    with pytest.raises(ImportError, match="KTDM"):
        from ktdn_plugin import KTDM  # noqa: F401
    assert not hasattr(ktdn_plugin, "FeatureAttention")
