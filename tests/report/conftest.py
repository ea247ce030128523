"""Runs, results and tables as the commands leave them, tiny; and a browser to look at pages."""

from __future__ import annotations

import csv
import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ktdn_plugin.cli import main
from ktdn_plugin.metrics import measure

SIZE = (64, 96)
HAZY, DEHAZED, CLEAR = (200, 200, 205), (200, 60, 40), (170, 30, 40)
EVIL = "<script>alert(1)<b>&\"'"
VOID = {"meta", "link", "img", "input", "br"}


def picture(colour: tuple[int, int, int], size: tuple[int, int] = SIZE) -> np.ndarray:
    """A plain picture (h, w, 3) with a little texture, so that figures are finite."""
    texture = np.random.RandomState(sum(colour)).randint(-6, 7, (*size, 3))
    return np.clip(np.array(colour) + texture, 0, 255).astype(np.uint8)


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def describe(folder: Path, root: Path, **data: list[dict]) -> None:
    """Writes a run's ``run.json``, as far as it is read."""
    content = {"name": folder.name, "folder": str(root), "data": data}
    (folder / "run.json").write_text(json.dumps(content))


class Project:
    """A folder in which trainings and tests have run."""

    def __init__(self, root: Path, names: tuple[str, ...] = ("harbour", EVIL)) -> None:
        self.root = root
        self.names = names
        for name in names:
            save(root / "val" / "hazy" / f"{name}.png", picture(HAZY))
            save(root / "val" / "clear" / f"{name}.png", picture(CLEAR))
        self.dataset = {
            "name": "pairs",
            "type": "PairedHazeDataset",
            "dataroot_gt": "val/clear",
            "dataroot_lq": "val/hazy",
            "split": "tiny-val",
        }

    def training(
        self, name: str = "student", *, pictures: bool = True, teacher: bool = False
    ) -> Path:
        """A training's folder, with its record and validation pictures."""
        folder = self.root / "experiments" / name
        folder.mkdir(parents=True)
        of = {"set": "pairs", "split": "tiny-val"}
        rows = [] if teacher else [{"kind": "teacher", "iter": 0, **of, "psnr": 30.0}]
        for step in range(1, 41):
            losses = {"l_rec": 1 / step, "l_lap": 0.01 + 0.001 * (step % 3)}
            rows.append({"kind": "train", "iter": step, "epoch": 0, "lr": [1e-3 / step], **losses})
        for step, psnr, ssim in ((10, 15.0, 0.61), (20, 18.25, 0.5), (40, 17.5, 0.625)):
            rows.append({"kind": "val", "iter": step, **of, "psnr": psnr, "ssim": ssim})
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        dataset = dict(self.dataset)
        if teacher:
            dataset["type"] = "ClearImageDataset"
        describe(folder, self.root, val=[{"name": "pairs", "options": dataset}])
        for image in self.names if pictures else ():
            for step in (20, 40):
                colour = DEHAZED if step == 40 else (0, 0, 255)
                save(folder / "visualization" / image / f"{image}_{step}.png", picture(colour))
        return folder

    def results(self, name: str = "test", colour: tuple[int, int, int] = DEHAZED) -> Path:
        """A test's folder, with its record, means and pictures."""
        folder = self.root / "results" / name
        for image in self.names:
            save(folder / "visualization" / "pairs" / f"{image}_{name}.png", picture(colour))
        describe(folder, self.root, test=[{"name": "pairs", "options": self.dataset}])
        means = np.mean([measure(picture(colour), picture(CLEAR))], axis=0)
        self.table(
            folder / "metrics.csv",
            [["set", "split", "fingerprint", "images", "psnr", "ssim", "checkpoint"]],
            [["pairs", "tiny-val", "", len(self.names), *means, "net.pth"]],
        )
        return folder

    def images(self, name: str = "mine", colour: tuple[int, int, int] = DEHAZED) -> Path:
        """A folder of dehazed images, structure kept, with a table as `ktdn dehaze` writes it."""
        folder = self.root / name
        rows = []
        for number, image in enumerate(self.names):
            save(folder / f"{image}.png", picture(colour))
            save(folder / f"{image}_compare.png", picture((0, 255, 0)))
            rows.append(["tiny-val", image, 10 + number, 0.4, 20.1234 + number, 0.7654])
        head = ["split", "photo", "hazy_psnr", "hazy_ssim", "dehazed_psnr", "dehazed_ssim"]
        mean = ["tiny-val", "mean", *np.mean([row[2:] for row in rows], axis=0)]
        self.table(folder / "metrics.csv", [head], [*rows, mean])
        return folder

    def table(self, path: Path, head: list, rows: list) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([*head, *rows])
        return path


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


class Page(HTMLParser):
    """A page's elements; refuses what is no well-formed HTML."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.elements.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs), attrs
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style", "script"):
            self.words.append(data)

    def all(self, tag: str, **wanted: str) -> list[dict[str, str]]:
        return [
            attributes
            for name, attributes in self.elements
            if name == tag and wanted.items() <= attributes.items()
        ]

    @property
    def visible(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture
def parse() -> type[Page]:
    return Page


@pytest.fixture
def report(project: Project, capsys, monkeypatch):
    """Makes a report in the project's folder; gives the page and what was printed."""
    monkeypatch.chdir(project.root)

    def make(*words: object):
        assert main(["report", *map(str, words), "-o", "out/page.html"]) == 0, capsys.readouterr()
        done = capsys.readouterr()
        return Page(Path("out/page.html").read_text(encoding="utf-8")), done.out, done.err

    return make


@pytest.fixture
def refused(project: Project, capsys, monkeypatch):
    """Runs the command on bad input; gives its one line."""
    monkeypatch.chdir(project.root)

    def run(*words: object, output: str = "page.html") -> str:
        before = sorted(Path.cwd().rglob("*"))
        assert main(["report", *map(str, words), "-o", output]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert sorted(Path.cwd().rglob("*")) == before
        return line.removeprefix("error: ")

    return run
