"""``ktdn dehaze --gt`` where hazy and clear images are not apart, or names do not tell enough."""

from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from dehaze.conftest import files, pixels
from PIL import Image
from skimage import data

from ktdn_plugin.dehaze import dehaze_all
from ktdn_plugin.dehaze.inputs import find_sources
from ktdn_plugin.dehaze.truth import Truth
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.metrics import measure


def brighter(image: np.ndarray) -> np.ndarray:
    return np.minimum(image.astype(int) + 9, 255).astype(np.uint8)


def write(name: str, number: int, hazy: bool = False) -> None:
    clear = data.astronaut()[60 * number : 60 * number + 40, 50:110]
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((clear * 0.5 + 100).astype(np.uint8) if hazy else clear).save(name)


@pytest.fixture
def mixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``nh``: two scenes as NH-HAZE has them."""
    monkeypatch.chdir(tmp_path)
    for number in (1, 2):
        write(f"nh/0{number}_hazy.png", number, hazy=True)
        write(f"nh/0{number}_GT.png", number)


def run(*inputs: str, truth: str, out: str = "out") -> None:
    names = [Path(name) for name in inputs]
    dehaze_all(names, Path(out), lambda: brighter, ground_truth=Path(truth))


def figures(out: str = "out") -> dict[str, float]:
    with Path(out, "metrics.csv").open(newline="") as file:
        return {row["image"]: float(row["hazy_psnr"]) for row in csv.DictReader(file)}


def haze_of(number: int) -> float:
    hazy, clear = (pixels(f"nh/0{number}_{role}.png") for role in ("hazy", "GT"))
    return measure(hazy, clear).psnr


def right(*numbers: int) -> dict[str, float]:
    each = {f"0{number}_hazy": haze_of(number) for number in numbers}
    each["mean"] = sum(each.values()) / len(each)
    return {name: pytest.approx(value, abs=1e-4) for name, value in each.items()}


def test_one_folder_of_both(mixed: None, capsys: pytest.CaptureFixture) -> None:
    run("nh", truth="nh")
    assert files("out") == ["01_hazy.png", "02_hazy.png", "metrics.csv"]
    assert figures() == right(1, 2)
    assert "2 clear images are left as they are: " in capsys.readouterr().out


def test_all_files_of_it_and_one_file_of_it(mixed: None) -> None:
    run(*map(str, sorted(Path("nh").iterdir())), truth="nh")
    assert files("out") == ["01_hazy.png", "02_hazy.png", "metrics.csv"]
    assert figures() == right(1, 2)
    run("nh/02_hazy.png", truth="nh", out="one")
    assert figures("one") == right(2)


def test_hazy_images_that_no_word_tells(mixed: None) -> None:
    for number in (1, 2):
        Path(f"nh/0{number}_hazy.png").rename(f"nh/0{number}.png")
    run("nh", truth="nh")
    assert files("out") == ["01.png", "02.png", "metrics.csv"]
    assert figures()["01"] < 30


def test_a_folder_within_and_a_folder_around(mixed: None) -> None:
    for number in (1, 2):
        for role in ("hazy", "GT"):
            Path("set", role).mkdir(parents=True, exist_ok=True)
            shutil.copy(f"nh/0{number}_{role}.png", f"set/{role}/0{number}.png")
    for inputs, truth in (("set/hazy", "set"), ("set", "set/GT"), ("set", "set")):
        out = f"{inputs}-{truth}".replace("/", "-")
        run(inputs, truth=truth, out=out)
        name = "01" if inputs == "set/hazy" else "hazy/01"
        assert list(figures(out)) == [name, name.replace("1", "2"), "mean"]
        assert figures(out)[name] == pytest.approx(haze_of(1), abs=1e-4)


def test_copies_of_the_ground_truth_beside_the_photos(mixed: None) -> None:
    Path("gt").mkdir()
    for number in (1, 2):
        shutil.copy(f"nh/0{number}_GT.png", "gt")
    run("nh", truth="gt")
    assert figures() == right(1, 2)


def test_videos_and_photos_named_twice_are_no_rivals(mixed: None) -> None:
    Path("01_hazy.mp4").touch()
    named = [Path("nh/01_hazy.png"), Path("01_hazy.mp4"), Path("nh/01_hazy.png")]
    sources, _ = find_sources(named, Path("out"))
    truth = Truth(Path("nh"), None, sources)
    truth.check_any()
    assert truth.clear_of(sources[0]).path == Path("nh/01_GT.png")


def test_no_photo_is_its_own_ground_truth(mixed: None) -> None:
    with pytest.raises(KTDNError, match=r"01_GT.png: is itself the image of this name in --gt nh"):
        run("nh/01_GT.png", truth="nh")
    Path("hard").mkdir()
    os.link("nh/01_hazy.png", "hard/01_hazy.png")
    with pytest.raises(KTDNError, match=r"01_hazy.png: is itself the image"):
        run("nh/01_hazy.png", truth="hard", out="out2")
    for number in (1, 2):
        Path(f"nh/0{number}_hazy.png").unlink()
    with pytest.raises(KTDNError, match=r"--gt nh: everything to dehaze is ground truth"):
        run("nh", truth="nh", out="out3")
    assert not Path("out3").exists()


def test_file_names_of_other_folders_are_other_scenes(mixed: None) -> None:
    write("hz/s1/1.png", 1, hazy=True)
    write("gt/s2/1.png", 2)
    with pytest.raises(KTDNError, match=r"1.png has no clear image \(--gt gt\)"):
        run("hz", truth="gt")
    write("gt/s1/1.png", 1)
    run("hz", truth="gt")
    assert figures()["s1/1"] == pytest.approx(haze_of(1), abs=1e-4)
    # One clear image for the images of two folders is one too few.
    write("hz/s3/1.png", 3, hazy=True)
    write("flat/1.png", 1)
    with pytest.raises(KTDNError, match=r"--gt flat\); none of the 2 photos has its ground truth"):
        run("hz", truth="flat", out="out2")
    assert not Path("out2").exists()


def test_many_hazes_of_one_clear_image(mixed: None) -> None:
    for name in ("1400_1", "1400_2"):
        write(f"many/{name}.png", 1, hazy=True)
    write("clear/1400.png", 1)
    run("many", truth="clear")
    assert list(figures()) == ["1400_1", "1400_2", "mean"]
    assert figures()["1400_2"] == pytest.approx(haze_of(1), abs=1e-4)
