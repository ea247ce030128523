"""Folders of ``ktdn dehaze`` tell what they were made from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from report.conftest import CLEAR, DEHAZED, picture, save

from ktdn_plugin.data.prepare import prepare
from ktdn_plugin.dehaze import dehaze_all
from ktdn_plugin.dehaze.journal import RECORD


@pytest.fixture
def made(project, monkeypatch: pytest.MonkeyPatch):
    """Makes results of an input, in a folder, from the project's folder."""
    monkeypatch.chdir(project.root)
    Path("net.pth").write_bytes(b"weights")

    def make(source: str, output: str) -> None:
        dehaze_all(
            [Path(source)],
            Path(output),
            lambda: lambda image: np.broadcast_to(np.uint8(DEHAZED), image.shape).copy(),
            checkpoint=Path("net.pth"),
        )

    return make


def test_sources_make_sliders(made, report, capsys) -> None:
    made("val/hazy", "out")
    capsys.readouterr()
    page, out, _ = report("out")
    assert len(page.all("article")) == 2
    assert len(page.all("img")) == 4
    assert "no hazy image" not in out
    page, out, _ = report("out", "--gt", "val/clear")
    assert len(page.all("img")) == 8  # with the clear images and the differences
    # What is another photograph now, or gone, is not shown as the one it was.
    save(Path("val/hazy/harbour.png"), picture(CLEAR))
    page, out, _ = report("out")
    assert len(page.all("img")) == 3
    assert "harbour: no hazy image" in out
    Path("val/hazy/harbour.png").unlink()
    assert len(report("out")[0].all("img")) == 3
    Path("out", RECORD).write_text("{")
    page, out, _ = report("out")
    assert len(page.all("img")) == 2
    assert "broken; remove it" in out


def test_a_store_has_the_clear_images_too(made, report, capsys) -> None:
    prepare(Path("val"), Path("store"), split="mine")
    made("store", "out")
    capsys.readouterr()
    page, out, _ = report("out")
    assert len(page.all("img")) == 8
    assert "no clear image" not in out
