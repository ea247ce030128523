"""The free memory, as Linux tells it and as psutil does, which is asked on other systems."""

from __future__ import annotations

import sys

import pytest

from ktdn_plugin import system_memory


def test_other_systems_know_their_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    psutil = pytest.importorskip("psutil", reason="psutil is not installed")
    monkeypatch.setattr(system_memory, "_read_kilobytes", lambda *_: None)
    free = system_memory.available()
    assert free is not None
    assert 0 < free < psutil.virtual_memory().total
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert system_memory.available() is None


@pytest.mark.skipif(sys.platform != "linux", reason="Linux has files for it")
def test_linux_needs_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert (system_memory.available() or 0) > 0
