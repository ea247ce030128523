"""Hostile files: whatever they say of themselves, reading them is one line, quickly, in bounds."""

from __future__ import annotations

import io
import os
import pickle
import struct
import subprocess
import sys
import time
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from ktdn_plugin import KTDNError
from ktdn_plugin.storage import safe_loading
from ktdn_plugin.storage.plain_values import Unread
from ktdn_plugin.storage.safe_loading import NotReadHereError, load_tensors

WEIGHT = torch.arange(12.0).view(3, 4)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "net.pth"


@contextmanager
def refused(path: Path, words: str, seconds: float = 20) -> Iterator[pytest.ExceptionInfo]:
    """Expects one line that begins with the file and has these words, soon."""
    start = time.monotonic()
    with pytest.raises(KTDNError) as caught:
        yield caught
    assert time.monotonic() - start < seconds
    assert str(caught.value).startswith(f"{path}: ")
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 1000


def archive(path: Path, content: bytes, **storages: bytes) -> Path:
    """Writes what torch.save would, with a pickle and storages of one's own."""
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("net/data.pkl", content)
        for key, numbers in storages.items():
            made.writestr(f"net/data/{key[1:]}", numbers)
        made.writestr("net/version", b"3\n")
    return path


def tensor(
    count: int = 12, size: str = "K\x03K\x04\x86", stride: str = "K\x04K\x01\x86", offset: int = 0
) -> bytes:
    """Pickles a tensor as torch does, with whatever numbers."""
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
        b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
        + pickle.dumps(count, 2)[2:-1]
        + b"tQ"
        + pickle.dumps(offset, 2)[2:-1]
        + size.encode("latin1")
        + stride.encode("latin1")
        + b"\x89ccollections\nOrderedDict\n)RtR"
    )


def entry(value: bytes, key: bytes = b"X\x01\x00\x00\x00a") -> bytes:
    return b"\x80\x02}" + key + value + b"s."


NUMBERS = WEIGHT.numpy().tobytes()


# What honest files hold


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 4])
def test_all_that_checkpoints_hold(zipped: bool, protocol: int, file: Path) -> None:
    shared = torch.arange(20.0)
    content = {
        "params": OrderedDict(weight=WEIGHT, turned=WEIGHT.t(), part=shared[2:5], whole=shared),
        "kinds": [WEIGHT.to(kind) for kind in (torch.float64, torch.float16, torch.bfloat16)],
        "counts": [torch.tensor(3), torch.tensor([True]), torch.tensor([1], dtype=torch.uint8)],
        "complex": torch.tensor([1j]),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(WEIGHT),
        "plain": [None, True, 1, -(2**70), 0.5, "texté", b"\xff", (1, (2, 3)), {1, 2}, 1j],
        "milestones": Counter([3, 3, 5]),
        "torch": [torch.Size([2, 3]), torch.float32, torch.device("cpu"), bytearray(b"ab"), b""],
        "numpy": [np.float64(0.25), np.int64(-7), np.bool_(True), np.float32(0.5)],
        "state": {0: {"step": torch.tensor(4.0)}},
    }
    torch.save(content, file, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    found = load_tensors(file)

    def check(one: Any, other: Any) -> None:
        if isinstance(one, torch.Tensor):
            assert one.dtype == other.dtype
            assert torch.equal(one, other)
            assert not one.requires_grad
        elif isinstance(other, dict):
            assert type(one) is type(other)
            assert list(one) == list(other)
            for key in other:
                check(one[key], other[key])
        elif isinstance(other, list):
            assert len(one) == len(other)
            for a, b in zip(one, other, strict=True):
                check(a, b)
        else:
            assert one == other
            assert isinstance(one, (np.generic,)) is False

    check(found, content)
    assert found["params"]["part"].untyped_storage()._cdata == (
        found["params"]["whole"].untyped_storage()._cdata
    )


def test_names_and_shapes_without_the_numbers(file: Path) -> None:
    for zipped in (True, False):
        content = {"params": {"a": WEIGHT, "b": WEIGHT[0].double()}}
        torch.save(content, file, _use_new_zipfile_serialization=zipped)
        for key, value in load_tensors(file, without_numbers=True)["params"].items():
            assert value.is_meta
            assert value.shape == content["params"][key].shape
            assert value.dtype == content["params"][key].dtype
    save_file({"a": WEIGHT}, file)
    assert load_tensors(file, without_numbers=True)["a"].is_meta


def test_files_without_check_sums(file: Path) -> None:
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"a": WEIGHT}, file)
    finally:
        torch.serialization.set_crc32_options(before)
    assert torch.equal(load_tensors(file)["a"], WEIGHT)


