"""Every shipped options file with seeded mistakes: each is taken or refused by its lines.

``KTDN_MUTATIONS=3000`` tries so many of each file; every tenth is run dry as well. What comes
later, a run's files and model, has a fuzzer in ``tests/fuzz/options.py``, which mutates alike.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
import yaml
from helpers import load_fuzzer

from ktdn_plugin.basicsr import register
from ktdn_plugin.basicsr.options.loading import check_and_complete, parse_options, raise_problems
from ktdn_plugin.errors import KTDNError, error_context
from ktdn_plugin.option_files import options_folder

COUNT = int(os.environ.get("KTDN_MUTATIONS", "25"))
FUZZER = load_fuzzer("options")
FILES = sorted(options_folder().rglob("*.yml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_mutations(path: Path) -> None:
    from ktdn_plugin.basicsr.dry_run import dry_run

    register()
    is_train = path.name.startswith("train_")
    shipped = path.read_text(encoding="utf-8")
    outcomes = {"taken": 0, "refused": 0}
    for seed in range(COUNT):
        opt = yaml.safe_load(shipped)
        for key in ("network_g", "network_t"):
            if key in opt:  # a small one, or each of them takes seconds to build
                opt[key] = {"type": "KTDN", "encoder": "test_convnext", "pretrained": False}
        text, said = FUZZER.mutate(opt, random.Random(f"{path.name} {seed}"))
        lines = []
        try:
            content = parse_options(text, "options.yml")
            check_and_complete(content, "options.yml", is_train)
            if seed % 10 == 0:
                with error_context("options.yml"):
                    raise_problems("options.yml", dry_run(content, is_train))
        except KTDNError as error:
            lines = error.lines
        except Exception as error:
            raise AssertionError(f"seed {seed}: {said}") from error
        outcomes["refused" if lines else "taken"] += 1
        for line in lines:
            assert line.startswith(("options.yml: ", "options.yml, line ")), (said, line)
    assert min(outcomes.values()) > 0, outcomes
