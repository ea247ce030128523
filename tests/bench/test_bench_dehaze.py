"""The benchmark of dehazing: its rows, what it compares with, and what it refuses."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch

from ktdn_plugin import KTDN
from ktdn_plugin.bench import dehaze as bench
from ktdn_plugin.bench import folder
from ktdn_plugin.bench.ways import Way, format_ways
from ktdn_plugin.bench.weights import draw_weights
from ktdn_plugin.cli import main
from ktdn_plugin.errors import KTDNError

ENCODER = "test_resnet"
SMALL = {"encoder": ENCODER, "sizes": ["75x50"], "steps": 1, "warmup": 0, "device": "cpu"}


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def rows_of(text: str) -> dict[str, list[str]]:
    """Returns the cells of each line of the table by its way."""
    lines = text[text.index("\nway ") :].strip().partition("\n\n")[0].splitlines()[1:]
    return {re.split(r"\s{2,}", line)[0]: re.split(r"\s{2,}", line) for line in lines}


def test_ours_are_compared_with_the_plain_way(capsys: pytest.CaptureFixture[str]) -> None:
    bench.run_bench_dehaze(**SMALL, precisions=["float32", "bf16"])
    text = capsys.readouterr().out
    rows = rows_of(text)
    assert list(rows) == ["plain", "float32", "bf16"]
    assert float(rows["float32"][7]) < 1e-5
    assert 1e-5 < float(rows["bf16"][7]) < 0.1
    assert float(rows["bf16"][8].removesuffix(" dB")) > 35
    assert torch.__version__ in text


def test_other_networks_beside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their result is another one: it is compared with nothing."""
    monkeypatch.chdir(tmp_path)
    torch.save({"params": KTDN(ENCODER).state_dict()}, "net.pth")
    bench.run_bench_dehaze(**SMALL, precisions=["float32"], beside=["net.pth"])
    rows = rows_of(capsys.readouterr().out)
    assert list(rows) == ["plain", "float32", "net.pth, float32"]
    assert rows["net.pth, float32"][3].endswith("x")
    assert rows["net.pth, float32"][7:] == ["-", "-"]
    with pytest.raises(KTDNError, match=r"none\.pth: no such checkpoint"):
        bench.run_bench_dehaze(**SMALL, beside=["none.pth"])


@pytest.mark.slow
def test_a_folder_by_the_whole_command(capsys: pytest.CaptureFixture[str]) -> None:
    words = "bench dehaze --folder 2 --checkpoint ktdn_tiny --sizes 96x64 --formats png"
    words += " --processes 2 --device cpu --steps 1 --warmup 0"
    assert main(words.split()) == 0
    text = capsys.readouterr().out
    assert "2 png photos of 96 x 64" in text
    rows = rows_of(text)
    assert list(rows) == ["plain loop", "ktdn dehaze, --workers 0", "2 processes"]
    for row in rows.values():
        assert float(row[1]) > 0
        assert row[3].endswith("x")
    if sys.platform == "linux":
        assert all(row[4].endswith("MB") or row[4].endswith("GB") for row in rows.values())


def test_a_folders_way_that_fails_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    lines = {"broken": [(["dehaze", "nothing.png"], {})]}
    ways = [Way("broken", {})]
    folder._measure(ways, lines, Path("out"), 1, 1, 0)
    assert ways[0].error is not None
    assert ways[0].error.startswith("failed: error: ")
    assert "nothing.png" in ways[0].error


def test_bounded_and_without_the_plain_way(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "plain_peak", lambda *_: 10**18)
    bench.run_bench_dehaze(**SMALL, precisions=["float32"], max_memory=["least"])
    text = capsys.readouterr().out
    assert re.search(r"plain +not run: takes 1\d+\.00GB beyond its weights", text)
    rows = rows_of(text)
    assert list(rows) == ["plain", "whole", "float32", "float32 in least"]
    limit, peak = (float(re.sub("[A-Z]", "", rows["float32 in least"][i])) for i in (6, 4))
    assert peak <= limit
    assert all(float(rows[name][7]) < 1e-5 for name in list(rows)[2:])


def test_a_way_that_fails_is_a_row_and_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "net.pth"
    torch.save({"params": KTDN(ENCODER).state_dict()}, file)
    with pytest.raises(KTDNError, match=r"1 of 3 ways could not be measured \(float32 in 5MB\)"):
        bench.run_bench_dehaze(
            **{**SMALL, "encoder": "unused"},
            checkpoint=file,
            precisions=["float32"],
            max_memory=["5MB"],
        )
    text = capsys.readouterr().out
    assert re.search(r"failed: 75 x 50 pixels do not fit into max memory 5MB", text)
    assert str(file) in text


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--sizes", "1600"], "--sizes: '1600' is not WIDTHxHEIGHT"),
        (["--sizes", "0x5"], "--sizes: '0x5' is not WIDTHxHEIGHT"),
        (["--precisions", "fp16", "--device", "cpu"], "precision fp16 is for GPUs"),
        (["--precisions", "bf61", "--device", "cpu"], "did you mean 'bf16'?"),
        (["--max-memory", "much"], "'much' is not a memory size"),
        (["--steps", "0"], "steps is 0"),
        (["--folder", "4", "--max-memory", "least"], "--folder goes with neither"),
        (["--folder", "0"], "folder is 0"),
        (["--folder", "4", "--processes", "0"], "processes is 0"),
        (["--device", "cuda:99"], "there is no device 'cuda:99' here"),
        (["--encoder", "test_resnt"], "did you mean 'test_resnet'?"),
        (["--checkpoint", "nothing.pth"], "nothing.pth: no such checkpoint file"),
    ],
)
def test_wrong_arguments(
    flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "dehaze", *flags]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1


def test_drawn_weights_let_every_layer_do_something() -> None:
    network = KTDN("resnet18").eval()
    draw_weights(network, 0)
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        first, features = network(image, return_features=True)
        assert all(0.01 < float(f.abs().mean()) < 100 for f in features.values())
        for seed in (0, 1):
            other = KTDN("resnet18").eval()
            draw_weights(other, seed)
            assert torch.equal(other(image), first) == (seed == 0)


def test_table() -> None:
    plain = Way("plain", {}, [8.0, 9.0, 10.0], 3 * 10**9)
    result = {"limit": 10**9, "difference": 0.01, "psnr": 50.0}
    ours = Way("bf16", {}, [3.0], 10**9, None, result)
    broken = Way("fp16", {}, error="failed: out of memory")
    columns = {"bound": bench._bound, "off": bench._difference, "PSNR to it": bench._psnr}
    lines = format_ways([plain, ours, broken], extras=columns)
    assert re.split(r"\s{2,}", lines[2]) == [
        *("bf16", "3000.00", "0.33", "3.00x", "1.00GB", "0.33x", "1.00GB", "1.0e-02", "50.0 dB")
    ]
    assert lines[3].endswith("failed: out of memory")
