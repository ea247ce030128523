"""``ktdn report``: what is on the page, and what bad input gets."""

from __future__ import annotations

import base64
import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from helpers import evaluation_options, models, student_of_a_saved_teacher, write_options
from PIL import Image

from ktdn_plugin.cli import main
from ktdn_plugin.data.prepare import prepare
from ktdn_plugin.metrics import measure
from ktdn_plugin.report.embedding import difference, embed


def figures_of(page) -> list[dict[str, str]]:
    (link,) = page.all("a", download="figures.csv")
    text = base64.b64decode(link["href"].partition(",")[2]).decode()
    return list(csv.DictReader(io.StringIO(text)))


def decoded(uri: str) -> np.ndarray:
    kind, _, data = uri.partition(",")
    assert kind == "data:image/webp;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


def test_real_commands_to_a_page(run, pairs: Path, parse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pairs)
    opt = student_of_a_saved_teacher(pairs)
    opt["val"]["save_img"] = True
    for name, phase in (("train", "student"), ("test", "evaluation")):
        if name == "test":
            opt = evaluation_options(models(pairs, "student") / "net_g_latest.pth")
            opt["path"]["param_key_g"] = "params_ema"  # which validations take
        opt["name"] = phase
        dataset = opt["datasets"]["test" if name == "test" else "val"]
        dataset |= {"type": "PairedHazeDataset", "split": "tiny-val"}
        assert main([name, "-opt", str(write_options(pairs, opt))]) == 0
    done = run("report", "experiments/student", "results/evaluation", "-o", "page.html")
    assert done.returncode == 0, done.stderr
    assert "1 run, 2 photographs" in done.stdout
    assert done.stderr == ""
    page = parse((pairs / "page.html").read_text(encoding="utf-8"))
    labels = [one["data-label"] for one in page.all("figure", **{"class": "layer"})]
    a, b = "student @ 4", "evaluation"
    one = ["hazy", a, b, "clear", f"difference, {a}", f"difference, {b}"]
    assert labels == one * 2
    # The last validation's pictures are the test's, and so are the figures; both as logged.
    rows = figures_of(page)
    last = json.loads((pairs / "experiments/student/metrics.jsonl").read_text().splitlines()[-1])
    with (pairs / "results/evaluation/metrics.csv").open() as file:
        (mean,) = csv.DictReader(file)
    for label in (a, b):
        for metric in ("psnr", "ssim"):
            values = [float(row[metric]) for row in rows if row["image"] == label]
            assert np.mean(values) == pytest.approx(float(mean[metric]), abs=1e-3)
            assert last[metric] == pytest.approx(float(mean[metric]), abs=1e-3)
    assert "tiny-val" in page.visible


def test_training(project, report) -> None:
    page, out, err = report(project.training())
    assert "1 run, 2 photographs" in out
    assert err == ""
    labels = [one["data-label"] for one in page.all("figure", **{"class": "layer"})]
    assert labels == ["hazy", "dehazed", "clear", "difference"] * 2
    # The newest picture, 40's, is shown; the other one is blue.
    dehazed = decoded(page.all("img")[1]["src"])
    assert dehazed.shape == (64, 96, 3)
    assert np.abs(dehazed.mean((0, 1)) - (200, 60, 40)).max() < 4
    for text in ("best", "18.25 at 20", "0.625 at 40", "last, iteration 40", "17.50", "30.00"):
        assert text in page.visible, text
    titles = ["PSNR in dB on pairs (tiny-val)", "reconstruction loss (l_rec)", "learning rate"]
    assert all(title in page.visible for title in titles)
    # What no table tells is measured: the very pixels of the files.
    hazy, clear = (
        np.asarray(Image.open(project.root / "val" / side / "harbour.png"))
        for side in ("hazy", "clear")
    )
    row = next(r for r in figures_of(page) if r["photo"] == "harbour" and r["image"] == "hazy")
    assert float(row["psnr"]) == measure(hazy, clear).psnr
    assert "measured here" in row["source"]


def test_results_of_several_methods_are_layers_of_one_photograph(project, report) -> None:
    folders = [project.results("one"), project.results("two", (180, 40, 40))]
    page, out, _ = report(*folders)
    assert "2 photographs" in out
    labels = [one["data-label"] for one in page.all("figure", **{"class": "layer"})][:6]
    assert labels == ["hazy", "one", "two", "clear", "difference, one", "difference, two"]
    best = [one for one in page.all("td") if "best" in one.get("class", "")]
    values = [measure(a, b).psnr for a, b in [(decoded_file(folders[1]), clear_file(project))]]
    assert float(best[0]["data-value"]) == pytest.approx(values[0])


def decoded_file(folder: Path) -> np.ndarray:
    return np.asarray(Image.open(next((folder / "visualization" / "pairs").glob("harbour*"))))


def clear_file(project) -> np.ndarray:
    return np.asarray(Image.open(project.root / "val" / "clear" / "harbour.png"))


