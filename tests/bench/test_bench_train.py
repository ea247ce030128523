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
from ktdn_plugin.bench import ways as frame
from ktdn_plugin.bench.variants import variant_names
from ktdn_plugin.bench.ways import Way, Worker, WorkerError, format_ways, measure
from ktdn_plugin.errors import KTDNError

ENCODER = "test_convnext"
JOB = {
    "variant": "plain",
    **{"encoder": ENCODER, "batch_size": 1, "size": 48, "device": "cpu", "seed": 3},
}
SMALL = {"encoder": ENCODER, "batch_size": 1, "size": 48, "steps": 1, "warmup": 1}


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.mark.parametrize("together", [True, False])
def test_variants_compute_the_same_losses(together: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame, "_fit_together", lambda *_: together)
    names = ["plain", "ours", "bf16+channels_last"]
    plain, ours, bf16 = ways = [Way(name, {**JOB, "variant": name}) for name in names]
    measure(bench.__name__, ways, steps=2, warmup=1)
    assert [way.error for way in ways] == [None, None, None]
    assert [len(way.times) for way in ways] == [2, 2, 2]
    assert set(plain.result["losses"]) == {"l_rec", "l_lap", "l_kt"}
    assert float(bench._difference(ours, plain)) < 1e-6
    assert 0 < float(bench._difference(bf16, plain)) < 1e-2
    if sys.platform == "linux":
        assert all(way.peak is not None and 2**26 < way.peak < 2**31 for way in ways)


def test_a_variant_that_fails_is_a_row_and_an_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "variant_names", lambda device: ["plain", "no such thing"])
    with pytest.raises(KTDNError, match=r"1 of 2 ways could not be measured \(no such thing\)"):
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
        ({"encoder": "test_convnxt"}, "encoder 'test_convnxt'"),
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
    worker = Worker(bench.__name__, JOB)
    try:
        worker.step()
        os.kill(worker.process.pid, signal.SIGKILL)
        with pytest.raises(WorkerError, match="most likely out of memory"):
            worker.step()
    finally:
        worker.close()


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_worker_ends_when_its_parent_is_killed() -> None:
    code = (
        "import sys; from ktdn_plugin.bench.ways import Worker\n"
        f"worker = Worker({bench.__name__!r}, {JOB!r}); worker.step()\n"
        "print(worker.process.pid, flush=True); sys.stdin.read()"
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
    plain = Way("plain", {}, [1.5, 0.5, 1.0], result={"losses": {"l_rec": 0.5}})
    ours = Way("ours", {}, [0.5], result={"losses": {"l_rec": 0.75}})
    columns = {"first loss": bench._first_loss, "off": bench._difference}
    cells = [line.split() for line in format_ways([plain, ours], extras=columns)]
    assert cells[1] == ["plain", "1000.00", "1.00", "1.00x", "-", "-", "0.50000", "0.0e+00"]
    assert cells[2] == ["ours", "500.00", "2.00", "2.00x", "-", "-", "0.75000", "2.5e-01"]