def test_a_changed_number_is_seen(file: Path) -> None:
    torch.save({"a": WEIGHT}, file)
    content = file.read_bytes()
    file.write_bytes(content.replace(struct.pack("<f", 7), struct.pack("<f", 8)))
    with refused(file, "a wrong checksum"):
        load_tensors(file)


# Tensors that are none


OTHER_TENSORS: dict[str, tuple[Callable[[], Any], str]] = {
    "sparse": (lambda: WEIGHT.to_sparse(), "holds sparse tensors; save dense ones"),
    "csr": (lambda: WEIGHT.to_sparse_csr(), "holds sparse tensors"),
    "nested": (lambda: torch.nested.nested_tensor([WEIGHT]), "holds nested tensors"),
    "quantised": (
        lambda: torch.quantize_per_tensor(WEIGHT, 0.1, 0, torch.qint8),
        "holds quantised tensors",
    ),
    "float8": (lambda: WEIGHT.to(torch.float8_e4m3fn), "8-bit float or other unusual tensors"),
    "meta": (lambda: WEIGHT.to("meta"), "holds empty ('meta') tensors"),
    "expanded": (lambda: torch.ones(1).expand(10**6, 10**6), "holds expanded tensors"),
    "windows": (lambda: torch.arange(9.0).unfold(0, 4, 1), "holds expanded tensors"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", OTHER_TENSORS)
def test_tensors_that_are_not_dense(kind: str, file: Path) -> None:
    make, words = OTHER_TENSORS[kind]
    for zipped in (True, False):
        torch.save(
            {"params": {"a": make(), "b": WEIGHT}}, file, _use_new_zipfile_serialization=zipped
        )
        with refused(file, words) as caught:
            load_tensors(file)
        assert caught.type is NotReadHereError


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (tensor(count=2**40), "another size than its numbers"),
        (tensor(count=11), "another size than its numbers"),
        (tensor(offset=1), "larger than the numbers that are there"),
        (tensor(size="K\x04K\x04\x86"), "larger than the numbers that are there"),
        (tensor(size="J\xff\xff\xff\xff\x85", stride="K\x01\x85"), "an impossible shape"),
        (tensor(stride="K\x01\x85"), "an impossible shape"),
        (tensor(offset=-4), "an impossible shape"),
        (tensor(size="X\x02\x00\x00\x0012"), "an impossible shape"),
        (tensor()[:-1] + b"}b", "truncated or damaged"),
    ],
)
def test_tensors_that_reach_beyond_their_numbers(made: bytes, words: str, file: Path) -> None:
    archive(file, entry(tensor()), _0=NUMBERS)
    assert torch.equal(load_tensors(file)["a"], WEIGHT)
    with refused(archive(file, entry(made), _0=NUMBERS), words):
        load_tensors(file)


def test_many_views_of_one_storage(file: Path) -> None:
    windows = b"".join(
        b"X\x01\x00\x00\x00%c" % (97 + n) + tensor(size="K\x06\x85", stride="K\x01\x85", offset=n)
        for n in range(7)
    )
    with refused(archive(file, b"\x80\x02}(" + windows + b"u.", _0=NUMBERS), "overlapping"):
        load_tensors(file)


def test_storages_that_inflate(file: Path) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("net/data.pkl", entry(tensor()), zipfile.ZIP_STORED)
        made.writestr("net/data/0", bytes(48))
    with refused(file, "compressed, which torch never does"):
        load_tensors(file)


# Pickles that build too much


# OrderedDict([("k", VALUE)])
IN_ORDER = b"ccollections\nOrderedDict\n(X\x01\x00\x00\x00k"
WRAPPED = b"t\x85\x85R"


