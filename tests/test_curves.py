from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from ktdn_plugin.curves import draw_curves
from ktdn_plugin.curves import figure as drawing
from ktdn_plugin.curves.figure import COLOURS, draw_figure, run_names
from ktdn_plugin.curves.runs import read_run
from ktdn_plugin.curves.thinning import MOST_POINTS, moving_average, thin
from ktdn_plugin.errors import KTDNError

NAN, INF = math.nan, math.inf
VALUES = st.floats(-1e6, 1e6) | st.sampled_from([NAN, INF, -INF])


def train(iteration: int, **figures: object) -> dict:
    speed = {"grad_norm": 1.3, "images_per_second": 12.0, "data_share": 0.01, "memory_gib": 3.2}
    return {"kind": "train", "iter": iteration, "epoch": 0, "lr": [1e-4], **figures, **speed}


def val(iteration: int, data: str = "NH-HAZE", **figures: object) -> dict:
    return {"kind": "val", "iter": iteration, "set": data, **figures}


def teacher(**figures: object) -> dict:
    return {"kind": "teacher", "iter": 0, "set": "NH-HAZE", **figures}


def test_figures_of_different_splits_are_different_figures(tmp_path: Path) -> None:
    runs = []
    for split in ("nh-haze/challenge-val", "nh-haze/test-5", ""):
        record = {**val(100, psnr=20.0), "split": split}
        runs.append(read_run(make_run(tmp_path / f"run{len(runs)}", train(1, l_rec=0.1), record)))
    keys = [next(iter(run.metrics)) for run in runs]
    assert keys == [
        ("NH-HAZE (nh-haze/challenge-val)", "psnr"),
        ("NH-HAZE (nh-haze/test-5)", "psnr"),
        ("NH-HAZE", "psnr"),
    ]
    titles = [axes.get_title() for axes in draw_figure(runs).axes]
    for name, _ in keys:
        assert any(name in title for title in titles), titles


def make_run(folder: Path, *records: dict, tail: str = "") -> Path:
    folder.mkdir(parents=True)
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "metrics.jsonl").write_text(lines + tail)
    return folder


def make_training(folder: Path, seed: int = 0) -> Path:
    """A student's run as it looks in practice."""
    noise = np.random.RandomState(seed)
    records = [teacher(psnr=31.2, ssim=0.93)]
    for step in range(1, 201):
        losses = {name: 0.1 + noise.rand() / step for name in ("l_rec", "l_lap", "l_kt")}
        records.append(train(100 * step, **losses))
        if step % 40 == 0:
            records.append(val(100 * step, psnr=15 + step / 50, ssim=0.5 + step / 1000))
    return make_run(folder, *records)


def points(x: np.ndarray, y: np.ndarray) -> list[tuple[float, float]]:
    return list(zip(x.tolist(), y.tolist(), strict=True))


def panels(figure: Figure) -> dict[str, Axes]:
    return {axes.get_title().split(" (")[0]: axes for axes in figure.axes}


def legend(axes: Axes) -> list[str]:
    return axes.get_legend_handles_labels()[1]


def message(runs: list[Path], output: Path) -> str:
    with pytest.raises(KTDNError) as caught:
        draw_curves(runs, output / "curves.png")
    assert "\n" not in str(caught.value)
    assert not (output / "curves.png").exists()
    return str(caught.value)


# Reading


def test_run_is_read_as_it_was_logged(tmp_path: Path) -> None:
    run = read_run(
        make_run(
            tmp_path / "run",
            teacher(psnr=31.2),
            train(100, l_rec=0.5, l_kt=2),
            train(200, l_rec=0.25) | {"lr": [2e-4, 3e-4]},
            val(200, psnr=20.1, ssim=0.7),
            val(200, "O-HAZE", psnr=18.0),
            {"kind": "of a later version", "iter": 200, "l_rec": 9, "psnr": 99},
        )
    )
    assert {name: points(c.x, c.y) for name, c in run.losses.items()} == {
        "l_rec": [(100, 0.5), (200, 0.25)],
        "l_kt": [(100, 2)],
    }
    assert [points(c.x, c.y) for c in run.rates] == [[(100, 1e-4), (200, 2e-4)], [(200, 3e-4)]]
    assert {key: points(c.x, c.y) for key, c in run.metrics.items()} == {
        ("NH-HAZE", "psnr"): [(200, 20.1)],
        ("NH-HAZE", "ssim"): [(200, 0.7)],
        ("O-HAZE", "psnr"): [(200, 18.0)],
    }
    assert run.teacher == {("NH-HAZE", "psnr"): 31.2}


