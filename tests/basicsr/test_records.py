"""What a training tells: its log, its records, tensorboard's scalars and pictures."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import student_of_a_saved_teacher, write_options

from ktdn_plugin.basicsr.attention import attention_heatmap, record_attention
from ktdn_plugin.blocks import FAM


def test_everything_is_logged(pairs: Path, train) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    opt = student_of_a_saved_teacher(pairs)
    opt["logger"]["use_tb_logger"] = True
    opt["train"]["optim_g"]["encoder_lr"] = 1e-4
    rows = train(opt)
    lines = (pairs / "experiments/student/metrics.jsonl").read_text().splitlines()
    training = [row for row in map(json.loads, lines) if row["kind"] == "train"]
    for row in training:
        assert row["lr"][0] == pytest.approx(10 * row["lr"][1])
        assert row["images_per_second"] > 0
        assert 0 <= row["data_share"] <= 1
        assert row["memory_gib"] > 0.1
        assert row["grad_norm"] > 0
    events = EventAccumulator(str(pairs / "tb_logger/student"), size_guidance={"images": 0})
    events.Reload()
    wanted = {"losses/l_rec", "losses/l_lap", "losses/l_kt", "grad_norm", "lr/group_0"}
    wanted |= {"lr/group_1", "speed/images_per_second", "speed/data_share", "speed/memory_gib"}
    wanted |= {"metrics/val/psnr", "metrics/val/ssim", "teacher/val/psnr"}
    assert wanted <= set(events.Tags()["scalars"])
    logged = [event.value for event in events.Scalars("losses/l_rec")]
    assert logged == pytest.approx([row["l_rec"] for row in training])
    assert events.Tags()["images"] == ["images/val"]
    pictures = events.Images("images/val")
    assert [picture.step for picture in pictures] == [2, 4]
    assert pictures[0].width > 4 * 75  # four columns
    assert len(rows) == len(lines)


def test_the_log_line(pairs: Path, run) -> None:
    opt = student_of_a_saved_teacher(pairs)
    done = run("train", "-opt", write_options(pairs, opt))
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if "[eta:" in line]
    assert len(lines) == 4
    form = r"\[stude\.\.\]\[epoch:  \d, iter: +\d, lr:\(\d\.\d{3}e-\d\d,\)\] \[eta: \d:\d\d:\d\d, "
    form += r"time \(data\): \d\.\d{3} \(\d\.\d{3}\)\] l_rec: \S+ l_lap: \S+ l_kt: \S+ "
    form += r"grad_norm: \S+ img/s: \d+\.\d memory: \d\.\d\d GiB"
    for line in lines:
        assert re.search(form, line), line
    assert "eta: 0:00:00" in lines[-1]


def test_attention_is_recorded_and_nothing_is_changed() -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(FAM(8), FAM(8)).eval()
    x = torch.rand(1, 8, 5, 7)
    with torch.no_grad():
        before = network(x)
        with record_attention(network) as maps:
            during = network(x)
        network(x)
        inner = network[1]
        feature = network[0](x)
        residual = inner.conv2(inner.relu(inner.conv1(feature)) + feature)
        wanted = inner.pixel_attention.attention(inner.channel_attention(residual))
    assert torch.equal(before, during)
    assert len(maps) == 1
    assert torch.equal(maps[0], wanted)
    with record_attention(torch.nn.Conv2d(3, 3, 1)) as maps:
        pass
    assert maps == []


def test_heat_is_brightest_where_attention_is_highest() -> None:
    attention = torch.full((4, 6), 0.2)
    attention[1, 2] = 0.9
    picture = attention_heatmap(attention, 40, 60)
    assert picture.shape == (40, 60, 3)
    brightness = picture.astype(int).sum(axis=2)
    y, x = np.unravel_index(brightness.argmax(), brightness.shape)
    assert (y // 10, x // 10) == (1, 2)
    flat = attention_heatmap(torch.full((2, 2), 0.5), 8, 8)
    assert len(np.unique(flat.reshape(-1, 3), axis=0)) == 1
