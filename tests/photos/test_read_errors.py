"""What is said of files that cannot be read: what they are, and what to do."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from odd_images import RGB, saved, tiff
from PIL import Image, PngImagePlugin

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.photos import (
    Photo,
    decode_photo,
    not_kept,
    read_photo,
    read_rgb,
    read_size,
    write_photo,
)
from ktdn_plugin.photos.photo import MOST_TEXT, Metadata

PICTURE = Image.fromarray(RGB)


def box(brand: bytes) -> bytes:
    return b"\0\0\0\x18ftyp" + brand + bytes(40)


def bitfields() -> bytes:
    """A BMP of 32 bit whose masks are of ten bits each, as its specification allows."""
    masks = struct.pack("<4I", 0x3FF00000, 0x000FFC00, 0x000003FF, 0)
    info = struct.pack("<IiiHHIIiiII", 108, 4, 4, 1, 32, 3, 64, 2835, 2835, 0, 0)
    info += masks + bytes(108 - len(info) - len(masks))
    return b"BM" + struct.pack("<IHHI", 14 + 108 + 64, 0, 0, 14 + 108) + info + bytes(64)


def depths() -> dict[str, bytes]:
    values = np.zeros((8, 8, 3))
    twelve = tiff(values.astype(np.uint16))
    at = twelve.index(struct.pack("<3H", 16, 16, 16))
    twelve = twelve[:at] + struct.pack("<3H", 12, 12, 12) + twelve[at + 6 :]
    return {
        "floating-point numbers of 32 bit": tiff(values.astype(np.float32)),
        "floating-point numbers of 16 bit": tiff(values.astype(np.float16)),
        "integers of 32 bit": tiff(values.astype(np.uint32)),
        "signed integers of 16 bit": tiff(values.astype(np.int16)),
        "signed integers of 8 bit": tiff(values.astype(np.int8)),
        "integers of 12 bit": twelve,
        "floating-point numbers of 64 bit": tiff(values[..., 0], "minisblack"),
        "signed integers of 32 bit": tiff(values[..., 0].astype(np.int32), "minisblack"),
    }


DEPTHS = {
    words: (f"x{number}.tif", content, f"holds {words}; only unsigned 8 or 16 bit is supported")
    for number, (words, content) in enumerate(depths().items())
}
UNREAD = {
    "video": ("x.jpg", box(b"isom"), r"but a video \(MP4\); rename it with a video suffix"),
    "jpeg-2000": ("x.jp2", saved(PICTURE, "JPEG2000"), "but a JPEG 2000; save it"),
    "web-page": ("x.png", b"\n<!DOCTYPE html><p>gone</p>", "but a web page; open its address"),
    "lfs": ("x.png", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "raw": ("x.raf", b"FUJIFILMCCD-RAW 0201", r"but a camera raw \(RAF\); develop it to TIFF"),
    "dng": ("x.dng", tiff(RGB, subfiletype=1), "is a preview, as in camera raw files; develop"),
    "bitfields": ("x.bmp", bitfields(), r"an unsupported variant of BMP \(Unsupported BMP"),
    "bands": (
        "x.tif",
        tiff(np.zeros((5, 5, 7), np.uint16), "minisblack", planarconfig="contig"),
        "has 7 bands, none of which it calls a colour; save it as RGB or RGBA",
    ),
    "nothing": ("x.png", bytes(range(1, 200)), r"none of PNG, JPEG, .*, JPEG XL\); copy"),
    "jpeg": ("x.jpg", saved(PICTURE, "JPEG")[:-200], "but a truncated or damaged JPEG; copy or"),
    **DEPTHS,
}


@pytest.mark.parametrize("name", UNREAD)
def test_unsupported_files_are_reported(tmp_path: Path, name: str) -> None:
    file, content, said = UNREAD[name]
    path = tmp_path / file
    path.write_bytes(content)
    for read in (read_photo, read_rgb):
        with pytest.raises(KTDNError, match=said) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)
    if name != "jpeg":  # whose header is whole
        with pytest.raises(KTDNError, match=said):
            read_size(path)


def test_libraries_say_nothing_of_their_own_on_the_terminal(tmp_path: Path) -> None:
    lzw = bytearray(saved(PICTURE.resize((200, 200)), "TIFF", compression="tiff_lzw"))
    lzw[300 : len(lzw) - 300 : 7] = bytes(len(range(300, len(lzw) - 300, 7)))
    deep = bytearray(tiff(np.tile(RGB, (8, 8, 1)).astype(np.uint16), compression="zlib"))
    deep[600:900] = bytes(300)
    files = {
        "lzw.tif": bytes(lzw),
        "cut.tif": bytes(lzw[: len(lzw) // 2]),
        "deep.tif": bytes(deep),
        "half.tif": bytes(deep[: len(deep) // 2]),
        "tags.tif": tiff(RGB).replace(
            struct.pack("<HHI", 258, 3, 3), struct.pack("<HHI", 258, 99, 3)
        ),
        **{file: content for file, content, _ in UNREAD.values()},
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    code = (
        "import sys\nfrom pathlib import Path\nfrom ktdn_plugin import KTDNError, read_photo\n"
        "for path in sorted(Path(sys.argv[1]).iterdir()):\n"
        "    try:\n        read_photo(path)\n    except KTDNError:\n        print(path.name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert len(done.stdout.split()) >= len(files) - 2
    assert done.stderr == ""


def profile(length: int) -> bytes:
    return bytes(16) + b"RGB " + bytes(16) + np.random.RandomState(0).bytes(length)


def test_a_png_with_a_long_profile_and_long_texts_is_read_and_written(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Notes", "fog " * 700_000, zip=True)
    PICTURE.save(tmp_path / "x.png", icc_profile=profile(2 * 2**20), pnginfo=info)
    photo = read_photo(tmp_path / "x.png")
    assert photo.metadata.icc == profile(2 * 2**20)
    assert photo.metadata.text == {"Notes": "fog " * 700_000}
    assert not_kept(tmp_path / "out.png", photo) == []
    write_photo(tmp_path / "out.png", photo)
    again = read_photo(tmp_path / "out.png")
    assert again.metadata == photo.metadata
    assert np.array_equal(read_rgb(tmp_path / "out.png"), RGB)


def test_what_is_too_long_to_be_read_again_is_not_written_and_named(tmp_path: Path) -> None:
    long = Metadata(icc=profile(MOST_TEXT), text={"Notes": "x" * (MOST_TEXT + 1)})
    photo = Photo(RGB, None, long)
    assert set(not_kept(tmp_path / "x.png", photo)) == {"PNG texts", "such a long colour profile"}
    assert set(not_kept(tmp_path / "x.jpg", photo)) == {"PNG texts", "such a long colour profile"}
    for suffix in (".png", ".jpg"):
        write_photo(tmp_path / f"x{suffix}", photo)
        assert read_photo(tmp_path / f"x{suffix}").metadata.icc == b""
    bomb = PngImagePlugin.PngInfo()
    bomb.add_text("Notes", "x" * (MOST_TEXT + 1), zip=True)
    PICTURE.save(tmp_path / "bomb.png", pnginfo=bomb)
    with pytest.raises(KTDNError, match="texts or a colour profile of more than 64 MB; strip them"):
        read_photo(tmp_path / "bomb.png")


BANDS = {
    4: "its fourth band, of which it does not say what it is, was kept as alpha",
    5: "2 of its bands were dropped",
    7: "4 of its bands were dropped",
}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("is_planar", [False, True])
def test_bands_beyond_the_colours_have_one_rule(
    tmp_path: Path, dtype: type, is_planar: bool
) -> None:
    path, values = tmp_path / "x.tif", np.dstack((RGB, RGB, RGB)).astype(dtype)
    for count, note in BANDS.items():
        layout = {"planarconfig": "contig", "extrasamples": [0] * (count - 3)}
        bands = values[..., :count]
        if is_planar:
            layout["planarconfig"], bands = "separate", bands.transpose(2, 0, 1)
        path.write_bytes(tiff(np.ascontiguousarray(bands), **layout))
        photo = read_photo(path)
        assert photo.pixels.dtype == dtype
        assert np.array_equal(photo.pixels, RGB)
        assert photo.notes == [note]
        assert (photo.alpha is not None) == (count == 4)
    if not is_planar:
        path.write_bytes(tiff(values[..., :5], extrasamples=[2, 0]))  # which says that it is alpha
        photo = read_photo(path)
        assert np.array_equal(photo.alpha, RGB[..., 0])
        assert photo.notes == ["1 of its bands was dropped"]
        grey = tiff(values[..., :4], "minisblack", planarconfig="contig")
        with pytest.raises(KTDNError, match="has 4 bands, none of which it calls a colour"):
            decode_photo(grey, "x.tif")
