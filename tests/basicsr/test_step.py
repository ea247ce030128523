"""The training step's switches: each does what it says, and what it computes stays the same."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path

import pytest
import torch
from helpers import (
    models,
    student_of_a_saved_teacher,
    teacher_file,
    teacher_options,
    write_options,
)


def saved(folder: Path, name: str, which: str = "latest") -> dict[str, torch.Tensor]:
    return torch.load(models(folder, name) / f"net_g_{which}.pth", weights_only=True)["params"]


def losses(rows: list[dict], name: str = "l_rec") -> list[float]:
    return [row[name] for row in rows if row["kind"] == "train"]


@pytest.mark.parametrize(
    "switches",
    [
        {"amp": "bf16"},
        {"amp": "fp16"},
        {"channels_last": True},
        {"amp": "bf16", "channels_last": True},
    ],
    ids=str,
)
def test_switches_compute_the_same(pairs: Path, train, switches: dict) -> None:
    opt = student_of_a_saved_teacher(pairs)
    plain = train(opt)
    opt["name"] = "switched"
    opt["train"] |= switches
    switched = train(opt)
    for name in ("l_rec", "l_lap", "l_kt", "grad_norm"):
        tolerance = 0.05 if "amp" in switches else 1e-3
        assert losses(switched, name) == pytest.approx(losses(plain, name), rel=tolerance), name
    before, after = saved(pairs, "student"), saved(pairs, "switched")
    assert before.keys() == after.keys()
    assert all(value.dtype == before[key].dtype for key, value in after.items())


EDSR = {"type": "EDSR", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 4, "num_block": 1}


@pytest.mark.slow
@pytest.mark.parametrize("network", ["KTDN", "EDSR"])
def test_compiled_networks_compute_the_same(
    pairs: Path, train, monkeypatch: pytest.MonkeyPatch, network: str
) -> None:
    """Ours is recorded whole, forwards and backwards; a small one gets torch's kernels as well.

    Ours would, too: its hundred kernels take a compiler four minutes.
    """
    opt = teacher_options(2)
    if network == "EDSR":
        opt["network_g"] = {**EDSR, "upscale": 1, "img_range": 1.0}
    plain = train(opt)
    opt["name"] = "compiled"
    opt["train"]["compile"] = True
    if network == "KTDN":
        compile_network = functools.partialmethod(torch.nn.Module.compile, backend="aot_eager")
        monkeypatch.setattr(torch.nn.Module, "compile", compile_network)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    compiled = train(opt)
    for name in ("l_rec", "l_lap", "grad_norm"):
        assert losses(compiled, name) == pytest.approx(losses(plain, name), rel=1e-3)
    assert saved(pairs, "compiled").keys() == saved(pairs, "teacher").keys()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def test_amp_is_not_a_word_in_the_log_alone(pairs: Path, train) -> None:
    opt = student_of_a_saved_teacher(pairs)
    plain = train(opt)
    for amp in ("bf16", "fp16"):
        opt["name"] = amp
        opt["train"]["amp"] = amp
        assert losses(train(opt)) != losses(plain)
    opt["name"] = "none"
    opt["train"]["amp"] = False  # how YAML reads 'off'
    assert losses(train(opt)) == losses(plain)


def test_accumulated_gradients_are_those_of_the_whole_batch(pairs: Path, train) -> None:
    opt = teacher_options(3)
    opt["datasets"]["train"]["batch_size_per_gpu"] = 6
    opt["train"]["optim_g"] = {"type": "SGD", "lr": 0.1}
    whole = train(opt)
    opt["name"] = "parts"
    opt["datasets"]["train"]["batch_size_per_gpu"] = 2
    opt["train"]["grad_accum_steps"] = 3
    parts = train(opt)
    for name in ("l_rec", "l_lap", "grad_norm"):
        assert losses(parts, name) == pytest.approx(losses(whole, name), rel=1e-4)
    one, other = saved(pairs, "teacher"), saved(pairs, "parts")
    for key, value in one.items():
        torch.testing.assert_close(value, other[key], rtol=1e-4, atol=1e-6)


def test_gradients_are_clipped(pairs: Path, train) -> None:
    opt = teacher_options(1)
    opt["path"]["pretrain_network_g"] = str(teacher_file(pairs))
    opt["train"]["optim_g"] = {"type": "SGD", "lr": 1.0}
    opt["train"]["clip_grad"] = 1e-3
    rows = train(opt)
    assert losses(rows, "grad_norm")[0] > 1e-2  # before clipping
    before, after = saved_of(pairs / "teacher.pth"), saved(pairs, "teacher")
    moved = sum(float((after[key] - value).square().sum()) for key, value in before.items())
    assert moved**0.5 == pytest.approx(1e-3, rel=1e-2)


def saved_of(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["params"]


def test_the_encoder_learns_at_its_own_rate(pairs: Path, train) -> None:
    opt = teacher_options(2)
    opt["path"]["pretrain_network_g"] = str(teacher_file(pairs))
    opt["train"]["optim_g"] = {"type": "AdamW", "lr": 1e-3, "encoder_lr": 1e-30}
    opt["train"]["optim_g"]["weight_decay"] = 0
    rows = train(opt)
    assert rows[0]["lr"] == [1e-3, 1e-30]
    before, after = saved_of(pairs / "teacher.pth"), saved(pairs, "teacher")
    moved = {key for key, value in before.items() if (after[key] - value).abs().max() > 1e-20}
    assert not any(key.startswith("encoder.") for key in moved)
    assert "tail.1.weight" in moved
    assert "fam16.conv1.weight" in moved


@pytest.mark.parametrize("name", ["lion", "adan", "NAdam"])
def test_optimizers_of_timm_and_torch(pairs: Path, train, name: str) -> None:
    opt = teacher_options(2)
    opt["train"]["optim_g"] = {"type": name, "lr": 1e-4}
    train(opt)
    rows = train(opt, "--auto_resume", "--force_yml", "train:total_iter=3")
    assert len(losses(rows)) == 3


@pytest.mark.parametrize(
    ("freeze", "moving"), [(True, []), (2, [2]), (False, [2, 4]), (None, [2, 4])], ids=str
)
def test_batch_statistics_are_frozen(pairs: Path, train, freeze: object, moving: list) -> None:
    opt = teacher_options(8 if freeze is None else 4)  # by default after a quarter
    opt["network_g"]["encoder"] = "test_resnet"
    opt["path"]["pretrain_network_g"] = str(teacher_file(pairs, "test_resnet"))
    if freeze is not None:
        opt["train"]["freeze_bn"] = freeze
    else:
        moving = [2]
    train(opt)
    earlier = saved_of(pairs / "teacher.pth")
    for iteration in range(2, opt["train"]["total_iter"] + 1, 2):
        now = saved(pairs, "teacher", str(iteration))
        statistics = [key for key in now if "running_" in key]
        assert statistics
        changed = any(not torch.equal(now[key], earlier[key]) for key in statistics)
        assert changed == (iteration in moving), iteration
        scales = [key for key in now if "bn1.weight" in key]
        assert any(not torch.equal(now[key], earlier[key]) for key in scales)
        earlier = now


def test_a_loss_that_is_not_finite_stops(
    pairs: Path, train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ktdn_plugin import cli
    from ktdn_plugin.basicsr import compat

    compat.apply()
    from ktdn_plugin.basicsr import ktdn_teacher_model
    from ktdn_plugin.training.steps import teacher_step

    opt = teacher_options(6)
    opt["network_g"]["encoder"] = "test_resnet"
    opt["train"]["freeze_bn"] = False
    opt["logger"]["save_checkpoint_freq"] = 3
    expected = train(opt)
    shutil.move(pairs / "experiments/teacher", pairs / "whole")

    steps = []

    def poisoned_step(network, clear, *others):
        steps.append(None)
        if len(steps) == 5:
            clear = clear * float("inf")
        return teacher_step(network, clear, *others)

    monkeypatch.setattr(ktdn_teacher_model, "teacher_step", poisoned_step)
    path = write_options(pairs, opt)
    capsys.readouterr()
    assert cli.main(["train", "-opt", str(path)]) == 1
    message = [line for line in capsys.readouterr().err.splitlines() if "error: " in line][-1]
    assert message.startswith(
        "error: iteration 5: l_lap, l_rec became NaN or infinite on the batch of "
    )
    assert message.count(".png") == 2
    assert "the state of iteration 4" in message
    monkeypatch.undo()
    monkeypatch.chdir(pairs)

    # It goes on as if nothing had been.
    rows = train(opt, "--auto_resume")
    assert rows == expected
    whole = torch.load(pairs / "whole/models/net_g_latest.pth", weights_only=True)["params"]
    for key, value in saved(pairs, "teacher").items():
        assert torch.equal(value, whole[key]), key


def test_a_gradient_that_is_not_finite_stops(
    pairs: Path, train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ktdn_plugin import cli

    opt = teacher_options(4)
    opt["train"]["optim_g"] = {"type": "SGD", "lr": 1e30}
    monkeypatch.chdir(pairs)
    assert cli.main(["train", "-opt", str(write_options(pairs, opt))]) == 1
    message = [line for line in capsys.readouterr().err.splitlines() if "error: " in line][-1]
    assert message.startswith("error: iteration 2: ")
    assert "became NaN or infinite on the batch of" in message
    assert (pairs / "experiments/teacher/training_states/1.state").is_file()


def test_half_precision_skips_steps_that_overflow(pairs: Path, train) -> None:
    opt = teacher_options(4)
    opt["train"]["amp"] = "fp16"
    opt["train"]["pixel_opt"]["loss_weight"] = 1e5  # times the scale: beyond half's range
    rows = train(opt)
    assert len(losses(rows)) == 4
    state = torch.load(pairs / "experiments/teacher/training_states/4.state", weights_only=True)
    assert state["scaler"]["scale"] < 2.0**14  # it was halved


def test_half_precision_that_never_fits_stops(
    pairs: Path, train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ktdn_plugin import cli
    from ktdn_plugin.training.precision import SKIPS_IN_A_ROW

    opt = teacher_options(SKIPS_IN_A_ROW + 8)
    opt["train"] |= {"amp": "fp16", "ema_decay": 0}
    opt["train"]["pixel_opt"]["loss_weight"] = 1e30  # out of range whatever the scale
    opt["path"]["pretrain_network_g"] = str(teacher_file(pairs))
    del opt["val"]
    monkeypatch.chdir(pairs)
    assert cli.main(["train", "-opt", str(write_options(pairs, opt))]) == 1
    message = [line for line in capsys.readouterr().err.splitlines() if "error: " in line][-1]
    assert message.startswith(
        f"error: iteration {SKIPS_IN_A_ROW}: the gradient became NaN or infinite in "
        f"{SKIPS_IN_A_ROW} iterations in a row on the batch of "
    )
    last = SKIPS_IN_A_ROW - 1
    assert f"the state of iteration {last}" in message
    assert (pairs / f"experiments/teacher/training_states/{last}.state").is_file()
    before, after = saved_of(pairs / "teacher.pth"), saved(pairs, "teacher", str(last))
    for key, value in before.items():
        assert torch.equal(value, after[key]), key
    lines = (pairs / "experiments/teacher/metrics.jsonl").read_text().splitlines()

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    rows = [json.loads(line, parse_constant=refuse) for line in lines]
    assert [row["grad_norm"] for row in rows] == [None] * last