def nested(depth: int, close: bytes) -> bytes:
    return entry(b"N" + close * depth)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (nested(10**6, b"\x85"), "nested more than 64 deep"),  # ((((None,),),),)
        (b"\x80\x02}" + b"N" + b"\x85" * 60 + b"Ns.", "a key of the kind tuple"),
        (entry(b"]" * 100 + b"a" * 99), "nested more than 64 deep"),
        (entry(b"]q\x00h\x00a"), "a container that holds itself"),
        # Top down: each list is put into the one before it, and grows afterwards.
        (entry(b"]q\x00]q\x01a0h\x01]a"), "truncated or damaged"),
        (entry(b"]q\x00(]q\x01lh\x01]a"), "truncated or damaged"),
        (entry(b"](]q\x01h\x01e]h\x01Na\x86"), "grows after it was put into another one"),
        # Each list has the one before ten times.
        (entry(b"]q\x00" + b"](" + b"h\x00" * 10 + b"eq\x00" * 1), "truncated or damaged"),
        (
            b"\x80\x02Nq\x00"
            + b"".join(b"(" + b"h%c" % n * 10 + b"tq%c" % (n + 1) for n in range(60))
            + b".",
            "more than 10,000,000 values",
        ),
        # A long text, a thousand times.
        (
            entry(
                b"(X" + struct.pack("<i", 10**6) + b"a" * 10**6 + b"q\x00" + b"h\x00" * 999 + b"t"
            ),
            "more than 10,000,000 values",
        ),
        # Dictionaries that are built by a call, each in the one before it.
        (entry(IN_ORDER * 70 + b"N" + WRAPPED * 70), "nested more than 64 deep"),
        (entry(b"K\x01(\x85"), "a value too few"),  # what lies before the mark
        (entry(b"}K\x01a"), "a dict in place of a list"),
        (entry(b"}(K\x01u"), "entries of no dictionary"),
        (entry(b"}}b"), "a state of a dict"),
        (entry(b"\x8b" + struct.pack("<i", 10**6) + b"\x7f" * 10**6), "a thousand digits"),
        (entry(b"cbuiltins\nbytearray\n\x8a\x06" + b"\x7f" * 6 + b"\x85R"), "bytes that are none"),
        (entry(b"}(" + b"G" + struct.pack(">d", 2.0**61) + b"Nu"), "a key of the kind float"),
        (entry(b"}(\x8a\x08" + (2**62 - 2).to_bytes(8, "little") + b"Nu"), "a key of the kind int"),
    ],
)
def test_pickles_that_build_too_much(content: bytes, words: str, file: Path) -> None:
    with refused(archive(file, content), words):
        load_tensors(file)


