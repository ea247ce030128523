"""Checkpoint files: what is read, what is refused and why, and that saving is all or nothing."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import pickle
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from checkpoint_files import assert_damage_is_one_error
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file
from torch import Tensor, nn

from ktdn_plugin import KTDNError, load_weights
from ktdn_plugin.checkpoints import Checkpoint, save_checkpoint
from ktdn_plugin.storage.state_dicts import WEIGHT_KEYS, compare_keys


class CreatesFolder:
    """Pickled, this is code: whoever loads it carelessly has a new folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.marker),)


def weights(value: float = 1.0) -> dict[str, Tensor]:
    return {"conv.weight": torch.full((2, 3), value), "conv.bias": torch.full((2,), -value)}


def written(content: object, zipped: bool = True) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(found) == list(expected)
    assert all(torch.equal(found[key], value) for key, value in expected.items())


@contextlib.contextmanager
def one_line(path: Path, *words: str) -> Iterator[None]:
    """Expects a KTDNError of one line that begins with the file and has all these words."""
    # Warnings would be further lines above the one that a person is to read.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(KTDNError) as caught:
            yield
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert [word for word in words if word not in message] == []


# Reading files


@pytest.mark.parametrize("zipped", [True, False])
def test_reads_what_torch_saves(zipped: bool, tmp_path: Path) -> None:
    content = {"params": weights(), "iter": 7, "best": {"psnr": 20.5, "names": ["a", None]}}
    (tmp_path / "net.pth").write_bytes(written(content, zipped))
    for path in (tmp_path / "net.pth", str(tmp_path / "net.pth")):
        found = Checkpoint.read(path).content
        assert_equal(found.pop("params"), weights())
        assert found == {"iter": 7, "best": {"psnr": 20.5, "names": ["a", None]}}


