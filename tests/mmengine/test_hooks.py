"""The hooks, in runs: pictures, the teacher's check, frozen statistics, any checkpoint's layout."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from configs import log_of, set_in, student_config, teacher_config
from helpers import ENCODER, one, teacher_file
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS

from ktdn_plugin import KTDN, KTDNError
from ktdn_plugin.checkpoints import Checkpoint
from ktdn_plugin.mmengine.hooks.checkpoint_layout_hook import fit_model
from ktdn_plugin.mmengine.models import KTDNTeacher
from ktdn_plugin.storage.published_keys import to_published
from ktdn_plugin.storage.state_dicts import compare_keys

WORK = Path("work_dirs/config")


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["state_dict"]


def statistics(path: Path) -> dict[str, torch.Tensor]:
    return {
        key: value
        for key, value in weights_of(path).items()
        if key.endswith(("running_mean", "running_var"))
    }


def test_sheets_of_the_first_images(mmengine_run, pairs: Path) -> None:
    teacher_file(pairs)
    assert mmengine_run("train", student_config()) == 0
    sheets = sorted(path.name for path in WORK.glob("*/vis_data/vis_image/*.png"))
    assert sheets == ["00_2.png", "00_4.png"]  # of two images, in two validations
    sheet = cv2.imread(str(next(WORK.glob("*/vis_data/vis_image/00_4.png"))))
    assert sheet.shape[0] > 50  # hazy, dehazed and clear side by side
    assert sheet.shape[1] > 3 * 75


@pytest.mark.parametrize("images", [0, 2])
def test_number_of_sheets(mmengine_run, pairs: Path, images: int) -> None:
    cfg = teacher_config(custom_hooks__2__images=images, train_cfg__max_iters=2)
    assert mmengine_run("train", cfg) == 0
    assert len(list(WORK.glob("*/vis_data/vis_image/*.png"))) == images


@pytest.mark.parametrize("saves", [True, False])
def test_results_of_a_test(mmengine_run, pairs: Path, saves: bool) -> None:
    teacher_file(pairs)
    cfg = student_config(custom_hooks__2__save_results=saves)
    assert mmengine_run("test", cfg, "teacher.pth") == 0
    results = sorted((WORK / "results").glob("*")) if saves else []
    assert sorted(WORK.glob("results/*")) == results
    if saves:
        assert [path.name for path in results] == ["00.png", "01.png"]
        assert [cv2.imread(str(path)).shape for path in results] == [(50, 75, 3), (57, 75, 3)]


def checked(**options: object) -> dict:
    cfg = student_config(train_cfg__max_iters=2)
    cfg["custom_hooks"].append({"type": "TeacherCheckHook", **options})
    return cfg


def test_teacher_that_reconstructs(mmengine_run, pairs: Path) -> None:
    teacher_file(pairs)
    assert mmengine_run("train", checked(min_psnr=1)) == 0
    assert log_of(pairs).count("The teacher reconstructs the validation set at") == 1
    # It was measured when the training began.
    cfg = checked(min_psnr=1)
    set_in("train_cfg.max_iters", 4)(cfg)
    assert mmengine_run("train", cfg, "--resume") == 0
    assert log_of(pairs).count("The teacher reconstructs the validation set at") == 1


def test_teacher_that_does_not_reconstruct(breaks, pairs: Path) -> None:
    teacher_file(pairs)
    line = one(breaks(checked(min_psnr=60)))
    assert "this teacher reconstructs poorly: " in line
    assert "less than TeacherCheckHook's min_psnr: 60" in line
    assert not list(WORK.glob("*.pth"))


def test_teacher_is_only_measured(mmengine_run, pairs: Path) -> None:
    teacher_file(pairs)
    assert mmengine_run("train", checked()) == 0
    assert "The teacher reconstructs the validation set at" in log_of(pairs)


def freezing(after: int, iterations: int) -> dict:
    cfg = teacher_config(
        model__generator__encoder="test_resnet",
        train_cfg__max_iters=iterations,
        default_hooks__checkpoint__interval=1,
        default_hooks__checkpoint__max_keep_ckpts=10,
    )
    cfg["custom_hooks"] = [{"type": "FreezeBatchNormHook", "after": after}]
    return cfg


def test_statistics_stop_moving(mmengine_run, pairs: Path) -> None:
    assert mmengine_run("train", freezing(after=2, iterations=3)) == 0
    assert mmengine_run("train", freezing(after=2, iterations=5), "--resume") == 0
    kept = [statistics(WORK / f"iter_{number}.pth") for number in range(1, 6)]
    assert any("encoder" in key for key in kept[0])
    moved = [
        any(not torch.equal(before[key], after[key]) for key in before)
        for before, after in pairwise(kept)
    ]
    assert moved == [True, False, False, False]
    # The weights go on learning, those of the norms as well.
    first, last = weights_of(WORK / "iter_3.pth"), weights_of(WORK / "iter_5.pth")
    assert not torch.equal(first["generator.tail.1.weight"], last["generator.tail.1.weight"])


def basicsr_file(folder: Path) -> dict[str, torch.Tensor]:
    weights, average = KTDN(ENCODER).state_dict(), KTDN(ENCODER).state_dict()
    torch.save({"params": weights, "params_ema": average}, folder / "other.pth")
    return average


def bare_file(folder: Path) -> dict[str, torch.Tensor]:
    weights = KTDN(ENCODER).state_dict()
    torch.save(weights, folder / "other.pth")
    return weights


def wrapped_file(folder: Path) -> dict[str, torch.Tensor]:
    weights = KTDN(ENCODER).state_dict()
    content = {f"module.{key}": value for key, value in weights.items()}
    torch.save({"model": content}, folder / "other.pth")
    return weights


@pytest.mark.parametrize("file", [basicsr_file, bare_file, wrapped_file])
@pytest.mark.parametrize("averages", [True, False])
def test_starts_from_other_layouts(mmengine_run, pairs: Path, file, averages: bool) -> None:
    expected = file(pairs)
    cfg = teacher_config(
        load_from="other.pth",
        train_cfg__max_iters=1,
        optim_wrapper__optimizer={"type": "SGD", "lr": 0.0},
    )
    cfg["custom_hooks"] = cfg["custom_hooks"][0 if averages else 1 :]
    assert mmengine_run("train", cfg) == 0
    saved = torch.load(WORK / "iter_1.pth", weights_only=True)
    assert ("ema_state_dict" in saved) == averages
    for key, value in expected.items():
        if "running" not in key and "num_batches" not in key:
            # An average of equal weights is equal up to rounding.
            assert torch.allclose(saved["state_dict"][f"generator.{key}"], value), key


def test_student_starts_from_a_teacher_and_tests_as_one(mmengine_run, pairs: Path) -> None:
    """What a stage here has saved fits the other one, whose network has another name."""
    assert mmengine_run("train", teacher_config(train_cfg__max_iters=2), "--work-dir", "one") == 0
    cfg = student_config(
        load_from="one/iter_2.pth",
        model__teacher_checkpoint="one/iter_2.pth",
        train_cfg__max_iters=1,
        optim_wrapper__optimizer={"type": "SGD", "lr": 0.0},
    )
    teacher = weights_of(pairs / "one/iter_2.pth")
    assert mmengine_run("train", cfg) == 0
    student = weights_of(WORK / "iter_1.pth")
    key = "tail.1.weight"
    assert torch.allclose(student[f"student.{key}"], teacher[f"generator.{key}"])
    assert not any("teacher" in name for name in student)


def test_the_published_layout() -> None:
    with torch.device("meta"):  # names and shapes, without 100 MB of numbers
        model = KTDNTeacher({"type": "ktdn_plugin.KTDN"}, {"type": "ktdn_plugin.PixelLoss"})
        published = to_published(KTDN().state_dict())
    found = fit_model(model, Checkpoint(published, "KTDN.pth"), resumes=False)
    assert found is not None
    assert not compare_keys(model.state_dict(), found)


@pytest.mark.parametrize("prefix", ["", "generator."])
def test_checkpoint_of_other_settings_is_refused(prefix: str) -> None:
    network = {"type": "ktdn_plugin.KTDN", "encoder": "test_convnext"}
    model = KTDNTeacher(network, {"type": "ktdn_plugin.PixelLoss"})
    weights = {f"{prefix}{k}": value for k, value in KTDN("test_convnext").state_dict().items()}
    for mean, words in (([0.64, 0.6, 0.58], ""), ([0.5, 0.5, 0.5], "it says mean [0.5, 0.5, 0.5]")):
        told = {"network": {"type": "KTDN", "mean": mean}}
        content = {"meta": {"ktdn": told}, "state_dict": weights}
        if not words:
            fit_model(model, Checkpoint(content, "a.pth"), resumes=False)
            continue
        with pytest.raises(KTDNError, match=re.escape(words)):
            fit_model(model, Checkpoint(content, "a.pth"), resumes=False)


def test_checkpoint_of_another_encoder_is_refused(fails, pairs: Path) -> None:
    torch.save({"params": KTDN("test_resnet").state_dict()}, pairs / "other.pth")
    line = one(fails(teacher_config(load_from="other.pth")))
    assert "load_from: other.pth: a checkpoint of a different network than this KTDN with" in line


@METRICS.register_module(force=True)
class Fails(BaseMetric):
    """As NIQE on flat images: it raises, in measuring or at last, or gives NaN."""

    default_prefix = ""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def process(self, data_batch, data_samples) -> None:
        if self.how == "process":
            raise np.linalg.LinAlgError("Singular matrix")
        self.results.append(0.0)

    def compute_metrics(self, results: list) -> dict[str, float]:
        if self.how == "compute":
            return {"Fails": 1 / sum(results)}
        return {"Fails": float("nan")}


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("process", "Fails: no value for 2 of 2 images, val/clear/00.png and 1 more (LinAlgError:"),
        ("compute", "Fails: no value (ZeroDivisionError: "),
        ("nan", "Fails is nan: it is not logged"),
    ],
)
def test_a_metric_that_fails(mmengine_run, pairs: Path, how: str, expected: str) -> None:
    cfg = teacher_config(default_hooks__checkpoint__save_best=["Fails", "PSNR"])
    cfg["val_evaluator"].append({"type": "Fails", "how": how})
    assert mmengine_run("train", cfg) == 0
    assert log_of(pairs).count(expected) == 1  # mmengine says equal warnings once
    assert list(WORK.glob("best_PSNR_*.pth"))
    assert not list(WORK.glob("best_Fails_*.pth"))
    (scalars,) = WORK.glob("*/vis_data/scalars.json")
    rows = [json.loads(line, parse_constant=refuse) for line in scalars.read_text().splitlines()]
    assert [row["PSNR"] > 0 for row in rows if "PSNR" in row] == [True, True]


def refuse(word: str) -> None:
    raise AssertionError(f"{word} is no JSON")
