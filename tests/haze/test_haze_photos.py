"""``ktdn haze``: what a person gets, and what a person is told."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers import one, write_png

from ktdn_plugin.cli import main
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.haze import scattering as defaults
from ktdn_plugin.haze.run import haze_photos, read_depth, seed_of
from ktdn_plugin.haze.scattering import synthesize_haze
from ktdn_plugin.photos import read_rgb


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with three photos, one of them a level deeper."""
    monkeypatch.chdir(tmp_path)
    write_png(tmp_path / "photos" / "a.png", 1, (40, 60))
    write_png(tmp_path / "photos" / "b.jpg", 2, (50, 30))
    write_png(tmp_path / "photos" / "deeper" / "c.png", 3, (20, 20))
    return tmp_path


def expected(photo: Path, seed: int, **options: object) -> np.ndarray:
    return np.rint(synthesize_haze(read_rgb(photo), seed, **options).hazy * 255).astype(np.uint8)


def refused(*arguments: object, **options: object) -> str:
    """Gives the one line with which a call fails, after which nothing is written."""
    before = sorted(Path.cwd().rglob("*"))
    with pytest.raises(KTDNError) as caught:
        haze_photos(*arguments, **options)
    assert sorted(Path.cwd().rglob("*")) == before
    return one(str(caught.value).splitlines())


def test_a_photo_gets_the_haze_of_the_seed(folder: Path, run: Callable) -> None:
    done = run("haze", "photos/a.png", "--seed", "7", "--transmission")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "Hazy photo: hazy/a_hazy.png\n"
    assert done.stderr == ""
    photo = Path("photos/a.png")
    assert np.array_equal(read_rgb("hazy/a_hazy.png"), expected(photo, 7))
    transmission = synthesize_haze(read_rgb(photo), 7).transmission
    written = read_rgb("hazy/a_transmission.png")
    assert np.array_equal(written[..., 1], np.rint(transmission * 255).astype(np.uint8))
    assert sorted(p.name for p in Path("hazy").iterdir()) == ["a_hazy.png", "a_transmission.png"]


def test_flags_arrive(folder: Path, run: Callable) -> None:
    cv2.imwrite("far.png", np.linspace(0, 255, 40 * 60).reshape(40, 60).astype(np.uint8))
    words = "--density 1 2 --airlight 0.5 0.6 --tint 0 0.1 --veil 0.4 0.5 --coverage 0.8 0.9"
    done = run(
        *("haze", "photos/a.png", "-o", "out", *words.split()),
        *("--octaves", "3", "--depth", "far.png"),
    )
    assert done.returncode == 0, done.stderr
    wanted = expected(
        Path("photos/a.png"),
        0,
        density=(1, 2),
        airlight=(0.5, 0.6),
        tint=(0, 0.1),
        veil=(0.4, 0.5),
        coverage=(0.8, 0.9),
        octaves=3,
        depth=read_depth(Path("far.png"), (40, 60)),
    )
    assert np.array_equal(read_rgb("out/a_hazy.png"), wanted)


def test_several_photos_get_the_hazes_of_following_seeds(
    folder: Path, capsys: pytest.CaptureFixture
) -> None:
    haze_photos([Path("photos/deeper/c.png"), Path("photos")][1:], Path("out"), seed=2**32 - 1)
    for name, seed in (("a.png", 2**32 - 1), ("b.jpg", 0), ("deeper/c.png", 1)):
        written = read_rgb(f"out/{Path(name).stem}_hazy.png")
        assert np.array_equal(written, expected(Path("photos", name), seed))
    assert capsys.readouterr().out == "3 hazy photos: out\n"
    assert [seed_of(2**32 - 1, position) for position in range(3)] == [2**32 - 1, 0, 1]


def test_grey_and_deep_photos_are_read(folder: Path) -> None:
    cv2.imwrite("deep.png", np.full((20, 30, 3), 40000, np.uint16))
    cv2.imwrite("grey.png", np.full((20, 30), 100, np.uint8))
    haze_photos([Path("deep.png"), Path("grey.png")], Path("out"), density=(0, 0))
    assert np.unique(read_rgb("out/deep_hazy.png")).tolist() == [40000 >> 8]
    assert np.unique(read_rgb("out/grey_hazy.png")).tolist() == [100]


def test_equal_names_are_refused_before_anything_is_written(folder: Path) -> None:
    write_png(folder / "more" / "A.png", 4)
    line = refused([Path("photos"), Path("more")], Path("out"))
    assert line.startswith("photos/a.png and more/A.png would both be written to out/A_hazy.png;")