def test_images_with_a_table_and_named_ground_truth(project, report) -> None:
    page, out, _ = report(project.images(), "--gt", "val/clear", "--hazy", "val/hazy")
    assert "Not shown" not in out
    rows = figures_of(page)
    with (project.root / "mine" / "metrics.csv").open(newline="") as file:
        table = {row["photo"]: row for row in csv.DictReader(file)}
    assert {row["photo"] for row in rows} == set(project.names)
    for row in rows:
        assert row["source"] == "mine/metrics.csv"
        for metric in ("psnr", "ssim"):
            assert float(row[metric]) == float(table[row["photo"]][f"{row['image']}_{metric}"])
    # Sheets beside the images are no results.
    assert len(page.all("article")) == len(project.names)
    shown = [float(one["data-value"]) for one in page.all("td", **{"data-metric": "psnr"})]
    assert set(shown) == {10.0, 11.0, 20.1234, 21.1234}
    assert "20.62" in page.visible  # the mean, as the table has it


def test_table_of_several_methods_by_itself(project, report) -> None:
    head = ["split", "image", "method", "psnr", "ssim"]
    rows = [["v", name, m, 10 + i, 0.5] for name in project.names for i, m in enumerate("ab")]
    path = project.table(project.root / "compared.csv", [head], rows)
    folders = [project.images("a"), project.images("b")]
    for folder in folders:
        (folder / "metrics.csv").unlink()
    words = (folders[0], f"b={folders[1].rename(project.root / 'other')}", path)
    page, out, _ = report(*words, "--gt", "val/clear")
    assert "no hazy image" in out
    table = f"{project.root.name}/compared.csv"
    found = {(row["image"], row["psnr"], row["source"]) for row in figures_of(page)}
    assert found == {("a", "10.0", table), ("b", "11.0", table)}
    page, out, _ = report(path)
    assert "0 runs, 0 photographs" in out
    assert page.all("article") == []


def test_store_names_the_split(project, report) -> None:
    source = project.root / "source"
    (project.root / "val").rename(source)
    prepare(source, project.root / "store", split="my-split")
    page, _, _ = report(project.images(), "--gt", "store")
    assert "folders/my-split" in page.visible
    labels = [one["data-label"] for one in page.all("figure", **{"class": "layer"})]
    assert labels == ["hazy", "dehazed", "clear", "difference"] * 2


def test_ground_truth_may_be_a_folder_with_both(project, report) -> None:
    folder = project.images()
    page, out, _ = report(folder, "--gt", "val")
    labels = [one["data-label"] for one in page.all("figure", **{"class": "layer"})]
    assert labels == ["hazy", "dehazed", "clear", "difference"] * 2
    page, out, _ = report(folder, "--hazy", "val/hazy")
    assert "no clear image: no difference" in out
    labels = [one["data-label"] for one in page.all("figure", **{"class": "layer"})]
    assert labels == ["hazy", "dehazed"] * 2


def test_several_hazes_share_a_clear_photograph(project, report) -> None:
    folder, hazes = project.root / "made", project.root / "hazes"
    for number in (1, 2):
        for place in (folder, hazes):
            place.mkdir(exist_ok=True)
            Image.new("RGB", (96, 64), (60 * number,) * 3).save(place / f"harbour_{number}.png")
    page, _, _ = report(folder, "--hazy", hazes, "--gt", "val/clear")
    assert len(page.all("article")) == 2
    assert {row["psnr"] for row in figures_of(page) if row["image"] == "hazy"} == {
        row["psnr"] for row in figures_of(page) if row["image"] == "dehazed"
    }
    labels = [one["data-label"] for one in page.all("figure", **{"class": "layer"})]
    assert labels == ["hazy", "dehazed", "clear", "difference"] * 2


def test_teacher_is_shown_apart(project, report) -> None:
    page, _, _ = report(project.training("teacher", teacher=True))
    labels = [one["data-label"] for one in page.all("figure", **{"class": "layer"})]
    assert labels == ["clear", "reconstructed", "difference"] * 2
    assert "The teacher\u2019s reconstructions" in page.visible
    assert "of clear images, last, iteration 40" in page.visible
    assert not [one for one in page.all("td") if "best" in one.get("class", "")]


def test_work_directory_of_mmengine(project, report) -> None:
    folder = project.training("train", pictures=False).rename(project.root / "train")
    of = {"set": "test", "split": "tiny-val", "fingerprint": "", "images": 2}
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"kind": "test", "iter": 40, **of, "psnr": 13.5, "ssim": 0.75}))
        file.write('\n{"kind": "test", "it')
    (folder / "results").mkdir()
    for name in project.names:
        Image.new("RGB", (96, 64), (200, 60, 40)).save(folder / "results" / f"{name}.png")
    page, out, _ = report(folder)
    assert "1 run, 2 photographs" in out
    for text in ("18.25 at 20", "13.50", "0.750", "tiny-val", "reconstruction loss (l_rec)"):
        assert text in page.visible, text


