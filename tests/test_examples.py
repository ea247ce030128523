"""The examples in docstrings: what people call has one, and each gives what it says."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import ktdn_plugin

PACKAGE = Path(ktdn_plugin.__file__).parent
NONE_NEEDED = {"KTDNError", "__version__", "register"}
"""An exception, a text, and what README shows in use."""

MODULES = [
    ".".join(("ktdn_plugin", *file.relative_to(PACKAGE).with_suffix("").parts))
    for file in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in file.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("name", sorted(set(ktdn_plugin.__all__) - NONE_NEEDED))
def test_public_functions_have_an_example(name: str) -> None:
    text = getattr(ktdn_plugin, name).__doc__
    assert "Example:" in text
    assert ">>> " in text


@pytest.mark.parametrize("name", MODULES)
def test_examples_give_what_they_say(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    public = {one: getattr(ktdn_plugin, one) for one in ktdn_plugin.__all__}
    names: dict[str, Any] = {"np": np, "nn": nn, "torch": torch, **public, **vars(module)}
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for found in finder.find(module, name, globs=names):
        runner.run(found)
    assert runner.summarize(verbose=False).failed == 0
    assert runner.tries
