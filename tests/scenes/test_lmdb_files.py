"""Our reader finds what LMDB's library finds, and says what is wrong with what would crash it."""

from __future__ import annotations

import os
import pickle
import struct
from pathlib import Path

import lmdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.scenes.lmdb_files import LmdbFile

PAGE = 4096
COUNT = 200


def write(path: Path, values: dict[bytes, bytes]) -> None:
    with (
        lmdb.open(str(path), map_size=2**28) as environment,
        environment.begin(write=True) as transaction,
    ):
        for key, value in values.items():
            transaction.put(key, value)


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(
        st.binary(min_size=1, max_size=511), st.integers(0, 20_000).map(os.urandom), max_size=300
    ),
    st.lists(st.binary(min_size=1, max_size=511), max_size=20),
)
def test_finds_what_the_library_finds(
    tmp_path_factory: pytest.TempPathFactory, values: dict[bytes, bytes], others: list[bytes]
) -> None:
    path = tmp_path_factory.mktemp("values")
    write(path, values)
    with (
        lmdb.open(str(path), map_size=2**28) as environment,
        environment.begin(write=True) as transaction,
    ):
        for key in list(values)[::3]:  # so that some pages are free, and one root is older
            transaction.delete(key)
            del values[key]
    file = LmdbFile(path)
    file.check()
    for key in [*values, *others]:
        found = file.get(key)
        assert (None if found is None else bytes(found)) == values.get(key)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Returns an LMDB with long and short values, whose tree has two levels."""
    write(
        tmp_path, {f"{n:04}".encode(): bytes([n]) * (9000 if n % 2 else 90) for n in range(COUNT)}
    )
    return tmp_path


def pages(content: bytes, kind: int) -> list[int]:
    """Returns where the pages of a kind start (1: branch, 2: leaf)."""
    starts = range(2 * PAGE, len(content), PAGE)
    return [
        start
        for start in starts
        for whole in [(start // PAGE, kind)]
        if (*struct.unpack_from("<Q", content, start), content[start + 10]) == whole
        and content[start + 11] == 0
    ]


def first_long_value(content: bytes, leaf: int) -> int:
    """Returns where a leaf says on which page its first long value is."""
    (lower,) = struct.unpack_from("<H", content, leaf + 12)
    for index in range((lower - 16) // 2):
        (node,) = struct.unpack_from("<H", content, leaf + 16 + 2 * index)
        if content[leaf + node + 4] == 1:
            return leaf + node + 8 + 4
    raise AssertionError("none")


def refusal(path: Path) -> tuple[str, str]:
    """Returns what reading all values says first, and what a check does."""
    said = []
    for look in (lambda file: [file.get(f"{n:04}".encode()) for n in range(COUNT)], LmdbFile.check):
        with pytest.raises(KTDNError) as caught:
            look(LmdbFile(path))
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)
        said.append(str(caught.value))
    return said[0], said[1]


@pytest.mark.parametrize("number", ["last", "behind", 2**63, 0])
def test_value_outside_of_the_file(number: int | str, path: Path) -> None:
    content = bytearray((path / "data.mdb").read_bytes())
    count = len(content) // PAGE
    where = first_long_value(content, pages(content, 2)[0])
    value = {"last": count - 1, "behind": count}.get(str(number), number)
    struct.pack_into("<Q", content, where, value)
    (path / "data.mdb").write_bytes(content)
    assert all("a value is outside of the file" in said for said in refusal(path))


def test_value_on_another_page_of_the_file(path: Path) -> None:
    content = bytearray((path / "data.mdb").read_bytes())
    leaf = pages(content, 2)[0]
    struct.pack_into("<Q", content, first_long_value(content, leaf), leaf // PAGE)
    (path / "data.mdb").write_bytes(content)
    with pytest.raises(KTDNError, match=f"page {leaf // PAGE} is not part of a value"):
        [LmdbFile(path).get(f"{n:04}".encode()) for n in range(COUNT)]


@pytest.mark.parametrize("kind", [1, 2])
@pytest.mark.parametrize(
    ("offset", "form", "value", "part"),
    [
        (0, "<Q", 77, "is not part of the tree"),  # a page's own number
        (10, "<H", 0x22, "is not part of the tree"),  # its kind
        (12, "<H", 0xFFFE, "is not part of the tree"),  # how many nodes there are
        (12, "<H", 16, "is not part of the tree"),
        (14, "<H", 0xFFFF, "is not part of the tree"),  # where they begin
        (16, "<H", PAGE - 2, "is outside of it"),  # where the first one is
        (16, "<H", 16, "is outside of it"),
    ],
)
def test_damaged_page(kind: int, offset: int, form: str, value: int, part: str, path: Path) -> None:
    content = bytearray((path / "data.mdb").read_bytes())
    struct.pack_into(form, content, pages(content, kind)[0] + offset, value)
    (path / "data.mdb").write_bytes(content)
    assert all(part in said for said in refusal(path))


@pytest.mark.parametrize(
    ("field", "value", "part"),
    [
        (6, 0xFFFF, "leaves it"),  # the key's length
        (0, 0xFFFF, "leaves it"),  # the size of a value that lies on the page
        (4, 2, "a node of another kind"),  # a tree within the tree
    ],
)
def test_damaged_node(field: int, value: int, part: str, path: Path) -> None:
    content = bytearray((path / "data.mdb").read_bytes())
    leaf = pages(content, 2)[0]
    (node,) = struct.unpack_from("<H", content, leaf + 16)  # of a short value
    struct.pack_into("<H", content, leaf + node + field, value)
    (path / "data.mdb").write_bytes(content)
    assert all(part in said for said in refusal(path))


def test_tree_with_a_cycle(path: Path) -> None:
    content = bytearray((path / "data.mdb").read_bytes())
    (branch,) = pages(content, 1)
    offsets = struct.unpack_from("<2H", content, branch + 16)
    first, second = (branch + offset for offset in offsets)
    content[second : second + 6] = content[first : first + 6]  # two branches to one leaf
    (path / "data.mdb").write_bytes(content)
    with pytest.raises(KTDNError, match="is in the tree twice"):
        LmdbFile(path).check()
    content[first : first + 6] = struct.pack("<HHH", branch // PAGE, 0, 0)
    (path / "data.mdb").write_bytes(content)
    read, checked = refusal(path)
    assert f"page {branch // PAGE} is not part of the tree" in read
    assert f"page {branch // PAGE} is in the tree twice" in checked


@pytest.mark.parametrize(
    ("offset", "form", "value", "part"),
    [
        (16, "<I", 1, "is not an LMDB meta page"),
        (20, "<I", 2, "version 2 of the format"),
        (40, "<I", 0, "pages of 0 bytes"),
        (40, "<I", 2048, "is not an LMDB meta page"),
        (92, "<H", 4, "another kind of tree"),  # several values for a key
        (94, "<H", 33, "another kind of tree"),  # levels
        (136, "<Q", 2**50, "truncated"),  # the last page
    ],
)
def test_damaged_first_page(offset: int, form: str, value: int, part: str, path: Path) -> None:
    content = bytearray((path / "data.mdb").read_bytes())
    for start in (0, PAGE) if offset == 136 else (0,):
        struct.pack_into(form, content, start + offset, value)
    (path / "data.mdb").write_bytes(content)
    with pytest.raises(KTDNError, match=part):
        LmdbFile(path)


@pytest.mark.parametrize("content", [b"", b"x", bytes(PAGE), bytes(4 * PAGE), b"garbage" * 3000])
def test_not_an_lmdb(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(content)
    with pytest.raises(KTDNError, match="not a readable LMDB"):
        LmdbFile(tmp_path)


def test_another_process_opens_it_for_itself(path: Path) -> None:
    file = LmdbFile(path)
    packed = pickle.dumps(file)
    assert len(packed) < 1000
    assert pickle.loads(packed).get(b"0007") == file.get(b"0007") == bytes([7]) * 9000