def test_non_numbers_are_not_metrics(tmp_path: Path) -> None:
    folder = make_run(
        tmp_path / "run",
        val(1, psnr=20, best=True, note="good", lpips=None, epoch=3),
        train(1, l_rec="0.5", l_lap=None),
    )
    run = read_run(folder)
    assert list(run.metrics) == [("NH-HAZE", "psnr")]
    assert run.losses == {}


def test_rate_may_be_a_bare_number(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path / "run", train(5, l_rec=1.0) | {"lr": 0.5}))
    assert [points(c.x, c.y) for c in run.rates] == [[(5, 0.5)]]


def test_nan_and_infinity_are_gaps_that_are_remembered(tmp_path: Path) -> None:
    values = [0.5, NAN, 0.25, INF, -INF, 10**400, 0.75]
    folder = make_run(tmp_path / "run", *(train(10 * i, l_rec=v) for i, v in enumerate(values)))
    curve = read_run(folder).losses["l_rec"]
    np.testing.assert_array_equal(curve.y, [0.5, NAN, 0.25, NAN, NAN, NAN, 0.75])
    assert (curve.highest, curve.lowest, curve.last) == ((60, 0.75), (20, 0.25), (60, 0.75))
    assert curve.broken == 10


def test_curve_of_nothing_finite_has_no_best(tmp_path: Path) -> None:
    curve = read_run(make_run(tmp_path / "run", val(10, psnr=INF))).metrics["NH-HAZE", "psnr"]
    assert (curve.highest, curve.lowest, curve.last, curve.broken) == (None, None, None, 10)


def test_extremes_are_those_of_all_points_not_of_the_means(tmp_path: Path) -> None:
    values = np.full(5000, 20.0)
    values[2500], values[2600] = 25, 5
    run = read_run(make_run(tmp_path / "run", *(val(i, psnr=v) for i, v in enumerate(values))))
    curve = run.metrics["NH-HAZE", "psnr"]
    assert len(curve.x) == MOST_POINTS
    assert (curve.highest, curve.lowest) == ((2500, 25), (2600, 5))
    assert curve.y.max() < 25


def test_resumed_training_replaces_what_it_repeats(tmp_path: Path) -> None:
    before = [train(i, l_rec=1.0) for i in (100, 200, 300)] + [val(300, psnr=10)]
    after = [train(i, l_rec=2.0) for i in (200, 300, 400)] + [val(300, psnr=11)]
    run = read_run(make_run(tmp_path / "run", *before, *after))
    assert points(run.losses["l_rec"].x, run.losses["l_rec"].y) == [
        (100, 1),
        (200, 2),
        (300, 2),
        (400, 2),
    ]
    assert run.metrics["NH-HAZE", "psnr"].highest == (300, 11)


@pytest.mark.parametrize(
    "tail", ['{"kind": "train", "iter": 2, "l_re', "\0\0\0", "\n\n \n", "[" * 9]
)
def test_last_line_may_be_cut_short(tail: str, tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path / "run", train(1, l_rec=1.0), tail=tail))
    assert points(run.losses["l_rec"].x, run.losses["l_rec"].y) == [(1, 1)]


def test_broken_line_before_others_is_named(tmp_path: Path) -> None:
    cut = '{"kind": "tra\n' + json.dumps(train(2, l_rec=1.0))
    folder = make_run(tmp_path / "run", train(1, l_rec=1.0), tail=cut)
    text = message([folder], tmp_path)
    assert text.startswith(f"{folder / 'metrics.jsonl'}, line 2: broken")


