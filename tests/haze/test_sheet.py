from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from helpers import one, teacher_options, write_options

from ktdn_plugin import cli
from ktdn_plugin.basicsr.samples import read_training_samples
from ktdn_plugin.data.options import configure_synthetic
from ktdn_plugin.data.order import SeededDataset, TrainingOrder
from ktdn_plugin.metrics import to_rgb8
from ktdn_plugin.photos import read_rgb

DATASET = {
    "type": "SyntheticHazeDataset",
    "dataroot_gt": "train/clear",
    "gt_size": 48,
    "use_scale": [0.8, 1.2],
    "degradation": {"kinds": {"clouds": 0.5, "depth": 0.5}, "noise": {"share": 1}},
}


@pytest.fixture
def options(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An options file whose training is on made haze, in the folder that it is run in."""
    monkeypatch.chdir(pairs)
    opt = teacher_options()
    opt["datasets"]["train"] |= {**DATASET, "num_worker_per_gpu": 2}
    return write_options(pairs, opt)


def first_samples(seed: int, count: int) -> list:
    dataset = SeededDataset(configure_synthetic(DATASET, True).dataset, seed)
    order = itertools.chain.from_iterable(TrainingOrder(6, 2, seed))
    return [dataset[draw] for draw in itertools.islice(order, count)]


def test_a_sheet_shows_what_the_training_begins_with(options: Path) -> None:
    assert cli.main(["haze", "-opt", str(options), "-o", "s.png", "--count", "5"]) == 0
    sheet = read_rgb("s.png")
    places = {}
    for sample in first_samples(0, 5):
        for side in ("hazy", "clear"):
            cell = to_rgb8(sample[side])
            views = np.lib.stride_tricks.sliding_window_view(sheet, (48, 48, 3))[:, :, 0]
            rows, columns = np.nonzero((views[:, :, 0, 0] == cell[0, 0]).all(-1))
            found = [
                (int(y), int(x))
                for y, x in zip(rows, columns, strict=True)
                if np.array_equal(views[y, x], cell)
            ]
            places[len(places)] = one(found)
    # Four pairs beside each other, then the fifth, hazy left of clear.
    assert list(places.values()) == sorted(places.values())
    assert [y == places[0][0] for y, _ in places.values()] == [True] * 8 + [False] * 2


def test_seed_and_both_toolboxes_give_the_same_samples(options: Path) -> None:
    pytest.importorskip("mmengine")
    from ktdn_plugin.mmengine import samples as of_mmengine

    loader = {
        "batch_size": 2,
        "num_workers": 1,
        "persistent_workers": True,
        "sampler": {"type": "SeededSampler"},
        "dataset": DATASET,
    }
    config = (
        f"default_scope = 'ktdn_plugin'\nrandomness = dict(seed=0)\ntrain_dataloader = {loader}"
    )
    Path("config.py").write_text(config)
    for seed in (None, 3):
        expected = first_samples(seed or 0, 4)
        readers = (read_training_samples(options, seed), of_mmengine.read_training_samples)
        theirs = readers[1](Path("config.py"), seed)
        for number, (one_sample, other) in enumerate(zip(readers[0], theirs, strict=False)):
            if number == 4:
                break
            for sample in (one_sample, other):
                assert sample.hazy.equal(expected[number]["hazy"])
                assert sample.clear.equal(expected[number]["clear"])
                assert sample.name == expected[number]["name"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--count 3", "--count: only valid with -opt"),
        ("", "nothing to do; give a photo, or an options file with -opt"),
        ("-opt teacher.yml photo.png", "photo.png: not allowed with -opt, whose file lists"),
        ("-opt teacher.yml --veil 0 1", "--veil: not allowed with -opt, whose file sets"),
        ("-opt teacher.yml --depth d.png", "--depth: not allowed with -opt"),
        ("-opt teacher.yml --count 0", "--count 0: must lie in [1, 400]"),
        ("-opt teacher.yml -o sheet", "sheet: images can be written as .png, .jpg"),
        ("-opt teacher.yml -o there.png", "there.png: exists; --overwrite replaces it"),
        ("-opt nowhere.yml", "nowhere.yml"),
        ("-opt nowhere.py", "nowhere.py: no such config file"),
        ("-opt empty.py", "empty.py: has no train_dataloader; give a config that trains"),
        ("-opt wrong.yml", "wrong.yml: datasets.train: degradation.jpg: unknown key; did you"),
    ],
)
def test_what_does_not_fit_is_reported_in_a_line(
    options: Path, capsys: pytest.CaptureFixture[str], arguments: str, message: str
) -> None:
    if ".py" in arguments:
        pytest.importorskip("mmengine")
    Path("there.png").write_bytes(b"")
    Path("empty.py").write_text("")
    Path("wrong.yml").write_text(options.read_text().replace("noise:", "jpg:"))
    before = sorted(Path.cwd().rglob("*"))
    assert cli.main(["haze", *arguments.split()]) == 1
    assert message in one(capsys.readouterr().err.splitlines())
    assert sorted(Path.cwd().rglob("*")) == before
