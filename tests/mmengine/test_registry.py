"""Names in mmengine's registries, looked up in programs of their own: registries are global."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def run_program(text: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", text], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    # mmengine says so of each name that it does not find.
    assert "Failed to" not in done.stdout + done.stderr
    return done.stdout


def test_full_names_need_no_import(tmp_path: Path) -> None:
    run_program(
        """
import sys
from mmengine.registry import DATASETS, HOOKS, LOOPS, METRICS, MODELS, OPTIM_WRAPPERS
assert not any(name.startswith("ktdn_plugin") for name in sys.modules)
network = MODELS.build(dict(type="ktdn_plugin.KTDN", encoder="test_convnext"))
from ktdn_plugin import KTDN
assert type(network) is KTDN
assert METRICS.build(dict(type="ktdn_plugin.PSNR")).crop_border == 0
for registry, name in (
    (HOOKS, "TeacherCheckHook"), (LOOPS, "SeededTrainLoop"), (DATASETS, "PairedHazeDataset"),
    (OPTIM_WRAPPERS, "BFloat16OptimWrapper"),
):
    assert registry.get(f"ktdn_plugin.{name}").__name__ == name
""",
        tmp_path,
    )


def test_short_names_under_the_scope(tmp_path: Path) -> None:
    """Ours come first, and mmengine's own are found as before."""
    run_program(
        """
from mmengine import registry
from mmengine.registry import DefaultScope
DefaultScope.get_instance("test", scope_name="ktdn_plugin")
network = registry.MODELS.build(dict(type="KTDN", encoder="test_convnext"))
registry.MODELS.build(dict(type="EM", in_channels=16, out_channels=3))
registry.MODELS.build(dict(type="FAM", channels=16))
for name in ("PixelLoss", "LaplacianLoss", "KnowledgeTransferLoss"):
    assert type(registry.MODELS.build(dict(type=name))).__module__.startswith("ktdn_plugin.losses")
import mmengine.hooks, mmengine.optim, mmengine.runner, mmengine.visualization
for owner, name in (
    ("OPTIMIZERS", "Adam"), ("LOOPS", "ValLoop"), ("HOOKS", "CheckpointHook"),
    ("PARAM_SCHEDULERS", "CosineAnnealingLR"), ("VISBACKENDS", "LocalVisBackend"),
    ("OPTIM_WRAPPERS", "AmpOptimWrapper"), ("DATA_SAMPLERS", "DefaultSampler"),
    ("FUNCTIONS", "pseudo_collate"), ("MODELS", "ExponentialMovingAverage"),
    ("LOG_PROCESSORS", "LogProcessor"), ("VISUALIZERS", "Visualizer"),
):
    with getattr(registry, owner).switch_scope_and_registry(None) as scoped:
        assert scoped.scope == "ktdn_plugin", owner
        assert scoped.get(name).__name__ == name, name
""",
        tmp_path,
    )


def test_core_is_registered_exactly_once(tmp_path: Path) -> None:
    run_program(
        """
from collections import Counter
import ktdn_plugin.blocks, ktdn_plugin.losses, ktdn_plugin.mmengine.registry as ours
from ktdn_plugin import KTDN
from mmengine.registry import Registry
expected = {"KTDN": KTDN}
expected |= {name: getattr(ktdn_plugin.blocks, name) for name in ("FAM", "EM")}
for name in ("PixelLoss", "LaplacianLoss", "KnowledgeTransferLoss"):
    expected[name] = getattr(ktdn_plugin.losses, name)
names = Counter()
for registry in [item for item in vars(ours).values() if isinstance(item, Registry)]:
    registry.import_from_location()
    assert registry.scope == "ktdn_plugin"
    assert all(name == item.__name__ for name, item in registry.module_dict.items())
    names.update(list(registry.module_dict))
assert set(names.values()) == {1}, names
for name, item in expected.items():
    assert ours.MODELS.module_dict[name] is item, name
assert {"KTDNTeacher", "KTDNDistiller", "PSNR", "SSIM", "SeededSampler"} <= set(names)
""",
        tmp_path,
    )


def test_custom_imports(tmp_path: Path) -> None:
    (tmp_path / "config.py").write_text(
        "custom_imports = dict(imports=['ktdn_plugin.mmengine.models'])\n"
        "model = dict(type='ktdn_plugin.KTDNTeacher')\n"
    )
    run_program(
        """
import sys
from mmengine.config import Config
from mmengine.registry import MODELS
cfg = Config.fromfile("config.py")
assert "ktdn_plugin.mmengine.registry" in sys.modules
assert MODELS.get(cfg.model.type).__name__ == "KTDNTeacher"
""",
        tmp_path,
    )


def test_the_package_alone_loads_no_toolbox(tmp_path: Path) -> None:
    run_program(
        """
import sys
import ktdn_plugin, ktdn_plugin.cli
loaded = {name.partition(".")[0] for name in sys.modules}
assert not loaded & {"mmengine", "basicsr"}, loaded & {"mmengine", "basicsr"}
""",
        tmp_path,
    )
