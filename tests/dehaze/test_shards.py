"""Shares of a folder: each photograph in one, the table once all are measured."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from skimage import data

from ktdn_plugin.dehaze import dehaze_all
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.pipeline import DevicePool
from ktdn_plugin.shards import Shard, find_shard

LAUNCHER = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "SLURM_STEP_NUM_TASKS")


@given(st.integers(1, 50), st.binary(min_size=1))
def test_each_photo_is_in_one_share(total: int, name: bytes) -> None:
    holds = [Shard(number, total).holds(Path(os.fsdecode(name))) for number in range(1, total + 1)]
    assert sum(holds) == 1


def test_shares_are_even_and_stable() -> None:
    names = [Path(f"{number:05}.jpg") for number in range(4000)]
    counts = [sum(map(Shard(number, 4).holds, names)) for number in range(1, 5)]
    assert min(counts) > 900
    # Another version must not divide a run in progress otherwise.
    found = [[Shard(share, 4).holds(name) for share in range(1, 5)] for name in names[:8]]
    assert [one.index(True) + 1 for one in found] == [2, 2, 3, 2, 4, 2, 4, 1]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("3", "write it as 3/16"),
        ("a/b", "write it as 3/16"),
        ("0/4", "of 4 shares, choose one from 1 to 4"),
        ("5/4", "of 4 shares, choose one from 1 to 4"),
        ("1/0", "of 0 shares"),
    ],
)
def test_wrong_shares(text: str, reason: str) -> None:
    with pytest.raises(KTDNError, match=f"--shard {text}: {reason}"):
        find_shard(text)


@pytest.fixture
def pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for number in range(8):
        clear = data.astronaut()[40 * number : 40 * number + 40, :60]
        for folder, image in (("hazy", clear // 2 + 100), ("clear", clear)):
            Path(folder).mkdir(exist_ok=True)
            Image.fromarray(image).save(Path(folder, f"{number}.png"))
    return tmp_path


def test_the_last_share_writes_the_table_of_all(
    pairs: Path, dehaze, capsys: pytest.CaptureFixture
) -> None:
    common = ("hazy", "--gt", "clear", "-o", "out")
    code, out, _ = dehaze(*common, "--shard", "1/2")
    share = sum(Shard(1, 2).holds(Path(f"{number}.png")) for number in range(8))
    assert code == 0
    assert f"Share 1/2: {share} of 8 photos" in out
    assert f"{share} of 8 photos are measured so far; the table is written when all are" in out
    assert not Path("out/metrics.csv").exists()
    code, out, _ = dehaze(*common, "--shard", "2/2")
    assert code == 0
    table = Path("out/metrics.csv").read_text()
    assert len(table.splitlines()) == 1 + 8 + 1  # the head, and the mean
    # A whole run takes the figures from the record: it reads neither photographs nor results.
    Path("out/metrics.csv").unlink()
    for folder in ("hazy", "out"):
        for path in Path(folder).glob("*.png"):
            status = path.stat()
            path.write_bytes(b"\0" * status.st_size)
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    code, out, err = dehaze(*common)
    assert (code, err) == (0, "")
    assert "8 of 8 were there already" in out
    assert Path("out/metrics.csv").read_text() == table


def test_figures_of_a_changed_clear_image_are_measured_again(pairs: Path, dehaze) -> None:
    common = ("hazy", "--gt", "clear", "-o", "out")
    assert dehaze(*common)[0] == 0
    before = Path("out/metrics.csv").read_text().splitlines()
    Image.fromarray(255 - data.astronaut()[:40, :60]).save("clear/0.png")
    assert dehaze(*common)[0] == 0
    after = Path("out/metrics.csv").read_text().splitlines()
    assert before[1] != after[1]
    assert before[2:9] == after[2:9]


def test_what_another_process_makes_meanwhile_stays(pairs: Path) -> None:
    checkpoint = Path("net.pth")
    checkpoint.write_bytes(b"a network")
    other = Path("other.pth")
    other.write_bytes(b"another one")
    calls = []

    def run(by: Path, network: object) -> None:
        dehaze_all([Path("hazy")], Path("out"), lambda: network, checkpoint=by, workers=0)

    def network(image):
        calls.append(1)
        if len(calls) == 1:  # in the middle of this run, another one does all
            run(checkpoint, network)
        return 255 - image

    run(checkpoint, network)
    assert len(calls) == 1 + 8
    for path in Path("out").glob("*.png"):
        path.unlink()
    calls.clear()

    def other_first(image):
        calls.append(1)
        if len(calls) == 1:
            run(other, lambda image: image)
        return 255 - image

    with pytest.raises(KTDNError, match=r"made with another checkpoint \(other\.pth\)"):
        dehaze_all(
            [Path("hazy")], Path("out"), lambda: other_first, checkpoint=checkpoint, workers=0
        )


@pytest.mark.slow
def test_torchrun_divides_a_folder(pairs: Path, checkpoint: Path) -> None:
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    words = ["dehaze", "hazy", "--gt", "clear", "-o", "out", "--checkpoint", str(checkpoint)]
    environment = {key: value for key, value in os.environ.items() if key not in LAUNCHER}
    done = subprocess.run(
        [sys.executable, *command, "-m", "ktdn_plugin", *words, "--device", "cpu"],
        env=environment, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Share 1/2: " in done.stdout
    assert "Share 2/2: " in done.stdout
    assert len(list(Path("out").glob("*.png"))) == 8
    assert len(Path("out/metrics.csv").read_text().splitlines()) == 1 + 8 + 1


def test_no_share_of_a_single_result(pairs: Path, dehaze) -> None:
    code, _, err = dehaze("hazy/0.png", "-o", "x.png", "--shard", "1/2")
    assert (code, "--shard 1/2: is of a folder of results" in err) == (1, True)
    code, _, err = dehaze("hazy", "-o", "out", "--workers", "-1")
    assert (code, "--workers -1: must be 0 or more" in err) == (1, True)


def test_a_lost_device_is_named(pairs: Path, capsys: pytest.CaptureFixture) -> None:
    def lost(_: object) -> None:
        raise RuntimeError("CUDA error: device-side assert triggered")

    pool = DevicePool({"cuda:0": lost, "cuda:1": lambda image: 255 - image})
    dehaze_all([Path("hazy")], Path("out"), lambda: pool)
    assert len(list(Path("out").glob("*.png"))) == 8
    assert (
        "cuda:0 was lost (CUDA error: device-side assert triggered); its photos went to the other "
        "devices" in capsys.readouterr().out
    )
