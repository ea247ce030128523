"""Sizes of memory in words, and how much there is."""

from __future__ import annotations

import mmap
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ktdn_plugin import KTDNError, allocator, system_memory
from ktdn_plugin.inference import memory
from ktdn_plugin.inference.memory import SHARE, Memory
from ktdn_plugin.inference.memory_sizes import format_memory, parse_memory

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4GB", 4 * 10**9),
        ("4gb", 4 * 10**9),
        (" 800 MB ", 800 * 10**6),
        ("1.5GiB", 3 * 2**29),
        (".5kb", 500),
        ("2.MB", 2 * 10**6),
        ("2G", 2 * 10**9),
        ("800m", 800 * 10**6),
        (123, 123),
        ("123B", 123),
        ("1TB", 10**12),
        ("1.15GB", 1_150_000_000),  # in floating point 1149999999.9999998
        (10**9, 10**9),
        (1.5e9, 1_500_000_000),
        (np.int64(7), 7),
    ],
)
def test_sizes_as_users_write_them(text: object, size: int) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize(
    "text", ["", "GB", "4 G B", "4XB", "-4GB", "four", "1e9", "4,5GB", True, "nan", "∞GB", "1.5.GB"]
)
def test_invalid_size(text: object) -> None:
    with pytest.raises(KTDNError, match="is not a memory size; write it as 4GB or 800MB"):
        parse_memory(text)


@pytest.mark.parametrize("text", ["0B", 0, "0GB", "0.4B", "0.0001KB"])
def test_nothing_is_no_size(text: object) -> None:
    with pytest.raises(KTDNError, match="is zero; write it as"):
        parse_memory(text)


@pytest.mark.parametrize("text", ["10", " 4 ", "0.5", "1500000000"])
def test_a_text_without_a_unit_is_refused(text: str) -> None:
    with pytest.raises(KTDNError, match=rf"'{text}' has no unit; write it as 4GB or 800MB"):
        parse_memory(text)


def test_sizes_of_any_length() -> None:
    assert parse_memory("9" * 400 + "GB") > 10**400


@given(st.integers(1, 10**13))
def test_what_is_written_suffices(size: int) -> None:
    read = parse_memory(format_memory(size))
    assert size <= read <= max(1.02 * size, size + 10**6)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_what_a_cpu_holds_and_may(monkeypatch: pytest.MonkeyPatch) -> None:
    held = Memory(CPU, None).held()
    assert held == pytest.approx(system_memory.resident(), rel=0.02)
    with mmap.mmap(-1, 2**26) as block:  # of the system itself, not of what had been freed
        block.write(bytes(2**26))
        assert Memory(CPU, None).held() >= held + len(block) // 2
    limit = held + 10**9
    free = Memory(CPU, limit).free()
    assert free == pytest.approx(limit - Memory(CPU, limit).held(), abs=2**24)
    assert Memory(CPU, 10**6).free() < 0
    monkeypatch.setattr(memory, "available", lambda: 10**9)
    assert Memory(CPU, None).free() == int(SHARE * 10**9)


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is handed down on Linux alone")
def test_the_peak_is_not_the_starting_process_s() -> None:
    parent = "import subprocess, sys; held = b'1' * 2**30\n"
    parent += "subprocess.run([sys.executable, *sys.argv[1:]])"
    child = "from ktdn_plugin.system_memory import peak_taken; print(peak_taken())"
    words = [sys.executable, "-c", parent, "-c", child]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert 2**20 < int(done.stdout) < 2**30


FORGETS = """
from ktdn_plugin.system_memory import forget_peak, peak_resident
held = b"1" * 2**27
del held
before = peak_resident()
print(forget_peak() and before - peak_resident())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_the_peak_is_forgotten_where_the_system_can() -> None:
    # A process of its own: here threads of other tests may still free or take memory.
    done = subprocess.run(
        [sys.executable, "-c", FORGETS], capture_output=True, text=True, check=True
    )
    if done.stdout == "False\n":
        pytest.skip("this system does not let a process forget its peak")
    assert int(done.stdout) > 2**26


def test_a_container_s_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(system_memory, "_CGROUP", tmp_path)
    monkeypatch.setattr(system_memory, "_read_kilobytes", lambda path, key: 10 * 10**9)
    assert system_memory.available() == 10 * 10**9  # no container
    (tmp_path / "memory.max").write_text("4000000000\n")
    (tmp_path / "memory.current").write_text("3000000000\n")
    (tmp_path / "memory.stat").write_text("anon 5\n")
    assert system_memory.available() == 10**9
    # Files that have been read fill what is left, and give way.
    (tmp_path / "memory.stat").write_text("anon 5\nactive_file 7\ninactive_file 2500000000\n")
    assert system_memory.available() == 3_500_000_000
    (tmp_path / "memory.current").write_text("9000000000\n")
    assert system_memory.available() == 0
    (tmp_path / "memory.max").write_text("max\n")
    assert system_memory.available() == 10 * 10**9


def test_where_the_system_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_memory, "_read_kilobytes", lambda path, key: None)
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert system_memory.resident() is None
    assert system_memory.available() is None
    assert Memory(CPU, None).free() is None
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    assert Memory(CPU, None).held() == system_memory.peak_resident() > 0  # getrusage's
    monkeypatch.setitem(sys.modules, "resource", None)  # as on Windows
    assert system_memory.peak_resident() is None
    assert Memory(CPU, 1000).free() == 1000


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_freed_memory_is_given_back() -> None:
    code = (
        "import torch\n"
        "from ktdn_plugin.allocator import keep_freed_memory, return_freed_memory\n"
        "from ktdn_plugin.system_memory import resident\n"
        "assert keep_freed_memory()\n"
        "before = resident()\n"
        "blocks = [torch.ones(2**17) for _ in range(512)]\n"  # 256 MiB
        "kept = blocks[1::2]; del blocks\n"  # holes between what is in use
        "holes = resident() - before\n"
        "assert return_freed_memory()\n"
        "filled = resident() - before\n"
        "block = torch.ones(2**25); del block\n"
        "print(holes / 2**28, filled / 2**28, (resident() - before) / 2**28)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    holes, filled, after = map(float, done.stdout.split())
    assert holes > 0.9
    assert filled < 0.6
    assert after < 0.6


def test_elsewhere_nothing_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    assert not allocator.return_freed_memory()
