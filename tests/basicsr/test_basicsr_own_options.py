"""BasicSR's own options files are taken, but for those that are wrong in themselves.

They are not part of its wheel: ``BASICSR_OPTIONS`` names the folder ``options`` of a checkout of
BasicSR 1.4.2.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ktdn_plugin.basicsr.options.checking import check
from ktdn_plugin.basicsr.options.loading import complete, load_options

FOLDER = Path(os.environ.get("BASICSR_OPTIONS", "no folder is named"))
WRONG = {
    # A key of 'val' that has slipped to the top, where nothing reads it.
    "test_RCAN.yml": ["save_img: unknown key"],
    "train_EDSR_Mx3.yml": [
        "datasets.train.use_flip: unknown key; did you mean 'use_hflip'?",
    ],
}


@pytest.mark.skipif(not FOLDER.is_dir(), reason="BASICSR_OPTIONS names no folder")
def test_all_but_the_wrong_ones() -> None:
    files = sorted(FOLDER.rglob("*.yml"))
    assert len(files) >= 70
    refused = {}
    for file in files:
        opt = load_options(file)
        section, problems = check(opt, is_train=file.name.startswith("train_"))
        if section is None:
            refused[file.name] = problems
        else:
            complete(opt, section)
    assert refused == WRONG
