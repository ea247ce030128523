"""Every shipped config with seeded mistakes: each is taken or refused by its lines.

``KTDN_MUTATIONS=3000`` tries so many of each file. Of those that are taken every fifth goes through
all that mmengine's own Runner does before the first iteration. ``tests/fuzz/mmengine_configs.py``
goes through the whole command, and mutates otherwise.
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import load_fuzzer
from mmengine.config import Config
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner, TestLoop, runner

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.mmengine.build_errors import explaining_parts
from ktdn_plugin.mmengine.check import check_config
from ktdn_plugin.mmengine.config import load_config
from ktdn_plugin.mmengine.loops import SeededTrainLoop
from ktdn_plugin.mmengine.run import adapt_model
from ktdn_plugin.option_files import options_folder

COUNT = int(os.environ.get("KTDN_MUTATIONS", "25"))
FILES = sorted(
    f"{path.parent.name}_{path.stem}.json"
    for path in options_folder().glob("mmengine/**/train_*.py")
)
TESTED = ("train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler")
TESTED += ("val_dataloader", "val_cfg", "val_evaluator")
FUZZER = load_fuzzer("options")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Holds the shipped configs on tiny images, with tiny networks; runs end where they begin."""
    path = tmp_path_factory.mktemp("configs")
    load_fuzzer("mmengine_configs").make_files(path)
    before = Path.cwd()
    os.chdir(path)
    with pytest.MonkeyPatch.context() as patch:
        for loop in (EpochBasedTrainLoop, IterBasedTrainLoop, SeededTrainLoop, TestLoop):
            patch.setattr(loop, "run", lambda self: None)
        patch.setattr(runner, "collect_env", dict)  # takes longer than all the rest
        yield path
    os.chdir(before)


@pytest.mark.parametrize("name", FILES)
def test_mutations(folder: Path, name: str) -> None:
    outcomes: Counter[str] = Counter()
    for seed in range(COUNT):
        opt = json.loads((folder / name).read_text())
        text, said = FUZZER.mutate(opt, random.Random(f"{name} {seed}"))
        if "*a9" in text:
            continue  # a config is a program: it may be larger than any memory
        Path("config.yml").write_text(text, encoding="utf-8", errors="surrogatepass")
        builds = (outcomes["taken"] + outcomes["built"]) % 5 == 0
        outcome, line = outcome_of(Path("config.yml"), training=seed % 4 > 0, builds=builds)
        outcomes[outcome] += 1
        assert outcome in ("taken", "built", "refused"), f"seed {seed}: {said}: {line}"
    assert outcomes["refused"]
    assert outcomes["built"]


@pytest.mark.parametrize("name", FILES)
def test_shipped_configs_are_taken_without_a_doubt(folder: Path, name: str) -> None:
    for training in (True, False):
        cfg = loaded(Path(name), training)
        doubts: list[str] = []
        assert check_config(cfg, training=training, warn=doubts.append) == []
        assert doubts == []


def loaded(path: Path, training: bool) -> Config:
    cfg = load_config(path)
    for key in () if training else TESTED:
        cfg[key] = None
    cfg.work_dir, cfg.launcher = "work", "none"
    return cfg


def outcome_of(path: Path, *, training: bool, builds: bool) -> tuple[str, str]:
    """Does with a config what the command does before the first iteration."""
    lines: list[str] = []
    try:
        cfg = loaded(path, training)
        with explaining_parts("config.yml", cfg):
            adapt_model(cfg)
            lines = check_config(cfg, training=training, warn=lambda line: None)
    except (KTDNError, OSError) as error:
        lines = getattr(error, "lines", [str(error)])
        # A number of so many digits cannot even be shown, by mmengine neither.
        if "--debug" in str(error) and "(4300 digits)" not in str(error):
            return "error in the check", str(error)
    if lines:
        is_plain = all("\n" not in line and ": " in line for line in lines)
        return ("refused" if is_plain else "unreadable"), " | ".join(lines)
    if not builds:
        return "taken", ""
    try:
        built = Runner.from_cfg(cfg)
        built.train() if training else built.test()
    except Exception as error:
        return "refused by mmengine", f"{type(error).__name__}: {error}"
    return "built", ""
