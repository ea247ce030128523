"""Teacher and student that are not KTDN: BasicSR's own networks, by the names of their modules."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import (
    evaluation_options,
    log_of,
    losses_of,
    models,
    one,
    records_of,
    student_of_a_saved_teacher,
    student_options,
    teacher_options,
    write_options,
)
from preloaded import together
from torch import nn

from ktdn_plugin import cli, register

Edit = Callable[[dict], object]


def edsr(width: int, blocks: int) -> dict:
    shape = {"num_in_ch": 3, "num_out_ch": 3, "num_feat": width, "num_block": blocks}
    return {"type": "EDSR", **shape, "upscale": 1, "img_range": 1.0}


def class_of_edsr() -> type[nn.Module]:
    register()
    from basicsr.archs.edsr_arch import EDSR

    return EDSR


def build(section: dict) -> nn.Module:
    return class_of_edsr()(**{key: value for key, value in section.items() if key != "type"})


def other_teacher_options(iterations: int = 4) -> dict:
    return teacher_options(iterations) | {"network_g": edsr(12, 3)}


def other_student_options(iterations: int = 4) -> dict:
    """A student that is narrower and shallower than its teacher."""
    opt = student_options(iterations)
    opt |= {"network_g": edsr(8, 2), "network_t": edsr(12, 3)}
    opt["train"] |= {"features_g": {"mid": "body.1"}, "features_t": {"mid": "body.2"}}
    opt["train"]["transfer_opt"]["adapters"] = {"mid": [8, 12]}
    return opt


def with_a_saved_teacher(pairs: Path, opt: dict) -> dict:
    torch.save({"params": build(opt["network_t"]).state_dict()}, pairs / "teacher.pth")
    opt["path"]["pretrain_network_t"] = "teacher.pth"
    return opt


@pytest.mark.slow
def test_teacher_student_resume_test(pairs: Path, run) -> None:
    done = run("train", "-opt", write_options(pairs, other_teacher_options()))
    assert done.returncode == 0, done.stderr
    assert len(losses_of(log_of(pairs, "teacher"), "l_rec")) == 4
    saved = torch.load(models(pairs, "teacher") / "net_g_latest.pth", weights_only=True)
    teacher = build(edsr(12, 3))
    teacher.load_state_dict(saved["params_ema"])

    opt = other_student_options(2)
    opt["train"]["teacher_min_psnr"] = 1  # it is measured as KTDN is
    done = run("train", "-opt", write_options(pairs, opt))
    assert done.returncode == 0, done.stderr
    text = log_of(pairs, "student")
    assert len(losses_of(text, "l_kt")) == 2
    assert "Network: EDSR" in text
    assert records_of(pairs, "student")[0]["kind"] == "teacher"
    first = torch.load(models(pairs, "student") / "net_adapters_2.pth", weights_only=True)

    opt["train"]["total_iter"] = 4
    done = run("train", "-opt", write_options(pairs, opt), "--auto_resume")
    assert done.returncode == 0, done.stderr
    assert len(losses_of(log_of(pairs, "student"), "l_kt")) == 4
    last = torch.load(models(pairs, "student") / "net_adapters_latest.pth", weights_only=True)
    moved = (last["params"]["adapters.mid.weight"] - first["params"]["adapters.mid.weight"]).abs()
    assert 0 < moved.max() < 5e-3  # resumed, not started anew

    checkpoint = models(pairs, "student") / "net_g_latest.pth"
    saved = torch.load(checkpoint, weights_only=True)
    assert list(saved["params"]) == list(build(edsr(8, 2)).state_dict())
    opt = evaluation_options(checkpoint) | {"network_g": edsr(8, 2)}
    done = run("test", "-opt", write_options(pairs, opt))
    assert done.returncode == 0, done.stderr
    assert "# psnr: " in log_of(pairs, "evaluation", "test")


@pytest.mark.slow
def test_two_processes(pairs: Path, run) -> None:
    opt = with_a_saved_teacher(pairs, other_student_options(2))
    opt["train"]["amp"] = "bf16"
    done = run("train", "-opt", write_options(pairs, opt), processes=2)
    assert done.returncode == 0, done.stderr
    assert len(losses_of(log_of(pairs, "student"), "l_kt")) == 2


def test_the_feature_alone_moves_what_lies_before_it(pairs: Path, train) -> None:
    opt = with_a_saved_teacher(pairs, other_student_options(1))
    opt["train"]["pixel_opt"]["loss_weight"] = 0.0
    del opt["train"]["laplacian_opt"]
    opt["logger"]["save_checkpoint_freq"] = 1
    train(opt)
    state = torch.load(pairs / "experiments/student/training_states/1.state", weights_only=True)
    names = [name for name, _ in build(edsr(8, 2)).named_parameters()] + ["adapter"] * 2
    moments = state["optimizers"][0]["state"]
    assert len(names) == len(moments)
    moved = {
        name for name, one in zip(names, moments.values(), strict=True) if one["exp_avg"].any()
    }
    assert {name.split(".")[0] for name in moved} == {"conv_first", "body", "adapter"}


def test_a_student_of_ktdn(pairs: Path, train) -> None:
    opt = student_of_a_saved_teacher(pairs) | {"network_g": edsr(8, 2)}
    opt["train"] |= {
        "features_g": {"fine": "body.0"},
        "features_t": {"fine": "tail.1"},  # of KTDN, too, any module will do
    }
    opt["train"]["transfer_opt"] |= {"features": {"fine": 0.5}, "adapters": {"fine": [8, 3]}}
    rows = train(opt)
    assert all(row["l_kt"] > 0 for row in rows if row["kind"] == "train")


def test_a_teacher_of_the_same_type_has_the_same_features(pairs: Path, train) -> None:
    opt = with_a_saved_teacher(pairs, other_student_options(1) | {"network_t": edsr(8, 2)})
    del opt["network_t"], opt["train"]["features_t"], opt["train"]["transfer_opt"]["adapters"]
    assert train(opt)


def test_without_transfer_no_features_are_needed(pairs: Path, train) -> None:
    opt = other_student_options(1)
    del opt["network_t"], opt["path"]["pretrain_network_t"]
    for key in ("features_g", "features_t", "transfer_opt"):
        del opt["train"][key]
    assert train(opt)


def set_in(path: str, value: object) -> Edit:
    def edit(opt: dict) -> None:
        *folders, last = path.split(".")
        for folder in folders:
            opt = opt[folder]
        opt[last] = value

    return edit


@pytest.fixture(params=[1, 2], ids=["one", "two"])
def refused(
    pairs: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> Callable[[dict], str]:
    """Trains what networks refuse once they run, in one process and in two; gives the line."""
    monkeypatch.chdir(pairs)

    def run_command(opt: dict) -> str:
        words = ("train", "-opt", str(write_options(pairs, opt)))
        if request.param == 1:
            assert cli.main([*words]) == 1
            texts = [capfd.readouterr().err]
        else:
            done = together(words, [pairs] * 2)
            assert [one.returncode for one in done] == [1, 1]
            texts = [one.stderr for one in done]
        assert not (pairs / "experiments").exists()
        lines = [line for line in "\n".join(texts).splitlines() if line.startswith("error: ")]
        assert "Traceback" not in "".join(texts)
        return one(list(dict.fromkeys(lines)))

    return run_command


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (
            lambda opt: opt["train"].pop("features_g"),
            "network_g.type: EDSR has no named features, which train.transfer_opt compares; "
            "name its modules in train.features_g: {mid: MODULE}",
        ),
        (lambda opt: opt["train"].pop("features_t"), "network_t.type: EDSR has no named features"),
        (
            set_in("train.features_g", {"mdi": "body.1"}),
            "train.features_g: no module is given for 'mid', which train.transfer_opt compares; "
            "did you mean 'mdi'?",
        ),
        (set_in("train.features_g", "body.1"), "train.features_g: 'body.1' must be a section of"),
        (set_in("train.features_g.mid", 0.1), "put numbers in quotes"),
        (set_in("train.feature_g", {}), "train.feature_g: unknown key; did you mean 'features_g'?"),
    ],
)
def test_wrong_options(fails, pairs: Path, edit: Edit, expected: str) -> None:
    opt = with_a_saved_teacher(pairs, other_student_options())
    edit(opt)
    assert expected in one(fails(opt))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (
            set_in("train.features_g.mid", "boddy.1"),
            "train.features_g: feature 'mid': EDSR has no module 'boddy.1'; did you mean 'body.1'?",
        ),
        (
            set_in("train.features_t.mid", "bdy.2"),
            "train.features_t: feature 'mid': EDSR has no module 'bdy.2'; did you mean 'body.2'?",
        ),
        (
            set_in("train.transfer_opt.adapters", None),
            "train.transfer_opt: KnowledgeTransferLoss: feature 'mid' of student (1, 8, 48, 48) "
            "and teacher (1, 12, 48, 48) differ in width; set adapters: {mid: [8, 12]}",
        ),
        (
            set_in("train.transfer_opt.adapters", {"mid": [8, 16]}),
            "do not fit its adapter [8, 16]; set adapters: {mid: [8, 12]}",
        ),
        (
            set_in("network_g.upscale", 2),
            "network_g: EDSR returns (1, 3, 96, 96) for images (1, 3, 48, 48); configure it",
        ),
        (set_in("network_t.upscale", 2), "teacher.pth: "),
        (set_in("network_g.num_in_ch", 4), "network_g: fails on a crop of datasets.train."),
        (set_in("network_t.num_feat", 8), "teacher.pth: "),
    ],
)
def test_networks_that_do_not_fit(
    refused: Callable[[dict], str], pairs: Path, edit: Edit, expected: str
) -> None:
    opt = with_a_saved_teacher(pairs, other_student_options())
    edit(opt)
    assert expected in refused(opt)


def test_a_student_of_ktdn_at_another_stride(refused: Callable[[dict], str], pairs: Path) -> None:
    opt = student_of_a_saved_teacher(pairs) | {"network_g": edsr(8, 2)}
    opt["train"]["features_g"] = {"mid": "body.0"}
    assert refused(opt) == (
        "error: train.transfer_opt: feature 'mid' is 48 x 48 in the student, 3 x 3 in the teacher; "
        "choose modules of equal stride in train.features_g, features_t"
    )


def test_modules_of_ktdn_are_checked_with_the_rest(fails, pairs: Path) -> None:
    opt = student_of_a_saved_teacher(pairs)
    opt["train"] |= {"features_g": {"mid": "fam61"}, "features_t": {"mid": "encoder"}}
    opt["datasets"]["val"]["dataroot_gt"] = "nowhere"
    lines = fails(opt)
    assert len(lines) == 3
    assert "train.features_g: feature 'mid': KTDN has no module 'fam61'; did you mean" in lines[0]
    assert "train.features_t: feature 'mid': module 'encoder' of KTDN gives " in lines[1]
    assert "nowhere" in lines[2]


@pytest.mark.parametrize("stage", [other_teacher_options, other_student_options])
@pytest.mark.parametrize("refused", [1], indirect=True)
def test_a_network_that_gives_several_images(
    refused: Callable[[dict], str],
    pairs: Path,
    monkeypatch: pytest.MonkeyPatch,
    stage: Callable[[], dict],
) -> None:
    monkeypatch.setattr(class_of_edsr(), "forward", lambda self, x: (x, x))
    opt = stage()
    if "network_t" in opt:
        opt = with_a_saved_teacher(pairs, opt)
    assert refused(opt) == "error: network_g: EDSR gives tuple, not one tensor (n, c, h, w)"