def test_reads_safetensors(tmp_path: Path) -> None:
    save_file(weights(), tmp_path / "net.safetensors")
    found = Checkpoint.read(tmp_path / "net.safetensors").content
    assert_equal(dict(sorted(found.items())), dict(sorted(weights().items())))


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
def test_missing_file_or_a_folder(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    with one_line(path, "no such checkpoint file"):
        Checkpoint.read(path)
    path.mkdir()
    with one_line(path, "no such checkpoint file"):
        Checkpoint.read(path)


@pytest.mark.parametrize("part", [0.0, 0.01, 0.3, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("zipped", [True, False])
def test_truncated(zipped: bool, part: float, tmp_path: Path) -> None:
    whole = written({"params": {"weight": torch.rand(100, 10)}}, zipped)
    path = tmp_path / "net.pth"
    path.write_bytes(whole[: int(part * len(whole))])
    with one_line(path, "truncated or damaged", f"({path.stat().st_size} bytes)"):
        Checkpoint.read(path)


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!DOCTYPE html><html>404: not found</html>", "not a checkpoint file but a web page"),
        (b"\xef\xbb\xbf\n<HTML><head>", "open the link in a browser, and download the file"),
        (LFS, "fetch the file itself with 'git lfs pull'"),
        (
            gzip.compress(b"net", mtime=0),
            "not a checkpoint file but an archive (gzip); give the file",
        ),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", ""),
        (b'{"message": "not found"}', ""),
        (b"\xff" * 100, ""),
    ],
)
def test_something_else_than_a_checkpoint(
    name: str, content: bytes, words: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    unknown = "not a checkpoint file" if name == "net.pth" else "not a readable safetensors file"
    with one_line(path, words or unknown):
        Checkpoint.read(path)


def test_checkpoint_in_a_zip_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "net.pth", "w") as archive:
        archive.writestr("weights/net_g.pth", written(weights()))
    with one_line(tmp_path / "net.pth", "a zip archive containing weights/net_g.pth; unpack it"):
        Checkpoint.read(tmp_path / "net.pth")
    with zipfile.ZipFile(tmp_path / "net.pth", "w") as archive:
        archive.writestr("photo.jpg", b"")
    with one_line(tmp_path / "net.pth", "not a checkpoint file but some other zip archive"):
        Checkpoint.read(tmp_path / "net.pth")


def test_files_under_the_wrong_name(tmp_path: Path) -> None:
    save_file(weights(), tmp_path / "net.pth")
    found = Checkpoint.read(tmp_path / "net.pth").content
    assert_equal({name: found[name] for name in weights()}, weights())
    (tmp_path / "net.safetensors").write_bytes(written(weights()))
    assert_equal(Checkpoint.read(tmp_path / "net.safetensors").content, weights())
    (tmp_path / "old.safetensors").write_bytes(written(weights(), zipped=False))
    with one_line(tmp_path / "old.safetensors", "not a readable safetensors file"):
        Checkpoint.read(tmp_path / "old.safetensors")


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
def test_code_under_any_name_is_refused(name: str, tmp_path: Path) -> None:
    content = {"params": weights(), "extra": CreatesFolder(tmp_path / "marker")}
    (tmp_path / name).write_bytes(written(content))
    with one_line(tmp_path / name, "refused", "could run code"):
        Checkpoint.read(tmp_path / name)
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("part", [0.0, 0.05, 0.5, 0.999])
def test_damaged_safetensors(part: float, tmp_path: Path) -> None:
    whole = save(weights())
    path = tmp_path / "net.safetensors"
    path.write_bytes(whole[: int(part * len(whole))])
    with one_line(path, "not a readable safetensors file"):
        Checkpoint.read(path)


WHOLE = {
    "zipped.pth": written({"params": weights()}),
    "legacy.pth": written({"params": weights()}, zipped=False),
    "net.safetensors": save(weights()),
}


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(list(WHOLE)),
    st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_any_damage_is_one_error(name: str, damage: list[tuple[int, int]]) -> None:
    assert_damage_is_one_error(name, WHOLE[name], damage, Checkpoint.read)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
@example(b"\x80")
@example(b".")
@example(b"G1")
def test_any_bytes_are_one_error(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "net.pth")
        path.write_bytes(content)
        with contextlib.suppress(KTDNError):
            Checkpoint.read(path)


@pytest.mark.parametrize("format", ["zip", "legacy", 2, 4, 5])
def test_code_is_refused_and_does_not_run(format: str | int, tmp_path: Path) -> None:
    marker, path = tmp_path / "marker", tmp_path / "net.pth"
    content = {"params": weights(), "extra": CreatesFolder(marker)}
    if isinstance(format, int):
        path.write_bytes(pickle.dumps(content["extra"], protocol=format))
    else:
        path.write_bytes(written(content, zipped=format == "zip"))
    for read in (Checkpoint.read, lambda path: load_weights(nn.ReLU(), path)):
        with one_line(path, "refused", "could run code"):
            read(path)
    assert not marker.exists()

    # The file is as bad as it is meant to be.
    if isinstance(format, int):
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    assert marker.exists()


def test_whole_networks_are_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "net.pth")
    with one_line(tmp_path / "net.pth", "refused", "dictionary of tensors"):
        Checkpoint.read(tmp_path / "net.pth")


# Finding the weights in a file


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "net.pth"


@pytest.mark.parametrize("key", [*WEIGHT_KEYS, None])
@pytest.mark.parametrize("param_key", [*WEIGHT_KEYS, None])
def test_usual_key_that_is_absent_is_looked_for_elsewhere(
    key: str | None, param_key: str | None, file: Path
) -> None:
    torch.save(weights() if key is None else {"epoch": 3, key: weights()}, file)
    assert_equal(Checkpoint.read(file).select(param_key), weights())


def test_order_in_which_keys_are_looked_for(file: Path) -> None:
    assert WEIGHT_KEYS == ("params_ema", "params", "state_dict", "model", "model_state_dict")
    content = {key: weights(i) for i, key in enumerate(reversed(WEIGHT_KEYS))}
    for i in reversed(range(len(WEIGHT_KEYS))):
        torch.save(content, file)
        assert_equal(Checkpoint.read(file).weights, weights(i))
        for key in content:
            assert_equal(Checkpoint.read(file).select(key), content[key])
        del content[WEIGHT_KEYS[-1 - i]]


