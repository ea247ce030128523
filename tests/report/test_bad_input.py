"""What ``ktdn report`` answers to what it cannot show: one line, and nothing is written."""

from __future__ import annotations

import pytest
from PIL import Image


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (["nowhere"], "nowhere: there is no such folder; expected a training run"),
        (["empty"], "empty: contains neither a run nor an image; expected"),
        (["student"], "did you mean 'experiments/student'?"),
        (["experiments/studnet"], "did you mean 'student'?"),
        (["experiments"], "not a run itself; give one or more of: experiments/student"),
        (["."], "not a run itself; give one or more of: experiments/student, results/test"),
        (["experiments/student/visualization"], "lies inside a run; give the run's folder: "),
        (["experiments/student/run.json"], "is a file; expected"),
        (["experiments/student", "./experiments/student"], "given twice"),
        (["results/test", "--gt", "nowhere"], "nowhere: no such folder"),
        (["results/test", "--hazy", "empty"], "empty: holds no image"),
        (["results/test", "--hazy", "val/hazy", "--gt", "others"], "no hazy image has a clear"),
        (["results/test", "--max-width", "3"], "--max-width 3: must be 16 or more"),
        (["results/test", "--photos", "-1"], "--photos -1: must be 0 or more"),
        (["broken"], "metrics.csv, line 3: 2 cells for 3 columns"),
    ],
)
def test_bad_input(project, refused, words: list[str], wrong: str) -> None:
    project.training()
    project.results()
    (project.root / "empty").mkdir()
    project.table(project.root / "broken" / "metrics.csv", [["image", "psnr", "ssim"]], [])
    with (project.root / "broken" / "metrics.csv").open("a") as file:
        file.write("a,1,1\nb,1\n")
    (project.root / "others").mkdir()
    Image.new("RGB", (96, 64)).save(project.root / "others" / "zebra.png")
    assert wrong in refused(*words)


@pytest.mark.parametrize(
    ("output", "wrong"),
    [
        ("page.pdf", "-o page.pdf: the report is written as .html"),
        ("folder.html", "-o folder.html: is a folder"),
        ("file/page.html", "file is not a folder; choose another place"),
    ],
)
def test_unwritable_output(project, refused, output: str, wrong: str) -> None:
    folder = project.images()
    (project.root / "folder.html").mkdir()
    (project.root / "file").write_text("")
    assert wrong in refused(folder, output=output)


def test_place_that_refuses_files_is_found_before_any_work(project, refused, monkeypatch) -> None:
    monkeypatch.setattr("ktdn_plugin.report.gather", lambda *_: pytest.fail("it has begun"))
    said = refused(project.images(), output="/proc/page.html")
    assert "-o /proc/page.html: cannot be written (No such file or directory); choose" in said


def test_full_disk_leaves_the_old_page(project, refused, monkeypatch) -> None:
    folder = project.images()
    (project.root / "page.html").write_text("old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    assert "No space left on device" in refused(folder)
    assert (project.root / "page.html").read_text() == "old"


def test_run_that_has_logged_nothing(project, refused) -> None:
    folder = project.training()
    (folder / "metrics.jsonl").write_text("")
    assert "the run has not logged anything yet" in refused(folder)
    (folder / "metrics.jsonl").write_text('{"kind": "val"}\n')
    assert "metrics.jsonl, line 1" in refused(folder)
