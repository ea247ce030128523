"""``ktdn dehaze`` on photographs: what it writes, and that it goes on where it stopped."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from dehaze.conftest import files, pixels
from PIL import Image
from skimage import data

from ktdn_plugin import Dehazer
from ktdn_plugin.dehaze import dehaze_all
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.photos import read_photo

Command = Callable[..., tuple[int, str, str]]


def inverted(image: np.ndarray) -> np.ndarray:
    return np.iinfo(image.dtype).max - image


def test_a_folder_keeps_its_structure_and_formats(
    here: Path, checkpoint: Path, dehaze: Command
) -> None:
    code, out, err = dehaze("photos", "-o", "out")
    assert (code, err) == (0, "")
    assert out == "Dehazed: out (3 of 3)\n"
    assert files("out") == ["a.png", "deeper/b.jpg", "deeper/c.webp"]
    dehazed = Dehazer(checkpoint, device="cpu")(pixels("photos/a.png"))
    assert dehazed.std() > 1
    assert np.array_equal(pixels("out/a.png"), dehazed)
    for name, kind in (("b.jpg", "JPEG"), ("c.webp", "WEBP")):
        with Image.open(here / "out" / "deeper" / name) as image:
            assert image.format == kind
            assert image.size == (53, 37)


def test_the_real_command_without_an_output(here: Path, checkpoint: Path, run: Callable) -> None:
    done = run("dehaze", "photos/a.png", "--checkpoint", checkpoint, "--compare")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"Dehazed: {Path('dehazed')}\n"
    assert done.stderr == ""
    assert files("dehazed") == ["a.png", "a_compare.png"]


@pytest.mark.parametrize("flag", ["png", "jpg", "webp", "tiff"])
def test_format(here: Path, dehaze: Command, flag: str) -> None:
    Image.fromarray(data.coffee()[:20, :30]).save("photos/d.bmp")
    Image.fromarray(data.coffee()[:20, :30]).save("photos/e.jpeg")
    assert dehaze("photos", "-o", "out", "--format", flag)[0] == 0
    suffix = {"png": ".png", "jpg": ".jpg", "webp": ".webp", "tiff": ".tif"}[flag]
    own = ".jpeg" if flag == "jpg" else suffix
    assert files("out") == [
        f"a{suffix}", f"d{suffix}", f"deeper/b{suffix}", f"deeper/c{suffix}", f"e{own}"
    ]  # fmt: skip
    for name in files("out"):
        with Image.open(here / "out" / name) as image:
            assert image.format == {"jpg": "JPEG", "tiff": "TIFF"}.get(flag, flag.upper())


def test_quality(here: Path) -> None:
    Image.fromarray(data.chelsea()).save("cat.jpg", quality=98)
    for quality in (100, 30):
        dehaze_all([Path("cat.jpg")], Path(f"{quality}.jpg"), lambda: inverted, quality=quality)
    sizes = [Path(f"{quality}.jpg").stat().st_size for quality in (100, 30)]
    assert sizes[0] > 4 * sizes[1]


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp"])
def test_16_bit_and_alpha_reach_the_network_and_the_file(here: Path, suffix: str) -> None:
    values = np.random.RandomState(0).randint(0, 65536, (20, 30, 4)).astype(np.uint16)
    cv2.imwrite("deep.png", values)
    dehaze_all([Path("deep.png")], Path(f"out{suffix}"), lambda: inverted)
    out = read_photo(f"out{suffix}")
    if suffix in (".png", ".tif"):
        assert np.array_equal(out.pixels, 65535 - values[..., 2::-1])
        assert np.array_equal(out.alpha, values[..., 3])
    else:
        assert out.pixels.dtype == np.uint8


def test_what_a_format_does_not_keep_is_reported(here: Path, capsys: pytest.CaptureFixture) -> None:
    cv2.imwrite("photos/d.png", np.full((20, 30, 4), 4000, np.uint16))
    dehaze_all([Path("photos")], Path("out"), lambda: inverted, form="jpg")
    said = capsys.readouterr().out.splitlines()
    assert f"JPEG has no room for 8 of 16 bits: {Path('photos/d.png')}" in said
    assert f"JPEG has no room for alpha: {Path('photos/d.png')}" in said


def test_a_phone_s_photograph_stands_upright_once(here: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    lying = np.zeros((20, 30, 3), np.uint8)
    lying[:, :5] = 255  # the left edge of what is stored is the top of the picture
    Image.fromarray(lying).save("phone.jpg", exif=exif, quality=100, icc_profile=b"")
    dehaze_all([Path("phone.jpg")], Path("out.jpg"), lambda: lambda image: image)
    with Image.open("out.jpg") as image:
        assert image.size == (20, 30)
        assert dict(image.getexif()) == {0x010F: "Maker", 0x0112: 1}
        upright = np.array(image)
    assert upright[:4].mean() > 240
    assert upright[6:].mean() < 15


def test_a_second_run_resumes_where_the_first_stopped(here: Path, dehaze: Command) -> None:
    assert dehaze("photos", "-o", "out")[0] == 0
    Path("out/deeper/b.jpg").unlink()
    before = Path("out/a.png").stat().st_mtime_ns
    code, out, _ = dehaze("photos", "-o", "out")
    assert code == 0
    assert out.splitlines() == [
        "2 of 3 were there already; --overwrite does them again",
        "Dehazed: out (1 of 3)",
    ]
    assert Path("out/a.png").stat().st_mtime_ns == before
    code, out, _ = dehaze("photos", "-o", "out", "--overwrite")
    assert out == "Dehazed: out (3 of 3)\n"
    assert Path("out/a.png").stat().st_mtime_ns > before


def test_nothing_to_do_loads_no_network(here: Path) -> None:
    dehaze_all([Path("photos")], Path("out"), lambda: inverted)
    dehaze_all([Path("photos")], Path("out"), lambda: pytest.fail("loaded"))


def test_a_photo_that_is_named_twice_is_dehazed_once(
    here: Path, capsys: pytest.CaptureFixture
) -> None:
    dehaze_all([Path("photos/a.png")] * 2, Path("out"), lambda: inverted)
    assert capsys.readouterr().out == "Dehazed: out\n"
    # A folder of the result's name is no result.
    Path("other/a.png").mkdir(parents=True)
    with pytest.raises(KTDNError, match=r"a\.png: cannot be saved"):
        dehaze_all([Path("photos/a.png")], Path("other"), lambda: inverted)


def test_results_within_the_input_are_no_input(here: Path) -> None:
    for _ in range(2):
        dehaze_all([Path("photos")], Path("photos/dehazed"), lambda: inverted, overwrite=True)
    assert len(files("photos")) == 6
    assert np.array_equal(pixels("photos/dehazed/a.png"), 255 - pixels("photos/a.png"))


def test_comparison_at_full_resolution(here: Path) -> None:
    dehaze_all([Path("photos/a.png")], Path("out"), lambda: inverted, compare=True)
    sheet, hazy = pixels("out/a_compare.png"), pixels("photos/a.png")
    for wanted in (hazy, 255 - hazy):
        found = [
            (top, left)
            for top in range(sheet.shape[0] - 36)
            for left in range(sheet.shape[1] - 52)
            if np.array_equal(sheet[top : top + 37, left : left + 53], wanted)
        ]
        assert len(found) == 1
    # A comparison that is missing is drawn of the result that is there.
    Path("out/a_compare.png").unlink()
    dehaze_all([Path("photos/a.png")], Path("out"), lambda: pytest.fail("run"), compare=True)
    assert np.array_equal(pixels("out/a_compare.png"), sheet)


def test_sizes_from_one_pixel_to_a_line_of_100_000(here: Path, dehaze: Command) -> None:
    sizes = ((1, 1), (1, 2), (17, 1), (1, 100_000))
    for height, width in sizes:
        image = np.full((height, width, 3), 90, np.uint8)
        Image.fromarray(image).save(f"photos/{height}x{width}.png")
    names = [f"photos/{height}x{width}.png" for height, width in sizes]
    code, _, err = dehaze(*names, "-o", "out", "--compare")
    assert (code, err) == (0, "")
    for height, width in sizes:
        assert pixels(f"out/{height}x{width}.png").shape == (height, width, 3)


def test_one_bad_file_does_not_stop_the_rest(here: Path, dehaze: Command) -> None:
    whole = Path("photos/a.png").read_bytes()
    Path("photos/broken.png").write_bytes(whole[:500])
    Path("photos/text.jpg").write_text("<html>")
    code, out, err = dehaze("photos", "-o", "out")
    assert code == 1
    assert out == "Dehazed: out (3 of 5)\n"
    lines = err.splitlines()
    assert lines[0] == "error: 2 of 5 could not be dehazed:"
    assert lines[1].startswith(f"error: {Path('photos/broken.png')}: not a readable image")
    assert lines[2].startswith(f"error: {Path('photos/text.jpg')}: not a readable image")
    assert len(lines) == 3
    assert files("out") == ["a.png", "deeper/b.jpg", "deeper/c.webp"]


def test_a_library_s_own_error_names_its_file(here: Path) -> None:
    def fail(image: np.ndarray) -> np.ndarray:
        raise RuntimeError("no kernel\nimage")

    with pytest.raises(KTDNError, match=r"a\.png: RuntimeError: no kernel image; --debug") as error:
        dehaze_all([Path("photos")], Path("out"), lambda: fail)
    assert str(error.value).startswith("3 of 3 could not be dehazed:\n")
    with pytest.raises(RuntimeError, match="no kernel\nimage"):
        dehaze_all([Path("photos")], Path("out"), lambda: fail, stop_at_errors=True)


def test_a_full_disk_ends_the_run(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise KTDNError("x: cannot be saved (full)") from OSError(28, "No space left on device")

    monkeypatch.setattr("ktdn_plugin.dehaze.stages.write_photo", full)
    with pytest.raises(KTDNError) as error:
        dehaze_all([Path("photos")], Path("out"), lambda: inverted)
    assert str(error.value).splitlines() == [
        "1 of 3 could not be dehazed:",
        "x: cannot be saved (full)",
        "2 were not tried; the same command goes on with them",
    ]


SLOW = """
import sys, time
from ktdn_plugin import cli
from ktdn_plugin.inference import Dehazer

def slow(self, image):
    print("working", flush=True)
    time.sleep(0.3)
    return 255 - image

Dehazer.__call__ = slow
sys.exit(cli.main(["dehaze", "photos", "-o", "out", "--checkpoint", "ktdn_tiny"]))
"""


@pytest.mark.skipif(os.name == "nt", reason="signals differ")
def test_interrupting_leaves_no_half_image_and_says_how_to_resume(here: Path) -> None:
    for number in range(20):
        Image.fromarray(data.astronaut()).save(f"photos/n{number}.png")
    with subprocess.Popen(
        [sys.executable, "-c", SLOW], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        for _ in range(3):
            assert process.stdout.readline() == "working\n"
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    done = re.search(r"(\d) of 23 are done; the same command goes on with the others\.", err)
    assert done, err
    assert "Interrupted." in err
    assert len(files("out")) == int(done[1]) in (1, 2, 3)
    for name in files("out"):
        read_photo(here / "out" / name)
