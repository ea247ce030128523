"""mmengine's checkpoint files are read without mmengine, and without running code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ktdn_plugin import KTDNError
from ktdn_plugin.checkpoints import read_checkpoint, read_state_dict
from ktdn_plugin.checkpoints.openmmlab_layout import from_mmengine, is_mmengine


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A file with all that mmengine's Runner puts into one, log included."""
    import numpy as np
    from mmengine.logging import HistoryBuffer

    history = HistoryBuffer()
    for value in (0.5, 0.25):
        history.update(value)
    content = {
        "meta": {"iter": 2, "seed": 0, "cfg": "model = dict()"},
        "state_dict": {"student.a": torch.ones(2), "transfer_loss.b": torch.zeros(1)},
        "ema_state_dict": {"module.student.a": torch.full((2,), 3.0), "steps": torch.tensor(2)},
        "message_hub": {
            "log_scalars": {"train/loss": history},
            "runtime_info": {"best": np.float64(3.5), "iter": 2},
        },
        "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]},
    }
    torch.save(content, tmp_path / "iter_2.pth")
    return tmp_path / "iter_2.pth"


def test_it_is_read_without_mmengine(saved: Path) -> None:
    code = (
        "import sys\n"
        "from ktdn_plugin.checkpoints import read_state_dict\n"
        "print(read_state_dict(sys.argv[1]), read_state_dict(sys.argv[1], 'params'))\n"
        "assert 'mmengine' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(saved)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "{'a': tensor([1., 1.])} {'a': tensor([3., 3.])}\n"


def test_reading_forbids_nothing_that_was_allowed(saved: Path) -> None:
    """mmengine's own loading goes on working, and nothing more than before is allowed."""
    import ktdn_plugin.registry  # noqa: F401

    before = list(torch.serialization.get_safe_globals())
    read_checkpoint(saved)
    assert set(torch.serialization.get_safe_globals()) == set(before)
    content = torch.load(saved, weights_only=True)
    history = content["message_hub"]["log_scalars"]["train/loss"]
    assert history.current() == 0.25
    assert history.mean() == pytest.approx(0.375)


class _Evil:
    def __init__(self, owner: object, name: str) -> None:
        self.what = (owner, name)

    def __reduce__(self) -> tuple:
        return getattr, self.what


@pytest.mark.parametrize("name", ["__init__", "__class__", "__subclasses__", "__globals__"])
def test_getattr_gives_nothing_else(tmp_path: Path, name: str) -> None:
    from mmengine.logging import HistoryBuffer

    torch.save({"x": _Evil(HistoryBuffer, name)}, tmp_path / "evil.pth")
    with pytest.raises(KTDNError, match=r"evil.pth"):
        read_checkpoint(tmp_path / "evil.pth")


def test_other_code_is_refused(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> tuple:
            return os.system, (f"touch {tmp_path}/harm",)

    torch.save({"meta": {}, "state_dict": {}, "x": Harm()}, tmp_path / "harmful.pth")
    with pytest.raises(KTDNError, match=r"harmful\.pth: refused"):
        read_checkpoint(tmp_path / "harmful.pth")
    assert not (tmp_path / "harm").exists()


def test_prefixes_of_the_models_that_train_it() -> None:
    weight = torch.ones(1)
    for prefix in ("student.", "generator.", ""):
        content = {"meta": {}, "state_dict": {f"{prefix}head.weight": weight}}
        assert is_mmengine(content)
        assert list(from_mmengine(content)) == ["head.weight"]
        assert list(from_mmengine(content, averaged=False)) == ["head.weight"]
    assert not is_mmengine({"state_dict": {}})


def test_a_file_without_weights(tmp_path: Path) -> None:
    torch.save({"meta": {}, "state_dict": {}}, tmp_path / "empty.pth")
    with pytest.raises(KTDNError, match="holds no network's weights"):
        read_state_dict(tmp_path / "empty.pth")
