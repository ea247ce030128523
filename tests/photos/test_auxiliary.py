"""What phones put beside a picture: left out, named, and no longer claimed by the metadata."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from odd_images import RGB, saved
from PIL import Image

from ktdn_plugin.photos import Photo, read_photo, write_photo
from ktdn_plugin.photos.auxiliary import strip_auxiliary_references

SPACES = (
    'xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" '
    'xmlns:Container="http://ns.google.com/photos/1.0/container/" '
    'xmlns:Item="http://ns.google.com/photos/1.0/container/item/" '
    'xmlns:cam="http://ns.google.com/photos/1.0/camera/" '
    'xmlns:xmpNote="http://ns.adobe.com/xmp/note/" '
    'xmlns:dc="http://purl.org/dc/elements/1.1/"'
)
CONTAINER = (
    '<Container:Directory><rdf:Seq><rdf:li rdf:parseType="Resource"><Container:Item '
    'Item:Semantic="GainMap" Item:Length="700"/></rdf:li></rdf:Seq></Container:Directory>'
)


def packet(attributes: str, elements: str = "") -> bytes:
    return (
        '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
        f'rdf:about="" {SPACES} dc:rights="mine" {attributes}>{elements}</rdf:Description>'
        '</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode()


def segment(marker: int, content: bytes) -> bytes:
    return bytes((0xFF, marker)) + (len(content) + 2).to_bytes(2, "big") + content


PICTURE = Image.fromarray(RGB)
VIDEO = b"\0\0\0\x18ftypmp42" + bytes(300)
GAIN = 'hdrgm:Version="1.0"'
MOTION = 'cam:MotionPhoto="1" cam:MotionPhotoVersion="1" cam:BurstID="7"'
FILES = {
    "ultra-hdr": (
        saved(PICTURE, "JPEG", xmp=packet(GAIN, CONTAINER)) + saved(PICTURE.convert("L"), "JPEG"),
        "dropped: its HDR gain map",
    ),
    "iso-gain-map": (
        saved(PICTURE, "JPEG", extra=segment(0xE2, b"urn:iso:std:iso:ts:21496:-1\0\0")),
        "dropped: its HDR gain map",
    ),
    "motion-photo": (
        saved(PICTURE, "JPEG", xmp=packet(MOTION, CONTAINER)) + VIDEO,
        "dropped: the video of its motion photo",
    ),
    "video-alone": (
        saved(PICTURE, "JPEG") + b"MotionPhoto_Data" + VIDEO,
        "dropped: the video of its motion photo",
    ),
    "further-xmp": (
        saved(
            PICTURE,
            "JPEG",
            xmp=packet('xmpNote:HasExtendedXMP="0123456789ABCDEF"'),
            extra=segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(60)),
        ),
        "dropped: extended XMP",
    ),
    "two-pictures": (
        saved(PICTURE, "MPO", save_all=True, append_images=[PICTURE, PICTURE]),
        "dropped: 2 more images",
    ),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_they_are_named_and_no_longer_claimed(tmp_path: Path, name: str, suffix: str) -> None:
    content, note = FILES[name]
    (tmp_path / "x.jpg").write_bytes(content)
    photo = read_photo(tmp_path / "x.jpg")
    assert photo.notes == [note]
    out = tmp_path / f"out{suffix}"
    write_photo(out, photo)
    written = out.read_bytes()
    claims = rb'hdrgm:\w+="|<Container:|Item:\w+="|MotionPhoto|MicroVideo|HasExtended|MPF\0|21496'
    assert re.search(claims, written) is None
    assert read_photo(out).notes == []
    if b"xmpmeta" in content:
        assert b'dc:rights="mine"' in written
    if name == "motion-photo":
        assert b'cam:BurstID="7"' in written  # which is still true


def test_previews_of_a_camera_are_not_additional_images(tmp_path: Path) -> None:
    content = FILES["two-pictures"][0]
    undefined, preview = (0x000000).to_bytes(4, "little"), (0x010001).to_bytes(4, "little")
    at = content.index(b"MPF\0")
    table = content.rindex((0x030000).to_bytes(4, "little"), at, at + 120)
    content = bytearray(content)
    for number in (1, 2):
        place = table + 16 * number
        assert content[place : place + 4] == undefined
        content[place : place + 4] = preview
    (tmp_path / "x.jpg").write_bytes(content)
    assert read_photo(tmp_path / "x.jpg").notes == []


def test_a_packet_without_such_claims_stays_to_the_byte() -> None:
    for whole in (packet('cam:BurstID="1"'), packet('cam:MotionPhoto="0"'), b"no XML <", b""):
        assert strip_auxiliary_references(whole) == (whole, [])


def test_a_damaged_packet_or_one_nested_without_end_is_left_out_and_named() -> None:
    deep = b"<a>" * 100_000 + b"</a>" * 100_000
    for part in (b"<broken", packet(GAIN)[:-9], packet(GAIN, deep.decode())):
        whole = part if part.startswith(b"<?") else part + packet(GAIN)
        found, words = strip_auxiliary_references(whole)
        assert b"hdrgm:Version" not in found
        assert words in (["a damaged XMP packet"], ["its HDR gain map"])


def test_lossless_webp_stays_lossless_unless_a_quality_is_asked_for(tmp_path: Path) -> None:
    for options in ({}, {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"}):
        PICTURE.save(tmp_path / "x.webp", lossless=True, **options)
        photo = read_photo(tmp_path / "x.webp")
        assert photo.metadata.is_lossless_webp
        changed = Photo(255 - photo.pixels, None, photo.metadata)
        write_photo(tmp_path / "out.webp", changed)
        assert (read_photo(tmp_path / "out.webp").pixels == 255 - RGB).all()
        write_photo(tmp_path / "lossy.webp", changed, quality=90)
        assert not read_photo(tmp_path / "lossy.webp").metadata.is_lossless_webp
    frames = io.BytesIO()
    PICTURE.save(frames, "WEBP", save_all=True, append_images=[PICTURE.rotate(180)], lossless=True)
    (tmp_path / "frames.webp").write_bytes(frames.getvalue())
    assert read_photo(tmp_path / "frames.webp").metadata.is_lossless_webp
    PICTURE.save(tmp_path / "plain.webp")
    assert not read_photo(tmp_path / "plain.webp").metadata.is_lossless_webp
