"""However often it was killed, a training ends as one that was left alone.

``KTDN_KILLS=30`` kills it so many times.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import assert_same, records_of, teacher_options, write_options, write_png

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("KTDN_KILLS", "8"))


def test_killed_again_and_again(pairs: Path, run) -> None:
    opt = teacher_options(120)
    opt["network_g"]["encoder"] = "test_resnet"
    opt["datasets"]["train"]["num_worker_per_gpu"] = 1
    opt["logger"] |= {"save_checkpoint_freq": 2, "print_freq": 1, "keep_checkpoints": 2}
    opt["val"]["val_freq"] = 3
    for index in range(3):  # so that validating takes a while
        write_png(pairs / f"val/clear/{index:02}.png", index, (130, 150))
    path = write_options(pairs, opt)
    done = run("train", "-opt", path)
    assert done.returncode == 0, done.stderr
    shutil.move(pairs / "experiments/teacher", pairs / "experiments/whole")

    script = Path(__file__).with_name("kill_repeatedly.py")
    done = subprocess.run(
        [sys.executable, str(script), str(path), "0", str(KILLS)],
        cwd=pairs,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=1200,
    )
    attempts = (pairs / "attempts.log").read_text()
    assert done.returncode == 0, done.stderr + attempts[-3000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["code"] == 0, attempts[-3000:]
    assert sum(report["moments"].values()) == KILLS
    assert min(report["moments"].values()) >= KILLS // 6, report
    assert "Traceback" not in attempts

    whole, killed = (pairs / "experiments" / name for name in ("whole", "teacher"))
    for name in ("models/net_g_latest.pth", "models/net_g_best.pth", "training_states/120.state"):
        assert_same(
            torch.load(whole / name, weights_only=True),
            torch.load(killed / name, weights_only=True),
            name,
        )
    assert records_of(pairs, "teacher") == records_of(pairs, "whole")
    assert sorted(p.name for p in (killed / "training_states").iterdir()) == [
        "118.state",
        "120.state",
    ]
