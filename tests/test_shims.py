"""KTDN in traiNNer-redux and neosr: the file that is written, found and called as they do.

traiNNer-redux is in no package index, and neosr is there for other Pythons and with CUDA alone: the
packages here are stand-ins of their registries, of how they find ``*_arch.py`` files and of how
they build networks.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from cyclopts import App
from helpers import ENCODER

from ktdn_plugin import KTDN, KTDNError
from ktdn_plugin.cli import main
from ktdn_plugin.commands import shim
from ktdn_plugin.shims.writing import PROGRAMS

REGISTRY = """
class Registry:
    def __init__(self, name):
        self._name = name
        self._objects = {}

    def _key(self, name):
        return name.lower() if IGNORES_CASE else name

    def register(self, obj=None, suffix=None):
        if obj is None:
            def decorate(function):
                self._add(function)
                return function
            return decorate
        self._add(obj)

    def _add(self, obj):
        key = self._key(obj.__name__)
        assert key not in self._objects, f"'{key}' was already registered in '{self._name}'!"
        self._objects[key] = obj

    def get(self, name, suffix="SUFFIX"):
        found = self._objects.get(self._key(name)) or self._objects.get(f"{name}_{suffix}")
        if found is None:
            raise KeyError(f"No object named '{name}' found in '{self._name}' registry!")
        return found

    def __contains__(self, name):
        return name in self._objects

ARCH_REGISTRY = Registry("arch")
"""

BUILDER = """
import importlib
from copy import deepcopy
from pathlib import Path

from PACKAGE.utils.registry import ARCH_REGISTRY

for file in sorted(Path(__file__).parent.rglob("*_arch.py")):
    importlib.import_module(f"PACKAGE.archs.{file.stem}")


def build_network(opt):
    opt = deepcopy(opt)
    return ARCH_REGISTRY.get(opt.pop("type"))(**opt)
"""

OTHER = """
from torch import nn
from PACKAGE.utils.registry import ARCH_REGISTRY

@ARCH_REGISTRY.register()
class Plain(nn.Module):
    def __init__(self, scale=4):
        super().__init__()
"""

OPTIONS = """
SCALE = [1]

def net_opt():
    return SCALE[0], True
