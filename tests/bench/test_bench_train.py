"""The benchmark of a training step: its rows, its failures, and that its processes end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers import student_options, write_options

from ktdn_plugin.bench import train as bench
from ktdn_plugin.bench.process import WorkerError
from ktdn_plugin.bench.table import Row, format_table
from ktdn_plugin.bench.variants import variant_names
from ktdn_plugin.bench.worker import Job, Worker
from ktdn_plugin.errors import KTDNError

JOB = Job("plain", "test_convnext", batch_size=1, size=48, device="cpu", seed=3)
SMALL = {"encoder": JOB.encoder, "batch_size": 1, "size": 48, "steps": 1, "warmup": 1}


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.mark.parametrize("together", [True, False])
def test_variants_compute_the_same_losses(together: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "_fits", lambda *_: together)
    names = ["plain", "ours", "bf16+channels_last"]
    plain, ours, bf16 = rows = bench.measure_variants(JOB, names, steps=2, warmup=1)
    assert [row.variant for row in rows] == names
    assert [row.error for row in rows] == [None, None, None]
    assert [len(row.times) for row in rows] == [2, 2, 2]
    assert set(plain.losses) == {"l_rec", "l_lap", "l_kt"}
    assert ours.difference(plain) < 1e-6
    assert 0 < bf16.difference(plain) < 1e-2
    if sys.platform == "linux":
        # Less than what the imports take: networks and batch alone.
        assert all(row.peak is not None and 2**20 < row.peak < 2**28 for row in rows)


def test_a_variant_that_fails_is_a_row_and_an_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "variant_names", lambda device: ["plain", "no such thing"])
    with pytest.raises(KTDNError, match=r"1 of 2 variants could not be measured \(no such thing\)"):
        bench.run_bench(**SMALL, device="cpu")
    out = capsys.readouterr().out
    assert re.search("no such thing +failed: KeyError: 'no such thing'", out)
    assert "test_convnext, batch 1, 48 x 48" in out
    assert "threads" in out
    assert torch.__version__ in out


def test_plain_always_comes_along() -> None:
    device = torch.device("cpu")
    assert bench._check(1, 64, 1, 1, ["bf16"], device) == ["plain", "bf16"]
    assert bench._check(1, 64, 1, 1, None, device) == variant_names(device)
    assert "fp16" in variant_names(torch.device("cuda"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"device": "gpu"}, "device 'gpu' is not one of auto, cpu, cuda"),
        ({"device": "cuda:99"}, "there is no device 'cuda:99' here"),
        ({"variants": ["chanels_last"]}, "did you mean 'channels_last'?"),
        ({"size": 32}, "size is 32; it must be at least 33"),
        ({"steps": 0}, "steps is 0; it must be at least 1"),
        ({"encoder": "test_convnxt"}, "the plain step failed: encoder 'test_convnxt'"),
    ],
)
def test_wrong_arguments(change: dict, message: str) -> None:
    with pytest.raises(KTDNError) as caught:
        bench.run_bench(**{**SMALL, "device": "cpu", **change})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_share_of_waiting_for_data(
    pairs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(pairs)
    options = write_options(pairs, student_options())
    bench.run_bench(**SMALL, device="cpu", variants=["plain"], options=options)
    last = capsys.readouterr().out.splitlines()[-1]
    assert f"{options}: " in last
    assert "% of the time waiting for data" in last
    assert "test_convnext, batch 2, 48 x 48" in last


def test_wrong_options_are_reported_before_measuring(
    pairs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = write_options(pairs, {**student_options(), "modle_type": 1})
    with pytest.raises(KTDNError, match="did you mean 'model_type'"):
        bench.run_bench(**SMALL, device="cpu", options=options)
    assert capsys.readouterr().out == ""


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
def test_a_worker_that_is_killed_says_so() -> None:
    worker = Worker(JOB)
    try:
        worker.step()
        os.kill(worker._process.pid, signal.SIGKILL)
        with pytest.raises(WorkerError, match="most likely out of memory"):
            worker.step()
    finally:
        worker.close()


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_worker_ends_when_its_parent_is_killed() -> None:
    code = (
        "import sys; from ktdn_plugin.bench.worker import Job, Worker\n"
        f"worker = Worker({JOB!r}); worker.step()\n"
        "print(worker._process.pid, flush=True); sys.stdin.read()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdin is not None
    assert parent.stdout is not None
    with parent:
        worker = int(parent.stdout.readline())
        assert _is_alive(worker)
        parent.kill()
    until = time.monotonic() + 20
    while _is_alive(worker) and time.monotonic() < until:
        time.sleep(0.1)
    assert not _is_alive(worker)


def _is_alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_table_with_unknown_memory() -> None:
    plain = Row("plain", 2, [3.0, 1.0, 2.0], None, {"l_rec": 0.5})
    ours = Row("ours", 2, [1.0], None, {"l_rec": 0.75})
    cells = [line.split() for line in format_table([plain, ours])]
    assert cells[1] == ["plain", "2000.0", "1.00", "1.00x", "-", "-", "0.50000", "0.0e+00"]
    assert cells[2] == ["ours", "1000.0", "2.00", "2.00x", "-", "-", "0.75000", "2.5e-01"]
