"""mmengine's runs leave the record that BasicSR's leave, and the same commands read it."""

from __future__ import annotations

import json
from pathlib import Path

from configs import student_config
from helpers import teacher_file

from ktdn_plugin import cli
from ktdn_plugin.curves.runs import read_run
from ktdn_plugin.training.run_log import read_description, read_records

WORK = Path("work_dirs/config")


def test_a_run_its_resumption_and_its_test(mmengine_run, pairs: Path, capsys) -> None:
    teacher_file(pairs)
    hooks = [{"type": "RunLogHook"}, {"type": "TeacherCheckHook"}]
    hooks.append({"type": "DehazingVisualizationHook", "images": 0})
    cfg = student_config(train_cfg__max_iters=4, train_cfg__val_interval=2, custom_hooks=hooks)
    cfg["val_dataloader"]["dataset"]["split"] = "tiny-val"
    assert mmengine_run("train", cfg) == 0
    (scalars,) = WORK.glob("*/vis_data/scalars.json")
    logged = [json.loads(line) for line in scalars.read_text().splitlines()]
    rows = list(read_records(WORK))
    kinds = [(row["kind"], row["iter"]) for row in rows]
    assert kinds[0] == ("teacher", 0)
    trained = [("train", number) for number in (1, 2, 3, 4)]
    assert sorted(kinds[1:]) == [*trained, ("val", 2), ("val", 4)]
    # As mmengine itself has logged them.
    pairs_of = (("l_rec", "loss_rec"), ("l_kt", "loss_kt"), ("grad_norm", "grad_norm"))
    training = [row for row in rows if row["kind"] == "train"]
    for ours, theirs in pairs_of:
        known = [row[theirs] for row in logged if theirs in row]
        assert [row[ours] for row in training if ours in row] == known
    assert [row["lr"] for row in training] == [[row["lr"]] for row in logged if "lr" in row]
    assert rows[-1]["psnr"] == logged[-1]["PSNR"]
    assert rows[-1]["split"] == "tiny-val"

    # What a run writes that is ended after its checkpoint.
    with (WORK / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "iter": 5}\n{"kind": "val", "iter": 6, "set": "val"}\n{"k')
    cfg["train_cfg"]["max_iters"] = 6
    assert mmengine_run("train", cfg, "--resume") == 0
    training = [row["iter"] for row in read_records(WORK) if row["kind"] == "train"]
    assert training == [1, 2, 3, 4, 5, 6]
    described = read_description(WORK)
    assert described is not None
    assert described["resumed_from"]["iteration"] == 4
    assert (described["name"], described["stage"]) == ("config", "student")
    assert described["toolbox"].startswith("mmengine ")
    assert len(described["earlier"]) == 1

    assert mmengine_run("test", cfg, str(WORK / "iter_6.pth")) == 0
    run = read_run(WORK)
    assert run.test is not None
    assert run.test.figures.keys() == {"psnr", "ssim"}
    assert run.metrics["val (tiny-val)", "psnr"].last is not None
    assert list(run.losses)[:1] == ["l_rec"]
    assert ("val (tiny-val)", "psnr") in run.teacher
    assert [row["iter"] for row in read_records(WORK) if row["kind"] == "test"] == [6]
    capsys.readouterr()
    assert cli.main(["report", str(WORK), "-o", "page.html"]) == 0
    assert "1 run, 2 photographs" in capsys.readouterr().out


def test_a_test_alone_describes_itself(mmengine_run, pairs: Path) -> None:
    teacher_file(pairs)
    cfg = student_config(train_cfg__max_iters=1)
    assert mmengine_run("train", cfg) == 0
    words = (str(WORK / "iter_1.pth"), "--work-dir", "tested")
    assert mmengine_run("test", cfg, *words) == 0
    described = read_description(Path("tested"))
    assert described is not None
    assert described["stage"] == "test"
    assert [one["name"] for one in described["data"]["test"]] == ["test"]
    (row,) = read_records(Path("tested"))
    assert (row["kind"], row["iter"], row["images"]) == ("test", 1, 2)
    assert row["psnr"] > 0