def test_a_key_without_weights_is_skipped(file: Path) -> None:
    torch.save({"params_ema": None, "params": weights()}, file)
    assert_equal(Checkpoint.read(file).weights, weights())
    assert_equal(Checkpoint.read(file).select("params_ema"), weights())


def test_custom_key(file: Path) -> None:
    torch.save({"params": weights(), "teacher": weights(2)}, file)
    assert_equal(Checkpoint.read(file).select("teacher"), weights(2))
    with one_line(file, "has no 'teachr', only params, teacher"):
        Checkpoint.read(file).select("teachr")
    torch.save(weights(), file)
    with one_line(file, "has no 'teacher', only conv.weight, conv.bias"):
        Checkpoint.read(file).select("teacher")


@pytest.mark.parametrize("key", [None, "model"])
def test_prefix_of_data_parallel_wrappers(key: str | None, file: Path) -> None:
    wrapped = {f"module.{name}": value for name, value in weights().items()}
    torch.save({key: wrapped} if key else wrapped, file)
    assert_equal(Checkpoint.read(file).weights, weights())
    compiled = {f"_orig_mod.module.{name}": value for name, value in weights().items()}
    torch.save({key: compiled} if key else compiled, file)
    assert_equal(Checkpoint.read(file).weights, weights())
    inside = {"head.module.weight": torch.ones(1)}
    torch.save(inside, file)
    assert_equal(Checkpoint.read(file).weights, inside)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([torch.ones(2)], "contains a list, not a network's weights"),
        (torch.ones(2), "contains a Tensor, not a network's weights"),
        ({}, "contains no network weights"),
        ({"params": {}}, "contains no network weights"),
        ({"params": 3}, "contains no network weights"),
        ({"params": None, "epoch": 3}, "contains no network weights"),
        ({"meta": {}, "state_dict": 3}, "contains no network weights"),
        (
            {"meta": {}, "state_dict": {"a": torch.ones(1)}, "ema_state_dict": []},
            "contains no network",
        ),
        ({"meta": {}, "state_dict": {0: torch.ones(1)}}, "contains no network weights"),
        ({"epoch": 3, "optimizers": []}, "(it has epoch, optimizers)"),
        ({"params": {"a": torch.ones(1), "b": 3.0}}, "contains no network weights"),
        ({"params": {0: torch.ones(1)}}, "contains no network weights"),
    ],
)
def test_files_without_weights(content: object, words: str, file: Path) -> None:
    torch.save(content, file)
    with one_line(file, words):
        Checkpoint.read(file).select()


# Comparing and loading


def test_compare_keys() -> None:
    ours = {"a": torch.ones(1), "b": torch.ones(2), "c": torch.ones(3, 2), "d": torch.ones(1)}
    assert compare_keys(ours, dict(reversed(ours.items()))) == ""
    found = {"c": torch.ones(2, 3), "d": torch.ones(1), "x": torch.ones(1)}
    assert compare_keys(ours, found) == (
        "2 of 4 entries are missing (such as a), 1 entries are unknown (such as x), "
        "1 entries have a different shape (such as c: (2, 3) instead of (3, 2))"
    )
    assert compare_keys(ours, ours | {"x": torch.ones(1)}).startswith("1 entries are unknown")
    assert compare_keys({}, {}) == ""


def test_load_weights(file: Path) -> None:
    network = nn.Linear(3, 2)
    wanted = {"weight": torch.rand(2, 3), "bias": torch.rand(2)}
    torch.save({"params": wanted, "params_ema": weights()}, file)
    load_weights(network, file, "params")
    assert_equal(network.state_dict(), wanted)


@pytest.mark.parametrize("prefix", ["net.", "model.", "module._orig_mod.", "a.b.c."])
def test_load_weights_below_one_common_prefix(prefix: str, file: Path) -> None:
    network = nn.Linear(3, 2)
    wanted = {"weight": torch.rand(2, 3), "bias": torch.rand(2)}
    torch.save({prefix + key: value for key, value in wanted.items()}, file)
    load_weights(network, file)
    assert_equal(network.state_dict(), wanted)