def test_null_is_a_figure_that_was_not_finite(tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    log.write_text(
        '{"kind": "val", "iter": 2, "set": "val", "psnr": 20.0}\n'
        '{"kind": "val", "iter": 4, "set": "val", "psnr": null}\n'
    )
    curve = read_run(tmp_path).metrics["val", "psnr"]
    assert (curve.highest, curve.broken) == ((2.0, 20.0), 4.0)


@pytest.mark.parametrize("line", ["[]", "3", '{"kind": "train"}', '{"iter": 1}', '{"iter": NaN}'])
def test_line_of_something_else_is_named(line: str, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", train(1, l_rec=1.0), tail=f"{line}\n")
    text = message([folder], tmp_path)
    assert text.startswith(f"{folder / 'metrics.jsonl'}, line 2: not a line of a training log")


@pytest.mark.parametrize("tail", ["", "\n", '{"kind": "tr', '{"kind": "train", "iter": 1}'])
def test_empty_log_is_reported(tail: str, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", tail=tail)
    text = message([folder], tmp_path)
    assert (
        text
        == f"{folder / 'metrics.jsonl'}: the run has not logged anything yet; let it train for a "
        "while"
    )


# Thinning and smoothing


@settings(deadline=None)
@given(values=st.lists(VALUES, max_size=300), most=st.integers(3, 50))
def test_thinned_curve_is_short_and_spans_the_same_range(values: list[float], most: int) -> None:
    x, y = np.arange(7, 7 + len(values), dtype=float), np.array(values, dtype=float)
    thin_x, thin_y = thin(x, y, most)
    assert len(thin_x) == len(thin_y) == min(len(x), most)
    assert (np.diff(thin_x) > 0).all()
    assert not np.isinf(thin_y).any()
    if values:
        assert (thin_x[0], thin_x[-1]) == (x[0], x[-1])
    finite = y[np.isfinite(y)]
    if finite.size:
        slack = 1e-9 * (1 + np.abs(finite).max())
        assert np.nanmin(thin_y) >= finite.min() - slack
        assert np.nanmax(thin_y) <= finite.max() + slack
    else:
        assert np.isnan(thin_y).all()


@settings(deadline=None)
@given(st.data())
def test_thinning_preserves_the_mean(data: st.DataObject) -> None:
    most, size = data.draw(st.integers(3, 20)), data.draw(st.integers(2, 20))
    inner = (most - 2) * size  # as many for each bin
    values = data.draw(st.lists(st.floats(-1e6, 1e6), min_size=inner + 2, max_size=inner + 2))
    y = np.array(values)
    thin_y = thin(np.arange(len(y), dtype=float), y, most)[1]
    assert (thin_y[0], thin_y[-1]) == (y[0], y[-1])
    np.testing.assert_allclose(thin_y[1:-1].mean(), y[1:-1].mean(), rtol=1e-9, atol=1e-6)


@given(length=st.integers(4, 3000), most=st.integers(3, 100))
def test_thinned_line_stays_on_the_line(length: int, most: int) -> None:
    x = np.arange(length, dtype=float) ** 2
    np.testing.assert_allclose(*thin(x, x, most), rtol=1e-12)


def test_thinning_leaves_out_what_is_not_finite() -> None:
    y = np.array([1, NAN, 3, NAN, NAN, INF, 6, 8, 5])
    x, thinned = thin(np.arange(9.0), y, 4)
    np.testing.assert_array_equal(x, [0, 2, 5.5, 8])
    np.testing.assert_array_equal(thinned, [1, 3, 7, 5])
    np.testing.assert_array_equal(thin(np.arange(9.0), y, 6)[1], [1, NAN, 3, NAN, 7, 5])


def test_too_few_points_to_keep_are_refused() -> None:
    with pytest.raises(ValueError, match="3 or more"):
        thin(np.arange(9.0), np.arange(9.0), 2)


def test_moving_average_takes_a_twentieth_of_the_points() -> None:
    y = np.zeros(400)
    y[200] = 21.0
    average = moving_average(y)
    np.testing.assert_allclose(average[190:211], 1)
    assert average[:190].max() == average[211:].max() == 0


def test_moving_average_at_the_ends_and_at_gaps() -> None:
    average = moving_average(np.array([1, 2, 6, NAN, 4, 8]))
    np.testing.assert_allclose(average, [1.5, 3, 4, NAN, 6, 6])


# Names


def test_runs_of_one_name_are_distinguished_by_their_parents() -> None:
    folders = ["a/experiments/x", "b/experiments/x", "b/experiments/y", "b/old/x"]
    assert run_names([Path(folder) for folder in folders]) == [
        "a/experiments/x",
        "b/experiments/x",
        "y",
        "old/x",
    ]


def test_long_names_are_shortened_in_the_middle() -> None:
    (name,) = run_names([Path("train_ktdn_nhhaze_res2net101d_archived_20260101_120000")])
    assert len(name) == drawing.LONGEST_NAME
    assert name.startswith("train_ktdn")
    assert name.endswith("20260101_120000")
    assert "…" in name


def test_names_that_are_shortened_to_the_same_are_numbered() -> None:
    names = run_names([Path("a" * 40 + letter + "a" * 40) for letter in "xyz"])
    assert [name[-2:] for name in names] == ["#1", "#2", "#3"]


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from(["a", "b", "a" * 50]), min_size=1, max_size=4)))
def test_names_differ(folders: list[list[str]]) -> None:
    unique = {tuple(parts) for parts in folders}
    names = run_names([Path(*parts) for parts in unique])
    assert len(set(names)) == len(unique)