def test_a_pickle_of_too_many_operations(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ktdn_plugin.storage import restricted_pickle

    monkeypatch.setattr(restricted_pickle, "MOST_OPERATIONS", 1000)
    with refused(archive(file, b"\x80\x02" + b"]" * 2000 + b"."), "more than 1,000 values"):
        load_tensors(file)


@pytest.mark.parametrize(
    "called",
    [
        b"cposix\nmkdir\nX\x06\x00\x00\x00marker\x85R",
        b"cbuiltins\neval\nX\x02\x00\x00\x0012\x85R",
        b"c__builtin__\nexec\nX\x02\x00\x00\x0012\x85R",
        b"cnumpy\nload\nX\x02\x00\x00\x0012\x85R",
        b"ctorch\nload\nX\x02\x00\x00\x0012\x85R",
        b"ctorch\nTensor\n)\x81",
        b"ctorch.storage\nTypedStorage\n)R",
        b"X\x05\x00\x00\x00posixX\x05\x00\x00\x00mkdir\x93X\x06\x00\x00\x00marker\x85R",
    ],
)
def test_other_names_are_refused(called: bytes, file: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(file.parent)
    with refused(archive(file, entry(called)), "could run code"):
        load_tensors(file)
    assert list(file.parent.iterdir()) == [file]


def test_getattr_leads_nowhere(file: Path) -> None:
    name = b"c__builtin__\ngetattr\n(c__builtin__\ngetattr\nX\x08\x00\x00\x00__self__tR"
    found = load_tensors(archive(file, entry(name)))["a"]
    assert type(found) is Unread
    assert not hasattr(found, "__dict__")
    with refused(archive(file, entry(name + b")R")), "a call of nothing"):
        load_tensors(file)


# Files that are none


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes on this system")
@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
def test_pipes_and_devices(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    (tmp_path / "zero" / name).parent.mkdir()
    (tmp_path / "zero" / name).symlink_to("/dev/zero")
    for path in (tmp_path / name, tmp_path / "zero" / name):
        with refused(path, "a pipe or a device"):
            load_tensors(path)
        assert safe_loading.is_safetensors(path) is (path.suffix == ".safetensors")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes on this system")
def test_no_command_hangs_on_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "net.pth")
    Image.new("RGB", (32, 32)).save(tmp_path / "hazy.png")
    code = (
        "from ktdn_plugin.cli import main\n"
        "for words in ('info net.pth', 'convert net.pth a.safetensors', 'export net.pth -o a.onnx',"
        " 'dehaze --checkpoint net.pth hazy.png'):\n"
        "    assert main(words.split()) == 1, words\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("net.pth: a pipe or a device, not a checkpoint file") == 4


def test_a_header_without_end(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    with path.open("wb") as made:
        made.write(struct.pack("<Q", 50 * 2**20) + b"{")
        made.truncate(60 * 2**20)
    for read in (load_tensors, safe_loading.read_header):
        with refused(path, "its header of 52428800 bytes is too long"):
            read(path)


def legacy(path: Path, count: int = 12, little: bool = True, missing: bool = False) -> Path:
    """Writes two tensors as torch did before 1.6; what is said of them may be wrong.

    Args:
        path: The file.
        count: The numbers of each that the pickle tells of.
        little: Whether the numbers' bytes are said to be in the usual order.
        missing: Leave the second one's numbers out.
    """
    one = tensor(count)
    other = one.replace(b"X\x01\x00\x00\x000", b"X\x01\x00\x00\x001")
    system = {"protocol_version": 1001, "little_endian": little, "type_sizes": {"int": 4}}
    keys = ["0"] if missing else ["0", "1"]
    parts = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, system)]
    parts += [b"\x80\x02}(X\x01\x00\x00\x00a" + one + b"X\x01\x00\x00\x00b" + other + b"u."]
    parts += [pickle.dumps(keys, 2)]
    parts += [struct.pack("<q", 12) + NUMBERS for _ in keys]
    path.write_bytes(b"".join(parts))
    return path


def test_legacy_files_that_contradict_themselves(file: Path) -> None:
    found = load_tensors(legacy(file))
    assert torch.equal(found["a"], WEIGHT)
    assert torch.equal(found["b"], WEIGHT)
    with refused(legacy(file, count=13), "a tensor of another size than its numbers"):
        load_tensors(file)
    with refused(legacy(file, missing=True), "tensors without numbers"):
        load_tensors(file)
    with refused(legacy(file, little=False), "an unknown version"):
        load_tensors(file)
    # Each by itself would fit into the file, both together would not.
    count = file.stat().st_size // 4 - 10
    with refused(legacy(file, count=count), "tensors larger than the file"):
        load_tensors(file)


def test_numbers_in_the_other_order(file: Path) -> None:
    for order in (b"little", b"big"):
        archive(file, entry(tensor()), _0=NUMBERS)
        with zipfile.ZipFile(file, "a") as made:
            made.writestr("net/byteorder", order)
        if order == b"little":
            assert torch.equal(load_tensors(file)["a"], WEIGHT)
    with refused(file, "big-endian"):
        load_tensors(file)


def test_legacy_storages_are_bounded_by_the_file(file: Path) -> None:
    made = io.BytesIO()
    torch.save({"a": WEIGHT}, made, _use_new_zipfile_serialization=False)
    content = made.getvalue()
    at = content.index(b"K\x0c")
    file.write_bytes(content[:at] + b"J" + struct.pack("<i", 2**31 - 1) + content[at + 2 :])
    with refused(file, "tensors larger than the file"):
        load_tensors(file)
