"""``ktdn options``, and the options files themselves: they load, and their names exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from ktdn_plugin.basicsr.options.loading import load_checked
from ktdn_plugin.option_files import options_folder

FILES = sorted(options_folder().rglob("*.yml"))


def test_options_are_copied_once(run, tmp_path: Path) -> None:
    assert run("options").returncode == 0
    copied = {path.relative_to(tmp_path / "options") for path in (tmp_path / "options").rglob("*")}
    assert Path("train_ktdn.yml") in copied
    assert Path("demo/test_ktdn.yml") in copied
    done = run("options")
    assert done.returncode == 1
    assert "options: already exists" in done.stderr


def test_the_schema_that_ships_is_the_one_that_is_checked_by(run) -> None:
    done = run("options", "--schema")
    assert done.returncode == 0
    assert done.stdout == (options_folder() / "schema.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_editors_find_the_schema(path: Path) -> None:
    found = re.match(r"# yaml-language-server: \$schema=(\S+)\n# ", path.read_text())
    if path.parent.name == "release":  # whose digests are in the weights that ship
        assert found is None
    else:
        assert (path.parent / found[1]).samefile(options_folder() / "schema.json")


def test_every_key_is_described() -> None:
    from ktdn_plugin.basicsr.options.schema import json_schema

    schema = json_schema()
    for section in (schema, *schema["$defs"].values()):
        for name, key in section["properties"].items():
            text = key.get("description", "")
            assert text.endswith((".", ")")), (section.get("title"), name, text)
            assert len(text.splitlines()) == 1


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_options_file_is_sound(path: Path) -> None:
    from ktdn_plugin import register
    from ktdn_plugin.basicsr.dry_run import dry_run

    is_train = path.name.startswith("train_")
    assert path.read_text().startswith("# ")
    opt = load_checked(path, is_train)
    for key in ("network_g", "network_t"):
        if isinstance(opt.get(key, {}).get("pretrained"), str):
            opt[key]["pretrained"] = False  # a file of one's own
    register()
    assert dry_run(opt, is_train) == []


CONFIGS = sorted(options_folder().glob("mmengine/**/train_*.py"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_config_is_sound(path: Path) -> None:
    from mmengine.registry import MODELS, DefaultScope

    from ktdn_plugin.mmengine.config import load_config
    from ktdn_plugin.mmengine.restorer import without_pretrained

    assert path.read_text().startswith("# ")
    cfg = load_config(path)
    with torch.device("meta"), DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = without_pretrained(cfg.model)
        # Its checkpoint is not there.
        model.update({key: None for key in ("teacher", "transfer_loss") if key in model})
        MODELS.build(model)


def test_configs_are_found() -> None:
    names = {str(path.relative_to(options_folder() / "mmengine")) for path in CONFIGS}
    assert names == {
        "train_teacher.py",
        "train_ktdn.py",
        "demo/train_teacher.py",
        "demo/train_ktdn.py",
    }


@pytest.mark.parametrize("name", ["train_teacher.py", "train_ktdn.py"])
def test_each_phase_has_its_own_split(name: str) -> None:
    from ktdn_plugin.mmengine.config import load_config

    cfg = load_config(options_folder() / "mmengine" / name)
    phases = ("train", "val", "test")
    splits = [cfg[f"{phase}_dataloader"].dataset.split for phase in phases]
    assert splits == [f"challenge-{phase}" for phase in phases]
    kinds = {cfg[f"{phase}_dataloader"].dataset.type for phase in phases}
    assert kinds == {"ClearImageDataset" if "teacher" in name else "PairedHazeDataset"}