"""

Build = Callable[[dict[str, Any]], torch.nn.Module]


class Checkout:
    """A training program as ``git clone`` leaves it; ``build`` is its trainer's call."""

    def __init__(self, root: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.name, self.package = root, name, PROGRAMS[name].package
        archs, utils = root / self.package / "archs", root / self.package / "utils"
        case = str(name == "trainner-redux")
        files = {
            archs.parent / "__init__.py": "",
            utils / "__init__.py": "",
            utils / "registry.py": f"IGNORES_CASE = {case}\n{REGISTRY}",
            archs / "__init__.py": BUILDER,
            archs / "arch_util.py": OPTIONS,
            archs / "plain_arch.py": OTHER,
        }
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.replace("PACKAGE", self.package).replace("SUFFIX", self.package))
        self.file = archs / "ktdn_arch.py"
        monkeypatch.syspath_prepend(str(root))
        self.forget(monkeypatch)

    def forget(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for module in [name for name in sys.modules if name.split(".")[0] == self.package]:
            monkeypatch.delitem(sys.modules, module)

    def build(self, network: dict[str, Any], scale: int = 1) -> torch.nn.Module:
        archs = importlib.import_module(f"{self.package}.archs")
        if self.name == "neosr":
            importlib.import_module(f"{self.package}.archs.arch_util").SCALE[0] = scale
            return archs.build_network(network)
        return archs.build_network({**network, "scale": scale})


@pytest.fixture(params=PROGRAMS)
def checkout(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Checkout:
    made = Checkout(tmp_path / "checkout", request.param, monkeypatch)
    yield made
    made.forget(monkeypatch)


def test_networks_are_built_as_options_say(
    checkout: Checkout, capsys: pytest.CaptureFixture
) -> None:
    assert main(["shim", str(checkout.root)]) == 0
    assert str(checkout.file) in capsys.readouterr().out
    network = checkout.build({"type": "KTDN", "encoder": ENCODER, "mean": [0.5, 0.5, 0.5]})
    assert type(network) is KTDN
    assert network.encoder.name == ENCODER
    assert network.mean.flatten().tolist() == [0.5] * 3
    image = torch.rand(2, 3, 33, 47)
    result = network(image)
    assert isinstance(result, torch.Tensor)
    assert result.shape == image.shape
    result.mean().backward()
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)

    assert checkout.build({"type": "ktdn_tiny", "reduction": 4}).encoder.name.startswith("mobile")
    assert type(checkout.build({"type": "Plain"}, scale=4)).__name__ == "Plain"


@pytest.mark.parametrize("name", ["KTDN", "ktdn", "ktdn_small", "ktdn_tiny"])
def test_a_different_scale_is_one_clear_error(name: str, checkout: Checkout) -> None:
    assert main(["shim", str(checkout.root)]) == 0
    for scale in (2, 4):
        with pytest.raises(
            KTDNError, match=rf"(?i)^{name}: scale: {scale}: .* set scale: 1"
        ) as caught:
            checkout.build({"type": name}, scale)
        assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(KTDNError, match="scale: 3"):
        checkout.build({"type": "KTDN"}, 3)


def test_unknown_options_are_errors(checkout: Checkout) -> None:
    assert main(["shim", str(checkout.root)]) == 0
    with pytest.raises(KTDNError, match="'encodr'; did you mean 'encoder'"):
        checkout.build({"type": "KTDN", "encodr": ENCODER})
    with pytest.raises(KTDNError, match=r"'encoder'.*use KTDN"):
        checkout.build({"type": "ktdn_tiny", "encoder": ENCODER})
    with pytest.raises(KTDNError, match="not a timm model"):
        checkout.build({"type": "KTDN", "encoder": "resnet_18"})
    with pytest.raises(KeyError, match="KTDM"):
        checkout.build({"type": "KTDM"})


def test_a_scale_that_is_handed_over_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = Checkout(tmp_path, "neosr", monkeypatch)
    assert main(["shim", str(tmp_path)]) == 0
    network = checkout.build({"type": "KTDN", "encoder": ENCODER, "scale": 1}, scale=4)
    assert type(network) is KTDN
    with pytest.raises(KTDNError, match="scale: 2"):
        checkout.build({"type": "KTDN", "encoder": ENCODER, "scale": 2}, scale=1)
    checkout.forget(monkeypatch)


def test_the_file_is_found_a_place_by_any_folder_of_the_program(checkout: Checkout) -> None:
    for folder in (checkout.root, checkout.root / checkout.package, checkout.file.parent):
        assert main(["shim", str(folder), "--for", checkout.name]) == 0
        assert checkout.file.is_file()
        checkout.file.unlink()


def test_other_folders_need_the_programs_name(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["shim", str(tmp_path)]) == 1
    assert "neither traiNNer-redux nor neosr" in capsys.readouterr().err
    assert main(["shim", str(tmp_path / "none"), "--for", "neosr"]) == 1
    assert "none: no such folder" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert main(["shim", str(tmp_path), "--for", "neosr"]) == 0
    assert "from neosr.utils.registry" in (tmp_path / "ktdn_arch.py").read_text()


def test_the_wrong_programs_name(checkout: Checkout, capsys: pytest.CaptureFixture) -> None:
    other = next(name for name in PROGRAMS if name != checkout.name)
    assert main(["shim", str(checkout.root), "--for", other]) == 1
    assert f"this is {checkout.name}, not {other}" in capsys.readouterr().err
    assert not checkout.file.exists()


def test_what_is_there_is_kept(checkout: Checkout, capsys: pytest.CaptureFixture) -> None:
    checkout.file.write_text("# somebody's own\n")
    assert main(["shim", str(checkout.root), "--overwrite"]) == 1
    assert "was not written by 'ktdn shim'; move it away" in capsys.readouterr().err
    assert checkout.file.read_text() == "# somebody's own\n"

    checkout.file.unlink()
    assert main(["shim", str(checkout.root)]) == 0
    text = checkout.file.read_text()
    checkout.file.write_text(f"{text}\n# mine\n")
    assert main(["shim", str(checkout.root)]) == 1
    assert "already exists; --overwrite replaces it" in capsys.readouterr().err
    assert checkout.file.read_text().endswith("# mine\n")
    assert main(["shim", str(checkout.root), "--overwrite"]) == 0
    assert checkout.file.read_text() == text
    assert {path.name for path in checkout.file.parent.glob("*ktdn*")} == {"ktdn_arch.py"}


def test_a_folder_that_cannot_be_written(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    before = set(checkout.file.parent.iterdir())
    monkeypatch.setattr(os, "fsync", full)
    assert main(["shim", str(checkout.root)]) == 1
    assert "ktdn_arch.py: cannot be saved (No space left on device)" in capsys.readouterr().err
    assert set(checkout.file.parent.iterdir()) == before


def test_one_line_where_the_package_is_missing(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["shim", str(checkout.root)]) == 0
    monkeypatch.setitem(sys.modules, "ktdn_plugin.shims.registration", None)
    with pytest.raises(ImportError, match=r"ktdn_arch\.py needs the package ktdn-plugin in "):
        checkout.build({"type": "KTDN", "encoder": ENCODER})


def test_the_real_command_line(run, tmp_path: Path) -> None:
    (tmp_path / "traiNNer" / "archs").mkdir(parents=True)
    done = run("shim", ".")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "traiNNer" / "archs" / "ktdn_arch.py").is_file()
    assert done.stdout.startswith("traiNNer/archs/ktdn_arch.py: KTDN for trainner-redux")


def test_the_flags_name_every_program() -> None:
    arguments = App(default_command=shim.shim).assemble_argument_collection()
    (program,) = [argument for argument in arguments if argument.name == "--for"]
    assert program.get_choices() == tuple(PROGRAMS)