def test_a_networks_own_beginning_is_no_prefix(file: Path) -> None:
    network = nn.Sequential(nn.Sequential(nn.Linear(3, 2)))
    torch.save(network.state_dict(), file)
    load_weights(network, file)
    torch.save(network[0].state_dict(), file)
    with one_line(file, "2 of 2 entries are missing (such as 0.0.weight)"):
        load_weights(network, file)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            {"weight": torch.zeros(2, 3, dtype=torch.int8), "bias": torch.zeros(2)},
            "1 entries have a different dtype (such as weight: torch.int8 instead of",
        ),
        ({"weight": torch.zeros(2, 3)}, "1 of 2 entries are missing (such as bias)"),
        (
            {"weight": torch.zeros(2, 3), "bias": torch.zeros(2), "gain": torch.zeros(1)},
            "1 entries are unknown (such as gain)",
        ),
        (
            {"weight": torch.zeros(2, 3), "bias": torch.zeros(5)},
            "a different shape (such as bias: (5,) instead of (2,))",
        ),
    ],
)
def test_load_weights_is_all_or_nothing(content: dict[str, Tensor], words: str, file: Path) -> None:
    network = nn.Linear(3, 2)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    torch.save(content, file)
    with one_line(file, "a different network than this Linear", words):
        load_weights(network, file)
    assert_equal(network.state_dict(), before)


# Saving


def test_save_and_read(file: Path) -> None:
    for value in (1.0, 2.0):
        save_checkpoint({"params": weights(value), "iter": 5}, file)
        assert_equal(Checkpoint.read(file).weights, weights(value))
    assert list(file.parent.iterdir()) == [file]


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Makes every write beyond so many bytes fail, as it does on a full disk."""
    resource = pytest.importorskip("resource", reason="there are no such limits on this system")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("there_already", [True, False])
def test_failing_save_leaves_what_was_there(there_already: bool, file: Path) -> None:
    if there_already:
        save_checkpoint({"params": weights()}, file)
    with largest_file(100_000), one_line(file, "cannot be saved", "free some space"):
        save_checkpoint({"params": {"large": torch.rand(1000, 1000)}}, file)
    assert list(file.parent.iterdir()) == [file] * there_already
    if there_already:
        assert_equal(Checkpoint.read(file).weights, weights())


def test_old_file_is_whole_until_the_new_one_is(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint({"params": weights()}, file)
    torch_save = torch.save

    def killed_at_the_end(content: object, to: object) -> None:
        torch_save(content, to)
        assert_equal(Checkpoint.read(file).weights, weights())
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", killed_at_the_end)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint({"params": weights(2)}, file)
    assert_equal(Checkpoint.read(file).weights, weights())
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("write", range(1, 8))
def test_interrupted_while_writing(write: int, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint({"params": weights()}, file)

    class Interrupted(io.FileIO):
        writes = 0

        def write(self, content: object) -> int:
            Interrupted.writes += 1
            if Interrupted.writes == write:
                raise KeyboardInterrupt
            return super().write(content)

    monkeypatch.setattr(Path, "open", lambda self, mode: Interrupted(self, "w"))
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint({"params": weights(2)}, file)
    monkeypatch.undo()
    assert_equal(Checkpoint.read(file).weights, weights())
    assert list(file.parent.iterdir()) == [file]


def test_what_cannot_be_pickled_leaves_what_was_there(file: Path) -> None:
    save_checkpoint({"params": weights()}, file)
    with pytest.raises((pickle.PicklingError, AttributeError)):
        save_checkpoint({"params": weights(2), "scheduler": lambda step: step}, file)
    assert_equal(Checkpoint.read(file).weights, weights())
    assert list(file.parent.iterdir()) == [file]


def test_nowhere_to_save(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder.pth").mkdir()
    for path in (
        tmp_path / "none" / "net.pth",
        tmp_path / "file" / "net.pth",
        tmp_path / "folder.pth",
    ):
        with one_line(path, "cannot be saved", "choose another folder"):
            save_checkpoint(weights(), path)
    path = tmp_path / f"{'long' * 100}.pth"
    with one_line(path, "cannot be saved", "give it a shorter name"):
        save_checkpoint(weights(), path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.pth"]
