"""What plain BasicSR stumbles over, in two processes at once: each works, or both stop in a line.

One process' share of the same is in the other files.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import torch
from helpers import (
    models,
    records_of,
    student_options,
    teacher_file,
    teacher_options,
    write_options,
    write_png,
)
from preloaded import together

from ktdn_plugin import KTDN

pytestmark = pytest.mark.slow


def train(folder: Path, opt: dict, *flags: str) -> list[subprocess.CompletedProcess]:
    return together(["train", "-opt", write_options(folder, opt), *flags], [folder] * 2)


def works(folder: Path, opt: dict, *flags: str) -> list[subprocess.CompletedProcess]:
    done = train(folder, opt, *flags)
    assert [one.returncode for one in done] == [0, 0], done
    return done


def stops(folder: Path, opt: dict, *flags: str) -> list[str]:
    done = train(folder, opt, *flags)
    assert [one.returncode for one in done] == [1, 1], done
    assert not any("Traceback" in one.stderr for one in done)
    lines = [line for one in done for line in one.stderr.splitlines()]
    return [line for line in lines if line.startswith("error: ")]


def test_a_student_and_its_resume(pairs: Path) -> None:
    opt = student_options(5)
    for network in ("network_g", "network_t"):
        opt[network]["encoder"] = "test_resnet"  # batch norm, EMA and validation together
    # A bare state dict, as other programs save it.
    torch.save(KTDN("test_resnet").state_dict(), pairs / "teacher.pth")
    opt["path"] = {"pretrain_network_t": "teacher.pth", "experiments_root": "runs/here"}
    opt["train"]["optim_g"] = {"type": "AdamW", "lr": 1e-4}
    opt["datasets"]["train"] |= {"batch_size_per_gpu": 4, "num_worker_per_gpu": 1}  # 8 of 6 images
    opt["val"] = {"val_freq": 5, "metrics": {"psnr": {"type": "calculate_psnr", "crop_border": 0}}}
    del opt["logger"]
    opt["logger"] = {"print_freq": 1, "save_checkpoint_freq": 2}
    works(pairs, opt)
    run = pairs / "runs/here"
    rows = (run / "metrics.jsonl").read_text().splitlines()
    assert sum('"train"' in row for row in rows) == 5
    saved = torch.load(run / "models/net_g_latest.pth", weights_only=True)
    key = next(key for key in saved["params"] if key.endswith("running_var"))
    assert torch.equal(saved["params"][key], saved["params_ema"][key])
    assert not torch.equal(saved["params"][key], torch.ones_like(saved["params"][key]))

    (run / "training_states/9.state").write_bytes(b"PK\x03\x04 damaged")
    opt["train"]["total_iter"] = 7
    works(pairs, opt, "--auto_resume")
    rows = (run / "metrics.jsonl").read_text().splitlines()
    assert sum('"train"' in row for row in rows) == 7
    assert not (pairs / "experiments").exists()


def test_a_checkpoint_of_another_network(pairs: Path) -> None:
    opt = teacher_options(2)
    opt["path"] |= {
        "pretrain_network_g": str(teacher_file(pairs, "test_resnet")),
        "strict_load_g": False,
    }
    lines = stops(pairs, opt)
    assert lines
    assert all("a checkpoint of a different network" in line for line in lines)


def test_a_full_disk(pairs: Path) -> None:
    opt = teacher_options(40)
    (pairs / "experiments").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=9m", "tmpfs", str(pairs / "experiments")]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no small disk can be made here: {done.stderr.strip()}")
    try:
        (line,) = stops(pairs, opt)
        assert "cannot be saved" in line
        states = list((pairs / "experiments/teacher/training_states").iterdir())
        assert states
        for state in states:
            torch.load(state, weights_only=True)
    finally:
        subprocess.run(["umount", "-l", str(pairs / "experiments")], check=False)


def test_a_loss_that_is_not_finite(pairs: Path) -> None:
    opt = teacher_options(4)
    opt["train"]["optim_g"] = {"type": "SGD", "lr": 1e30}
    lines = stops(pairs, opt)
    assert len(set(lines)) == 1
    assert "iteration 2: " in lines[0]
    assert lines[0].count(".png") >= 2  # both processes' images
    assert (pairs / "experiments/teacher/training_states/1.state").is_file()


def test_an_lmdb_without_one_of_its_keys(pairs: Path) -> None:
    import lmdb

    from ktdn_plugin.basicsr import compat

    compat.apply()
    from basicsr.utils.lmdb_util import make_lmdb_from_imgs

    names = sorted(p.name for p in (pairs / "train/clear").iterdir())
    keys = [name[:-4] for name in names]
    make_lmdb_from_imgs(str(pairs / "train/clear"), str(pairs / "clear.lmdb"), names, keys)
    with (
        lmdb.open(str(pairs / "clear.lmdb"), map_size=2**30) as store,
        store.begin(write=True) as t,
    ):
        t.delete(b"03")
    opt = teacher_options(20)
    opt["datasets"]["train"] |= {"io_backend": {"type": "lmdb"}, "dataroot_gt": "clear.lmdb"}
    lines = stops(pairs, opt)
    assert any("clear.lmdb, key '03': no such image" in line for line in lines)


@pytest.mark.parametrize("phase", ["train", "val"])
def test_an_image_of_one_process_is_broken(pairs: Path, phase: str) -> None:
    opt = teacher_options(20)
    opt["datasets"]["train"]["num_worker_per_gpu"] = 1
    broken = pairs / phase / "clear/01.png"
    content = broken.read_bytes()
    broken.write_bytes(content[:60])
    lines = stops(pairs, opt)
    assert any("01.png: not a readable image" in line for line in lines)
    # The two go on together afterwards: nothing of the failed run is left between them.
    broken.write_bytes(content)
    write_png(broken, 1)
    opt["train"]["total_iter"] = 2
    works(pairs, opt)
    assert records_of(pairs, "teacher")[-1]["kind"] == "val"
    assert (models(pairs, "teacher") / "net_g_best.pth").is_file()