# Figures


def test_panel_for_each_loss_rate_and_figure_of_each_set(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / "one", train(1, l_rec=1.0, l_lap=1.0), val(1, ssim=0.5, psnr=20)),
        make_run(tmp_path / "two", train(1, l_kt=1.0), val(1, "O", psnr=20), val(1, lpips=0.5)),
    ]
    figure = draw_figure([read_run(run) for run in runs])
    assert list(panels(figure)) == [
        *("l_rec", "l_lap", "l_kt", "learning rate"),
        *("ssim on NH-HAZE", "psnr on NH-HAZE", "lpips on NH-HAZE", "psnr on O"),
    ]


def test_noisy_loss_is_drawn_faint_and_smoothed_and_a_short_one_as_it_is(tmp_path: Path) -> None:
    values = 1 + np.random.RandomState(0).rand(60)
    long = make_run(tmp_path / "long", *(train(i, l_rec=v) for i, v in enumerate(values)))
    short = make_run(tmp_path / "short", *(train(i, l_rec=v) for i, v in enumerate(values[:5])))
    lines = panels(draw_figure([read_run(long), read_run(short)]))["l_rec"].lines
    assert len(lines) == 3
    np.testing.assert_allclose(lines[0].get_ydata(), values)
    np.testing.assert_allclose(lines[1].get_ydata(), moving_average(values))
    np.testing.assert_allclose(lines[2].get_ydata(), values[:5])
    assert lines[0].get_alpha() < 0.5
    assert [line.get_color() for line in lines] == [COLOURS[0], COLOURS[0], COLOURS[1]]


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([0.5, 0.1], "log"),
        ([0.5, 1e-9], "log"),
        ([0.5, 0], "linear"),
        ([0.5, -0.1], "linear"),
        ([0.5, NAN, 0.2], "log"),
        ([NAN], "linear"),
        ([1.0] * 3000 + [0.0] + [1.0] * 3000, "linear"),
    ],
)
def test_losses_are_on_a_logarithmic_scale_where_all_are_positive(
    values: list[float], scale: str, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "run", *(train(i, l_rec=v) for i, v in enumerate(values)))
    assert panels(draw_figure([read_run(run)]))["l_rec"].get_yscale() == scale