def test_a_test_alone_has_no_curves(project, report) -> None:
    folder = project.training("train", pictures=False)
    line = {"kind": "test", "iter": 40, "set": "test", "psnr": 13.5}
    (folder / "metrics.jsonl").write_text(f"{json.dumps(line)}\n")
    page, _, _ = report(folder)
    assert "13.50" in page.visible
    assert page.all("figure", **{"class": "chart"}) == []
    assert main(["curves", str(folder)]) == 1


def test_runs_of_earlier_versions(project, report, refused) -> None:
    folder = project.training()
    (folder / "run.json").unlink()
    page, out, _ = report(folder)
    assert "18.25 at 20" in page.visible
    assert (
        "run.json is missing, which earlier versions did not write); give them with --hazy" in out
    )
    log = project.root / "work_dirs/old/20260101_000000/vis_data/scalars.json"
    log.parent.mkdir(parents=True)
    log.touch()
    line = refused("work_dirs/old")
    assert line.startswith("work_dirs/old: has no metrics.jsonl: a run of an earlier version")


def test_broken_description_is_named(project, refused) -> None:
    folder = project.training()
    for text in ("{", "[]", "{}", '{"data": 3}'):
        (folder / "run.json").write_text(text)
        assert refused(folder).startswith(f"{folder}/run.json: not written by a run")


def test_demo(project, report) -> None:
    (project.root / "options").mkdir()
    (project.root / "data").mkdir()
    (project.root / "data" / "demo_dataset.json").write_text("{}")
    project.training("student", pictures=False)
    project.results()
    archived = project.root / "results" / "test_archived_20260101_000000"
    archived.mkdir()
    head = ["split", "photo", "hazy_psnr", "hazy_ssim", "dehazed_psnr", "dehazed_ssim"]
    rows = [["tiny-val", name, 9.5, 0.25, 19.5, 0.75] for name in project.names]
    project.table(project.root / "metrics.csv", [head], rows)
    page, out, _ = report(project.root)
    assert "1 run, 2 photographs" in out
    assert "student: no images in the run's folder" in out
    assert {(r["image"], r["psnr"]) for r in figures_of(page)} == {
        ("hazy", "9.5"),
        ("dehazed", "19.5"),
    }


def test_what_is_missing_is_reported(project, report) -> None:
    folder = project.results()
    (project.root / "val").rename(project.root / "moved")
    page, out, _ = report(folder)
    assert "its hazy and clear images are not shown" in out
    assert "--hazy and --gt" in out
    assert "2 photographs: no clear image: no difference" in out
    assert "2 photographs: no hazy image" in out
    for line in out.splitlines():
        if line.startswith("Not shown: "):
            assert line.removeprefix("Not shown: ") in page.visible
    assert [one["data-label"] for one in page.all("figure", **{"class": "layer"})] == [
        "dehazed",
        "dehazed",
    ]


def test_other_size_and_unreadable_images(project, report) -> None:
    folder = project.images()
    (folder / "metrics.csv").unlink()
    Image.new("RGB", (50, 50)).save(folder / "harbour.png")
    (folder / f"{project.names[1]}.png").write_bytes(b"no image")
    page, out, _ = report(folder, "--gt", "val/clear", "--hazy", "val/hazy")
    assert (
        "harbour: dehazed is 50 x 50 and clear 96 x 64: no difference or metrics are shown" in out
    )
    assert f"{project.names[1]}: skipped (" in out
    labels = [one["data-label"] for one in page.all("figure", **{"class": "layer"})]
    assert labels == ["hazy", "dehazed", "clear"]


def test_size_is_bounded_and_reported(project, report, monkeypatch) -> None:
    folder = project.images()
    page, out, _ = report(folder, "--max-width", 48, "--photos", 1, "--gt", "val/clear")
    assert decoded(page.all("img")[0]["src"]).shape == (32, 48, 3)
    assert len(page.all("article")) == 1
    assert "1 of 2 photographs; --photos 2 shows all" in out
    size = Path("out/page.html").stat().st_size
    assert f"({size / 1e6:.1f} MB" in out
    monkeypatch.setattr("ktdn_plugin.report.LARGE", 1000)
    _, _, err = report(folder)
    assert err.startswith("warning: out/page.html is large")


def test_embedding() -> None:
    tall = np.zeros((5000, 10, 3), np.uint8)
    assert decoded(embed(tall, 100).uri).shape == (200, 1, 3)
    assert embed(np.zeros((75, 100, 3), np.uint8), 1200)[1:] == (800, 600)
    image = np.array([[[10, 20, 200]]], np.uint8)
    clear = np.array([[[20, 0, 0]]], np.uint8)
    np.testing.assert_array_equal(difference(image, clear), [[[40, 80, 255]]])