def test_existing_files_are_kept_unless_told_otherwise(folder: Path) -> None:
    photo, output = Path("photos/a.png"), Path("out")
    haze_photos([photo], output)
    before = Path("out/a_hazy.png").read_bytes()
    assert refused([Path("photos")], output) == "out/a_hazy.png: exists; --overwrite replaces it"
    assert Path("out/a_hazy.png").read_bytes() == before
    haze_photos([photo], output, seed=1, overwrite=True)
    assert np.array_equal(read_rgb("out/a_hazy.png"), expected(photo, 1))


def test_photos_themselves_are_never_replaced(folder: Path) -> None:
    write_png(folder / "photos" / "a_hazy.png", 4)
    line = refused([Path("photos")], Path("photos"), overwrite=True)
    assert line == "photos/a_hazy.png: is one of the photos; choose another folder with -o"


@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_a_broken_photo_is_named_before_anything_is_written(
    folder: Path, content: bytes | None
) -> None:
    whole = Path("photos/a.png").read_bytes()
    Path("photos/z.png").write_bytes(whole[:-200] if content is None else content)
    assert refused([Path("photos")], Path("out")).startswith("photos/z.png: ")


def test_a_pipe_is_named_and_not_waited_for(folder: Path) -> None:
    os.mkfifo("photos/z.png")
    assert refused([Path("photos")], Path("out")).startswith("photos/z.png: not a regular file")


def test_a_broken_photo_is_one_line_on_the_command_line(folder: Path, run: Callable) -> None:
    Path("photos/z.png").write_bytes(b"no image")
    done = run("haze", "photos")
    assert done.returncode == 1
    # Beside the progress bar, which is drawn over and over on one line.
    assert one([line for line in done.stderr.splitlines() if "error: " in line])
    assert "photos/z.png: not a readable image" in done.stderr
    assert "Traceback" not in done.stderr
    assert not Path("hazy").exists()


@pytest.mark.parametrize(
    ("options", "start"),
    [
        ({"seed": -1}, "--seed must lie in [0, 4294967295], got -1"),
        ({"density": [3, 1]}, "--density must be (low, high)"),
        ({"airlight": [0, 1.5]}, "--airlight must be (low, high)"),
        ({"coverage": [0, 0]}, "--coverage must be above 0"),
        ({"octaves": 11}, "--octaves must lie in [1, 10], got 11"),
    ],
)
def test_unfit_options_are_named(folder: Path, options: dict, start: str) -> None:
    assert refused([Path("photos")], Path("out"), **options).startswith(start)


def test_missing_photos_and_folders_without_any_are_named(folder: Path) -> None:
    assert refused([Path("photos"), Path("no.png")], Path("out")).startswith("no.png: ")
    (folder / "empty").mkdir()
    assert refused([Path("empty")], Path("out")).startswith("empty: holds no image")
    assert refused([Path("photos")], Path("photos/a.png")).startswith("-o photos/a.png: is a file")


def test_depth_makes_haze_thicker_where_it_is_brighter(folder: Path) -> None:
    photo = Path("photos/a.png")
    ramp = np.linspace(100, 60000, 40 * 60).reshape(40, 60).astype(np.uint16)
    cv2.imwrite("far.png", ramp)
    depth = read_depth(Path("far.png"), (40, 60))
    assert depth.mean() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(depth, ramp / ramp.mean(), rtol=1e-5)
    haze_photos([photo], Path("out"), depth=Path("far.png"), transmission=True, veil=(1, 1))
    transmission = read_rgb("out/a_transmission.png")[..., 0]
    assert (np.diff(transmission.astype(int), axis=0) <= 0).all()
    assert transmission[0, 0] > 250
    assert transmission[-1, -1] < 60


@pytest.mark.parametrize(
    ("depth", "part"),
    [
        (np.ones((40, 61), np.uint8), "is 61 x 40 pixels, its photo 60 x 40; resize it"),
        (np.zeros((40, 60), np.uint8), "is black; it must be brighter where the scene is farther"),
        (np.ones((40, 60), np.float32), "far.tif: holds floating-point numbers"),
    ],
)
def test_unfit_depth_is_refused(folder: Path, depth: np.ndarray, part: str) -> None:
    cv2.imwrite("far.tif", depth)
    line = refused([Path("photos/a.png")], Path("out"), depth=Path("far.tif"))
    assert "far.tif: " in line
    assert part in line


def test_depth_fits_one_photo_only(folder: Path) -> None:
    line = refused([Path("photos")], Path("out"), depth=Path("photos/a.png"))
    assert line == "--depth photos/a.png: takes a single photo, got 3; give one"


def test_help_tells_the_defaults(capsys: pytest.CaptureFixture) -> None:
    assert main(["haze", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for name in ("density", "airlight", "tint", "veil", "coverage"):
        low, high = getattr(defaults, name.upper())
        shown = rf"--{name} (LOW HIGH )?[^[]*\[default: {low:g} {high:g}\]"
        assert re.search(shown, text), name
    assert f"Scales of the clouds, 1 to 10. [default: {defaults.OCTAVES}]" in text