@pytest.mark.parametrize("factor", [1.001, 1.5, 3, 8, 50, 1e4, 1e12, 1e60])
def test_logarithmic_scale_has_a_few_labels(factor: float, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", train(1, l_rec=0.3), train(2, l_rec=0.3 * factor))
    axes = panels(draw_figure([read_run(run)]))["l_rec"]
    low, high = axes.get_ylim()
    shown = [tick for tick in axes.get_yticks() if low <= tick <= high]
    labels = {axes.yaxis.get_major_formatter()(tick) for tick in shown}
    assert 2 <= len(labels) == len(shown) <= 12


def test_diverged_loss_is_marked_and_noted(tmp_path: Path) -> None:
    losses = [0.5, 0.4, NAN, NAN]
    run = make_run(tmp_path / "run", *(train(10 * i, l_rec=v) for i, v in enumerate(losses)))
    axes = panels(draw_figure([read_run(run)]))["l_rec"]
    assert legend(axes) == ["run: NaN or infinite @ 20"]
    assert axes.lines[-1].get_xdata() == [20]


@pytest.mark.parametrize(
    ("metric", "text"),
    [
        ("psnr", "best 9.000 @ 200"),
        ("ssim_y", "best 9.000 @ 200"),
        ("PSNR", "best 9.000 @ 200"),
        ("lpips", "best 1.000 @ 100"),
        ("niqe", "best 1.000 @ 100"),
        ("dssim", "last 5.000 @ 300"),
        ("ciede", "last 5.000 @ 300"),
    ],
)
def test_legend_tells_the_best_value_or_the_last(metric: str, text: str, tmp_path: Path) -> None:
    values = {100: 1.0, 200: 9.0, 300: 5.0}
    run = make_run(tmp_path / "student", *(val(i, **{metric: v}) for i, v in values.items()))
    axes = panels(draw_figure([read_run(run)]))[f"{metric} on NH-HAZE"]
    assert legend(axes) == [f"student: {text}"]
    assert axes.get_legend() is not None
    assert points(*axes.lines[0].get_data()) == list(values.items())
    assert axes.get_yscale() == "linear"


def test_first_of_equally_good_ones_is_the_best(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", *(val(i, psnr=v) for i, v in ((1, 5), (2, 7), (3, 7))))
    assert read_run(run).metrics["NH-HAZE", "psnr"].highest == (2, 7)


def test_infinite_metrics_are_reported(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", teacher(psnr=INF), val(1, psnr=INF))
    assert legend(panels(draw_figure([read_run(run)]))["psnr on NH-HAZE"]) == [
        "run: no finite value"
    ]


def test_students_of_one_teacher_share_its_line(tmp_path: Path) -> None:
    figures = [val(1, psnr=20), val(2, psnr=25)]
    runs = [make_run(tmp_path / name, teacher(psnr=26.5), *figures) for name in ("a", "b")]
    axes = panels(draw_figure([read_run(run) for run in runs]))["psnr on NH-HAZE"]
    assert legend(axes)[2:] == ["teacher: 26.50"]
    assert list(axes.lines[-1].get_ydata()) == [26.5, 26.5]


def test_different_teachers_are_named(tmp_path: Path) -> None:
    figures = [val(1, psnr=20), val(2, psnr=25)]
    runs = [make_run(tmp_path / str(v), teacher(psnr=v), *figures) for v in (24, 26)]
    axes = panels(draw_figure([read_run(run) for run in runs]))["psnr on NH-HAZE"]
    assert legend(axes)[2:] == ["teacher of 24: 24.00", "teacher of 26: 26.00"]


def test_far_teacher_does_not_flatten_the_students(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", teacher(psnr=60), val(1, psnr=20), val(2, psnr=25))
    axes = panels(draw_figure([read_run(run)]))["psnr on NH-HAZE"]
    assert legend(axes)[1:] == ["teacher: 60.00 (above)"]
    assert axes.get_ylim()[1] < 30


def test_teachers_alone_are_drawn(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / f"{v}", teacher(psnr=v), val(1, psnr=NAN)) for v in (60, 70)]
    axes = panels(draw_figure([read_run(run) for run in runs]))["psnr on NH-HAZE"]
    assert [list(line.get_ydata()) for line in axes.lines[2:]] == [[60, 60], [70, 70]]


def test_runs_keep_their_colours_in_all_panels_and_in_the_legend(tmp_path: Path) -> None:
    runs = [read_run(make_training(tmp_path / f"run{i}", i)) for i in range(8)]
    figure = draw_figure(runs)
    for axes in figure.axes:
        drawn = [line.get_color() for line in axes.lines if line.get_color() in COLOURS]
        assert list(dict.fromkeys(drawn)) == list(COLOURS)
    (names,) = figure.legends
    assert [text.get_text() for text in names.get_texts()] == [f"run{i}" for i in range(8)]
    assert [line.get_color() for line in names.get_lines()] == list(COLOURS)


def test_more_runs_than_colours_differ_by_their_lines(tmp_path: Path) -> None:
    runs = [read_run(make_run(tmp_path / str(i), val(1, psnr=i))) for i in range(20)]
    lines = panels(draw_figure(runs))["psnr on NH-HAZE"].lines
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 20


def test_panels_share_the_range_of_iterations(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / "a", train(100, l_rec=1.0), val(50, psnr=20)),
        make_run(tmp_path / "b", train(4000, l_rec=1.0)),
    ]
    for axes in draw_figure([read_run(run) for run in runs]).axes:
        assert axes.get_xlim() == pytest.approx((-80, 4080))


@pytest.mark.parametrize("count", [1, 3, 8])
def test_nothing_overlaps_or_leaves_the_picture(count: int, tmp_path: Path) -> None:
    name = "train_ktdn_nhhaze_res2net101d_archived_2026010{}_120000"
    runs = [read_run(make_training(tmp_path / name.format(i), i)) for i in range(count)]
    figure = draw_figure(runs)
    height, width, _ = drawing.render_pixels(figure).shape
    boxes = [axes.get_tightbbox() for axes in figure.axes]  # with ticks, titles and legends
    boxes.append(figure.legends[0].get_window_extent())
    for number, box in enumerate(boxes):
        assert 0 <= box.x0 < box.x1 <= width
        assert 0 <= box.y0 < box.y1 <= height
        assert not any(box.overlaps(other) for other in boxes[:number])
    for axes in figure.axes:
        inside = axes.get_window_extent()
        assert inside.width > 0.7 * drawing.PANEL_WIDTH * drawing.DOTS_PER_INCH
        assert inside.height > 0.6 * drawing.PANEL_HEIGHT * drawing.DOTS_PER_INCH
        if axes.get_legend():
            assert axes.get_legend().get_window_extent().y1 < axes.xaxis.get_tightbbox().y0


# The command


def test_drawing_is_text_and_the_same_each_time(tmp_path: Path) -> None:
    run = make_training(tmp_path / "experiments" / "<b>&run")
    for name in ("one.svg", "new/other.svg"):
        draw_curves([run], tmp_path / name)
    drawing = (tmp_path / "one.svg").read_bytes()
    assert drawing == (tmp_path / "new/other.svg").read_bytes()
    words = [one.text for one in ElementTree.fromstring(drawing).iter() if one.tag[-4:] == "text"]
    assert {"<b>&run", "learning rate", "iteration"} <= set(words)


@pytest.mark.parametrize("name", ["curves.png", "new/folder/curves.jpg"])
def test_picture_is_written_and_named(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [make_training(tmp_path / "experiments" / f"run{i}", i) for i in range(2)]
    draw_curves(runs, tmp_path / name)
    assert capsys.readouterr().out == f"Picture: {tmp_path / name}\n"
    with Image.open(tmp_path / name) as picture:
        assert 800 <= picture.width <= 2000
        assert 800 <= picture.height <= 2000
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 24)}
    if name.endswith("png"):
        assert {(255, 255, 255), *(tuple(bytes.fromhex(c[1:])) for c in COLOURS[:2])} <= colours


def test_unusual_names_are_drawn_as_they_are(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / name, train(1, **{"l_$x$": 1.0}), val(1, "$\\bad{$", psnr=20))
        for name in ("_hidden", "$a$b", "a b")
    ]
    draw_curves(runs, tmp_path / "curves.png")
    figure = draw_figure([read_run(run) for run in runs])
    names = [text.get_text().strip() for text in figure.legends[0].get_texts()]
    assert names == ["_hidden", r"\$a\$b", "a b"]
    axes = figure.axes[-1]
    assert len(axes.get_legend().get_texts()) == len(axes.lines) == 3


