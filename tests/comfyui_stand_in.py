"""A stand-in for ComfyUI, which is no package that could be installed: what a node meets of it.

Written from its source, in words of our own: ``folder_paths`` (the folders of models, lists of
files, full paths), ``comfy.model_management`` and ``comfy.utils.ProgressBar`` as far as nodes use
them, how a folder in ``custom_nodes`` is imported, what is asked of the classes found there, and
how a node is run.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

EXTENSIONS = {".ckpt", ".pt", ".pt2", ".bin", ".pth", ".safetensors", ".pkl", ".sft"}


class ComfyUI:
    """One ComfyUI: a folder, and the modules that its nodes import.

    Args:
        root: Its folder; made.
        monkeypatch: Puts the modules into ``sys.modules`` for the time of a test.
    """

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.nodes: dict[str, type] = {}
        self.names: dict[str, str] = {}
        self.progress: list[tuple[int, int]] = []
        self.freed: list[tuple[int, torch.device]] = []
        self.interrupted = False
        self._monkeypatch = monkeypatch
        for folder in ("custom_nodes", "models/upscale_models"):
            (root / folder).mkdir(parents=True)
        modules = {"folder_paths": self._folder_paths(), **self._comfy()}
        for name, module in modules.items():
            monkeypatch.setitem(sys.modules, name, module)

    def _folder_paths(self) -> ModuleType:
        module = ModuleType("folder_paths")
        models = self.root / "models"
        folders: dict[str, tuple[list[str], set[str]]] = {
            "upscale_models": ([str(models / "upscale_models")], EXTENSIONS)
        }

        def add_model_folder_path(name: str, path: str, is_default: bool = False) -> None:
            if name not in folders:
                folders[name] = ([path], set())
            elif path not in folders[name][0]:
                folders[name][0].insert(0 if is_default else len(folders[name][0]), path)

        def get_filename_list(name: str) -> list[str]:
            paths, extensions = folders[name]
            found = set()
            for folder in map(Path, paths):
                for file in folder.rglob("*"):  # of a folder that is not there: nothing
                    if file.is_file() and (not extensions or file.suffix.lower() in extensions):
                        found.add(str(file.relative_to(folder)))
            return sorted(found)

        def get_full_path(name: str, file: str) -> str | None:
            for folder in map(Path, folders[name][0]):
                if (folder / file).is_file():
                    return str(folder / file)
            return None

        module.models_dir = str(models)
        module.folder_names_and_paths = folders
        module.add_model_folder_path = add_model_folder_path
        module.get_filename_list = get_filename_list
        module.get_full_path = get_full_path
        return module

    def _comfy(self) -> dict[str, ModuleType]:
        package, management, utils = map(
            ModuleType, ("comfy", "comfy.model_management", "comfy.utils")
        )
        stand_in = self

        class ProgressBar:
            def __init__(self, total: int) -> None:
                self.total, self.done = total, 0

            def update(self, value: int) -> None:
                self.done += value
                stand_in.progress.append((self.done, self.total))

        def throw_exception_if_processing_interrupted() -> None:
            if self.interrupted:
                raise InterruptedError("the user has stopped the queue")

        management.get_torch_device = lambda: torch.device("cpu")
        management.free_memory = lambda need, device: self.freed.append((need, device))
        management.throw_exception_if_processing_interrupted = (
            throw_exception_if_processing_interrupted
        )
        utils.ProgressBar = ProgressBar
        package.model_management, package.utils = management, utils
        package.__path__ = []
        return {"comfy": package, "comfy.model_management": management, "comfy.utils": utils}

    def load_custom_nodes(self) -> dict[str, str]:
        """Imports every folder in ``custom_nodes``; gives the errors by folder."""
        errors = {}
        for folder in sorted((self.root / "custom_nodes").iterdir()):
            if folder.name == "__pycache__" or folder.name.endswith(".disabled"):
                continue
            # The name of the module is the whole path, without dots.
            name = str(folder).replace(".", "_x_")
            try:
                spec = importlib.util.spec_from_file_location(name, folder / "__init__.py")
                module = importlib.util.module_from_spec(spec)
                self._monkeypatch.setitem(sys.modules, name, module)
                spec.loader.exec_module(module)
            except Exception as error:
                errors[folder.name] = str(error)
                continue
            for node, node_class in (getattr(module, "NODE_CLASS_MAPPINGS", None) or {}).items():
                self.nodes[node] = node_class
                node_class.RELATIVE_PYTHON_MODULE = f"custom_nodes.{folder.name}"
            self.names.update(getattr(module, "NODE_DISPLAY_NAME_MAPPINGS", None) or {})
        return errors

    def describe(self, node: str) -> dict[str, Any]:
        """Gives what the page is told of a node."""
        found = self.nodes[node]
        inputs = found.INPUT_TYPES()
        return {
            "input": inputs,
            "input_order": {kind: list(values) for kind, values in inputs.items()},
            "output": found.RETURN_TYPES,
            "output_name": getattr(found, "RETURN_NAMES", found.RETURN_TYPES),
            "display_name": self.names.get(node, node),
            "description": getattr(found, "DESCRIPTION", ""),
            "category": found.CATEGORY,
        }

    def run(self, node: str, **values: Any) -> tuple:
        """Validates a node's inputs and runs it, as a queued prompt does."""
        found = self.nodes[node]
        inputs = found.INPUT_TYPES()
        known = {**inputs["required"], **inputs.get("optional", {})}
        assert set(inputs["required"]) <= set(values), "required_input_missing"
        for name, value in values.items():
            kind, options = (*known[name], {})[:2]
            if isinstance(kind, list):
                assert value in kind, f"value_not_in_list: {name}: {value}"
            elif kind == "FLOAT":
                assert options["min"] <= float(value) <= options["max"], name
        if hasattr(found, "IS_CHANGED"):
            # Inputs that come from other nodes are not known yet.
            known_now = {key: None if key == "image" else one for key, one in values.items()}
            found.IS_CHANGED(**known_now)
        with torch.inference_mode():
            result = getattr(found(), found.FUNCTION)(**values)
        assert isinstance(result, tuple)
        assert len(result) == len(found.RETURN_TYPES)
        return result
