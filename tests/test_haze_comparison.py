"""``ktdn compare-haze``: on pairs whose haze was made, and on real ones where they are."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers import one

from ktdn_plugin.data import synthesize_haze
from ktdn_plugin.data.haze_statistics import HazeStatistics, at_working_size, measure_haze
from ktdn_plugin.data.images import read_image
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.haze_comparison import compare_haze
from ktdn_plugin.haze_comparison.pairs import find_pairs, group_of, read_pair
from ktdn_plugin.pictures import write_image

DATA = Path(os.environ.get("KTDN_DATA", Path(__file__).parents[2] / "shared" / "data"))


def scene(seed: int) -> np.ndarray:
    random = np.random.RandomState(seed)
    return np.kron(random.randint(0, 200, (40, 60, 3)), np.ones((3, 3, 1))).astype(np.uint8)


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders ``hazy`` and ``clear``: two scenes under clouds, one in flat fog."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("cloud_1", "cloud_2", "fog_1")):
        veil = (1.0, 1.0) if name[0] == "f" else (0.0, 0.1)
        haze = synthesize_haze(scene(seed), seed, density=(1.5, 1.5), veil=veil)
        write_image(Path("clear", f"{name}.png"), scene(seed))
        write_image(Path("hazy", f"{name}.png"), np.rint(haze.hazy * 255).astype(np.uint8))
    return tmp_path


def figures(text: str, field: str) -> list[float]:
    line = one([line for line in text.splitlines() if line.startswith(f"{field} ")])
    return [float(word) for word in line.split()[1:]]


def test_table_and_picture(folders: Path, run: Callable) -> None:
    done = run("compare-haze", "hazy", "clear", "--per-photo", "3", "--only", "cloud_*")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].startswith("2 real pairs; 3 hazes made over each clear")
    assert done.stdout.splitlines()[-1] == "Picture: haze_comparison.png"
    assert "medians of each group" not in done.stdout
    real = [
        measure_haze(*(read_image(f"{kind}/cloud_{n}.png") for kind in ("hazy", "clear")))
        for n in (1, 2)
    ]
    for field in HazeStatistics._fields:
        values = [getattr(statistics, field) for statistics in real]
        wanted = np.quantile(values, (0.1, 0.5, 0.9))
        assert figures(done.stdout, field)[:3] == pytest.approx(wanted, abs=0.0051), field
    assert min(figures(done.stdout, "variation")[3:6]) > 0.15
    assert max(figures(done.stdout, "variation")[6:]) < 0.05
    picture = read_image("haze_comparison.png")
    assert picture.shape[1] > 6 * 288
    assert picture.std() > 20


def test_groups_are_told_apart(folders: Path, capsys: pytest.CaptureFixture) -> None:
    compare_haze(Path("hazy"), Path("clear"), Path("x.png"), per_photo=1, rows=2)
    lines = capsys.readouterr().out.splitlines()
    start = lines.index("medians of each group, real / made")
    columns = lines[start + 1].split()
    found = {line.split()[0]: line.split()[2:] for line in lines[start + 2 : start + 4]}
    variation = {
        name: float(cells[3 * columns.index("variation")]) for name, cells in found.items()
    }
    assert variation["fog"] < 0.05 < 0.2 < variation["cloud"]


def test_made_haze_follows_from_the_seed_and_the_ranges(
    folders: Path, capsys: pytest.CaptureFixture
) -> None:
    def text(**options: object) -> str:
        compare_haze(Path("hazy"), Path("clear"), Path("x.png"), per_photo=2, rows=1, **options)
        return capsys.readouterr().out

    first = text(seed=4)
    assert text(seed=4) == first
    assert text(seed=5) != first
    thin = text(seed=4, density=(0.2, 0.2))
    assert figures(thin, "contrast_loss")[:3] == figures(first, "contrast_loss")[:3]
    assert max(figures(thin, "contrast_loss")[3:]) < 0.2


def refused(*arguments: object, **options: object) -> str:
    with pytest.raises(KTDNError) as caught:
        compare_haze(*arguments, **options)
    assert not Path("x.png").exists()
    return one(str(caught.value).splitlines())


def test_pairs_that_do_not_fit_are_named(folders: Path) -> None:
    hazy, clear, output = Path("hazy"), Path("clear"), Path("x.png")
    assert refused(hazy, clear, Path("x.txt")).startswith("x.txt: images are written as .png")
    assert refused(hazy, clear, output, only=["x*"]) == "hazy: no name fits --only x*"
    assert refused(hazy, clear, output, per_photo=0).startswith("--per-photo must be 1 or more")
    assert refused(hazy, clear, output, rows=0).startswith("--rows must be 1 or more")
    assert refused(hazy, clear, output, veil=(1, 0)).startswith("--veil must be (low, high)")
    assert refused(hazy, Path("no"), output) == "no: no such folder"
    line = refused(hazy, Path("clear/../hazy"), output)
    assert line == "clear/../hazy: given as hazy and as clear folder; name two folders"
    line = refused(hazy, clear, Path("clear/fog_1.png"))
    assert line == "clear/fog_1.png: is one of the images; name another place with -o"
    assert refused(hazy, clear, Path("hazy/fog_1.png/x.png")).endswith("name another place with -o")
    write_image(Path("clear/fog_2.png"), scene(1))
    assert refused(hazy, clear, output) == "clear/fog_2.png has no hazy image"
    write_image(Path("hazy/fog_2.png"), scene(1)[:-1])
    line = refused(hazy, clear, output)
    assert line == "hazy/fog_2.png is 180x119, clear/fog_2.png 180x120: a pair has one size"
    write_image(Path("hazy/fog_2.jpg"), scene(1))
    assert "may both be the hazy image of clear/fog_2.png" in refused(hazy, clear, output)


def test_pairs_that_tell_nothing_are_refused_or_named(
    folders: Path, capsys: pytest.CaptureFixture
) -> None:
    for path in Path("clear").iterdir():
        write_image(path, np.full((120, 180, 3), 90, np.uint8))
    line = refused(Path("hazy"), Path("clear"), Path("x.png"), per_photo=1)
    assert line.startswith("clear: no image has enough texture to measure haze by (3 read)")
    for seed, name in enumerate(("cloud_1", "cloud_2", "fog_1")):
        for side in ("clear", "hazy"):
            write_image(Path(side, f"{name}.png"), scene(seed))
    compare_haze(Path("hazy"), Path("clear"), Path("x.png"), per_photo=1, rows=1)
    line = one([line for line in capsys.readouterr().out.splitlines() if line[:9] == "nan where"])
    assert "airlight (real)" in line


def test_a_pipe_is_named_and_not_waited_for(folders: Path) -> None:
    Path("clear/fog_1.png").unlink()
    os.mkfifo("clear/fog_1.png")
    line = refused(Path("hazy"), Path("clear"), Path("x.png"), per_photo=1)
    assert line.startswith("clear/fog_1.png: not a regular file")


@pytest.mark.parametrize(
    ("name", "group"),
    [("nh_haze_20_1", "nh_haze"), ("densehaze_01", "densehaze"), ("51", ""), ("x/a-1", "a")],
)
def test_groups_are_what_comes_before_numbers(name: str, group: str) -> None:
    assert group_of(name) == group


@pytest.mark.skipif(
    not (DATA / "real_pairs").is_dir(), reason=f"no real pairs in {DATA} (KTDN_DATA)"
)
def test_default_haze_is_like_real_haze() -> None:
    folder = DATA / "real_pairs"
    files = find_pairs(folder / "hazy", folder / "clear", ["nh_haze_*", "smoke_*"])
    assert files
    real, made = [], []
    for number, pair in enumerate(map(read_pair, files)):
        real.append(measure_haze(pair.hazy, pair.clear))
        clear = at_working_size(pair.clear)
        for seed in range(8 * number, 8 * number + 8):
            hazy = np.rint(synthesize_haze(clear, seed).hazy * 255).astype(np.uint8)
            made.append(measure_haze(hazy, clear))
    for field, tolerance in {
        "contrast_loss": 0.08,
        "thickest": 0.06,
        "variation": 0.12,
        "thin_to_thick": 0.12,
        "tint": 0.08,
        "brightness": 0.08,
        "psnr": 2.0,
    }.items():
        one, other = (
            np.quantile([getattr(s, field) for s in statistics], (0.1, 0.5, 0.9))
            for statistics in (real, made)
        )
        np.testing.assert_allclose(other, one, atol=tolerance, err_msg=field)