@pytest.mark.filterwarnings("error")
def test_extreme_values_are_drawn_without_warnings(tmp_path: Path) -> None:
    values = [NAN, 1e308, -1e308, 1e99, 5e-324, 0, 10**400]
    rows = [(train(i, l_a=v, l_b=v or 1e-9), val(i, psnr=v)) for i, v in enumerate(values * 200)]
    run = make_run(tmp_path / "run", *(record for row in rows for record in row))
    single = make_run(tmp_path / "single", val(0, psnr=20))
    draw_curves([run, single], tmp_path / "curves.png")
    assert (tmp_path / "curves.png").is_file()


def test_the_users_defaults_neither_show_nor_change(tmp_path: Path) -> None:
    run = make_training(tmp_path / "run")
    draw_curves([run], tmp_path / "plain.png")
    with matplotlib.rc_context({"figure.facecolor": "black", "text.usetex": True}):
        before = dict(matplotlib.rcParams)
        draw_curves([run], tmp_path / "dark.png")
        assert dict(matplotlib.rcParams) == before
    assert (tmp_path / "dark.png").read_bytes() == (tmp_path / "plain.png").read_bytes()


def test_no_global_plotting_and_matplotlib_only_when_drawing(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from ktdn_plugin.curves import draw_curves;"
        "assert 'matplotlib' not in sys.modules;"
        f"draw_curves([Path({str(make_training(tmp_path / 'run'))!r})], Path(sys.argv[1]));"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run(
        [sys.executable, "-c", code, tmp_path / "curves.png"], check=True, cwd=Path.cwd()
    )


def test_no_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one"):
        draw_curves([], tmp_path / "curves.png")


def test_other_endings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        KTDNError, match=r"curves\.pdf: curves can be written as \.svg, \.png, \.jpg"
    ):
        draw_curves([make_training(tmp_path / "run")], tmp_path / "curves.pdf")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_bad_input_keeps_the_earlier_picture(tmp_path: Path) -> None:
    (tmp_path / "curves.png").write_bytes(b"earlier")
    good, empty = make_training(tmp_path / "good"), make_run(tmp_path / "empty")
    with pytest.raises(KTDNError, match="not logged anything yet"):
        draw_curves([good, empty], tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes() == b"earlier"
    assert len(list(tmp_path.iterdir())) == 3


EXPECTED = "expected a run's folder, such as experiments/NAME or work_dirs/NAME"


def test_missing_folder(tmp_path: Path) -> None:
    missing = tmp_path / "nothing"
    assert message([missing], tmp_path) == f"{missing}: there is no such folder; {EXPECTED}"


def test_folder_without_log(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    text = message([tmp_path / "results"], tmp_path)
    assert text == f"{tmp_path / 'results'}: has no metrics.jsonl; {EXPECTED}"


def test_file_outside_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    text = message([tmp_path / "notes.txt"], tmp_path)
    assert text == f"{tmp_path / 'notes.txt'}: is a file; {EXPECTED}"


def test_misspelt_run_is_suggested(tmp_path: Path) -> None:
    for name in ("student", "teacher"):
        make_training(tmp_path / name)
    text = message([tmp_path / "studnet"], tmp_path)
    assert text.endswith(f"no such folder; {EXPECTED}; did you mean 'student'?")


def test_runs_beside_a_wrong_folder_are_listed(tmp_path: Path) -> None:
    runs = [make_training(tmp_path / name) for name in ("a1", "b2")]
    text = message([tmp_path / "something"], tmp_path)
    assert text.endswith(f"{EXPECTED}; runs beside it: {runs[0]}, {runs[1]}")


def test_bare_name_of_a_run_is_suggested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_training(tmp_path / "experiments" / "student")
    monkeypatch.chdir(tmp_path)
    text = message([Path("student")], tmp_path)
    assert text.endswith(f"{EXPECTED}; did you mean '{Path('experiments/student')}'?")


@pytest.mark.parametrize("inner", ["metrics.jsonl", "models", "models/net_g_latest.pth"])
def test_path_inside_a_run_names_the_run(inner: str, tmp_path: Path) -> None:
    run = make_training(tmp_path / "run")
    (run / "models").mkdir()
    (run / "models" / "net_g_latest.pth").touch()
    text = message([run / inner], tmp_path)
    assert text == f"{run / inner}: lies inside a run; give the run's folder: {run}"


def test_folder_of_runs_lists_them(tmp_path: Path) -> None:
    runs = [make_training(tmp_path / "experiments" / name) for name in ("a", "b")]
    for folder in (tmp_path / "experiments", tmp_path):
        text = message([folder], tmp_path)
        assert text == f"{folder}: not a run itself; give one or more of: {runs[0]}, {runs[1]}"


def test_long_list_of_runs_ends(tmp_path: Path) -> None:
    for number in range(11):
        make_run(tmp_path / "experiments" / f"run{number:02}")
    text = message([tmp_path / "experiments"], tmp_path)
    assert text.endswith(f"{tmp_path / 'experiments' / 'run07'} and 3 more")


def test_run_given_twice(tmp_path: Path) -> None:
    run = make_training(tmp_path / "run")
    assert message([run, run], tmp_path) == f"{run}: given twice; remove one"
    other = tmp_path / "x" / ".." / "run"
    (tmp_path / "x").mkdir()
    assert message([run, other], tmp_path) == f"{other}: given twice, also as {run}; remove one"


def test_run_that_mmengine_alone_has_logged_is_refused(tmp_path: Path) -> None:
    log = tmp_path / "work_dirs" / "run" / "20260101_000000" / "vis_data" / "scalars.json"
    log.parent.mkdir(parents=True)
    log.write_text('{"lr": 0.1, "loss_rec": 3.0, "step": 1}\n')
    folder = tmp_path / "work_dirs" / "run"
    assert message([folder], tmp_path).startswith(f"{folder}: has no metrics.jsonl: a run of an")
