"""mmengine's checkpoint files are read without mmengine, and without running code."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from ktdn_plugin import KTDNError
from ktdn_plugin.checkpoints import Checkpoint
from ktdn_plugin.storage.mmengine_keys import from_mmengine, is_mmengine
from ktdn_plugin.storage.plain_values import Unread


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
        "from ktdn_plugin.checkpoints import Checkpoint\n"
        "checkpoint = Checkpoint.read(sys.argv[1])\n"
        "print(checkpoint.weights, checkpoint.select('params'))\n"
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
    Checkpoint.read(saved)
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


@pytest.mark.parametrize("name", ["mean", "__init__", "__subclasses__", "__globals__"])
def test_getattr_gives_nothing(tmp_path: Path, name: str) -> None:
    import ktdn_plugin.registry  # noqa: F401

    torch.save({"x": _Evil(HistoryBuffer, name)}, tmp_path / "evil.pth")
    assert type(Checkpoint.read(tmp_path / "evil.pth").content["x"]) is Unread
    assert torch.load(tmp_path / "evil.pth", weights_only=True) == {"x": None}


def _array(shape: tuple[int, ...], code: str, content: object) -> bytes:
    """Pickles an array of numpy's that says of itself what it is told to."""
    made = pickle.dumps({"state": (1, shape, np.dtype(code), False, content)}, protocol=2)
    start = made.index(b"}") + 1  # behind the dictionary: its key, and the state
    state = made[made.index(b"K\x01", start) - 1 : -2]
    array = b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85c_codecs\nencode\n"
    array += b"X\x01\x00\x00\x00bX\x06\x00\x00\x00latin1\x86RtR"
    return b"\x80\x02}X\x01\x00\x00\x00x" + array + state + b"bs."


def _archive(path: Path, content: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", content)
        archive.writestr("net/version", b"3\n")
    return path


ARRAYS = {
    "four": ((4,), "f8", b"\0" * 32, "_Array 4"),
    "more than there are": ((10**12,), "f8", b"\0" * 8, "error"),
    "objects": ((1,), "O", [1], "_Array 0"),  # which lie where the numbers say
    "bytes": ((1,), "V8", b"\x41" * 8, "_Array 0"),
    "fewer than none": ((-1,), "f8", b"\0" * 8, "error"),
    "two axes": ((2, 2), "f4", b"\0" * 16, "_Array 0"),
    "no bytes": ((1,), "f8", [1], "TypeError"),
}
"""An array's shape, type and content, and what torch.load makes of it."""


def test_arrays_of_numpy_are_never_built(tmp_path: Path) -> None:
    """Numpy's own constructors, which believe all this, are called by no loader."""
    for name, (shape, code, content, _) in ARRAYS.items():
        path = _archive(tmp_path / f"{name}.pth", _array(shape, code, content))
        assert type(Checkpoint.read(path).content["x"]) is Unread
    code = (
        "import sys, torch, ktdn_plugin.registry\n"
        "for name in sys.argv[1:]:\n"
        "    try:\n"
        "        found = torch.load(f'{name}.pth', weights_only=True)['x']\n"
        "        print(type(found).__name__, len(found.numbers))\n"
        "    except Exception as error:\n"
        "        print(type(error).__name__)\n"
    )
    words = [sys.executable, "-c", code, *ARRAYS]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [expected for *_, expected in ARRAYS.values()]


def test_other_code_is_refused(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> tuple:
            return os.system, (f"touch {tmp_path}/harm",)

    torch.save({"meta": {}, "state_dict": {}, "x": Harm()}, tmp_path / "harmful.pth")
    with pytest.raises(KTDNError, match=r"harmful\.pth: refused"):
        Checkpoint.read(tmp_path / "harmful.pth")
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
    with pytest.raises(KTDNError, match="contains no network weights"):
        Checkpoint.read(tmp_path / "empty.pth").select()
