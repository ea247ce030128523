"""What phones add to a photograph's file: auxiliary data, which is dropped with a note.

HDR gain maps, motion-photo videos and additional images do not match a dehazed image. Nor may
its metadata go on to say that they are there: some viewers would not show it, or show it wrongly.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from xml.dom import minidom

from PIL import Image

from ktdn_plugin.errors import printable

_NOTE = "http://ns.adobe.com/xmp/note/"
_CAMERA = "http://ns.google.com/photos/1.0/camera/"
# Whole namespaces that speak of what is left out; of the other two some names do.
_CLAIMS = {
    "http://ns.adobe.com/hdr-gain-map/1.0/": "its HDR gain map",
    "http://ns.apple.com/HDRGainMap/1.0/": "its HDR gain map",
    "http://ns.google.com/photos/1.0/container/": "",
    "http://ns.google.com/photos/1.0/container/item/": "",
    "http://ns.google.com/photos/1.0/depthmap/": "its depth map",
    "http://ns.google.com/photos/1.0/image/": "its second image",
    "http://ns.google.com/photos/1.0/audio/": "its sound",
    "http://ns.google.com/photos/dd/1.0/container/": "",
    "http://ns.google.com/photos/dd/1.0/item/": "",
    "http://ns.google.com/photos/dd/1.0/device/": "its depth map",
    _NOTE: "extended XMP",
    _CAMERA: "the video of its motion photo",
}
_NAMES = {_NOTE: ("HasExtendedXMP",), _CAMERA: ("MotionPhoto", "MicroVideo")}
_EXTENSION = b"http://ns.adobe.com/xmp/extension/\0"
_GAIN_MAP = b"urn:iso:std:iso:ts:21496"  # ISO 21496-1, which needs no XMP
_BRANDS = (b"mp4", b"iso", b"qt  ", b"avc1", b"MSNV", b"3gp")  # of videos
_AUXILIARY = {"hdrgainmap": "its HDR gain map", "depth": "its depth map"}  # by a URN's last part
_TONE_MAP = re.compile(rb"infe.{8,10}tmap", re.DOTALL)  # of ISO 21496-1, in HEIC and AVIF
_APPLES_GAIN_MAP = b"http://ns.apple.com/HDRGainMap/"  # which its own XMP names, not the photo's
_PREVIEWS = ("Large Thumbnail (VGA Equivalent)", "Large Thumbnail (Full HD Equivalent)")


def drop_auxiliary(image: Image.Image, content: bytes, xmp: bytes) -> tuple[bytes, list[str]]:
    """Lists a file's auxiliary data, and removes references to it from its XMP.

    Args:
        image: The opened image.
        content: Its file.
        xmp: Its XMP packet.

    Returns:
        The packet without what it says of that, and a few words on each.
    """
    xmp, found = strip_auxiliary_references(xmp)
    if image.format in ("JPEG", "MPO"):
        segments = [bytes(data) for _, data in getattr(image, "applist", ())]
        if any(data.startswith(_EXTENSION) for data in segments):
            found.append("extended XMP")
        is_apples = image.format == "MPO" and _APPLES_GAIN_MAP in content
        if is_apples or any(data.startswith(_GAIN_MAP) for data in segments):
            found.append("its HDR gain map")
        if _has_video(content):
            found.append("the video of its motion photo")
        count = _further(image)
        if count and "its HDR gain map" not in found:
            found.append(f"{count} more image{'s' if count > 1 else ''}")
    elif image.format in ("HEIF", "AVIF"):
        urns = image.info.get("aux", {})
        found += [_auxiliary_words(urn) for urn in urns if "alpha" not in urn]
        if image.info.get("depth_images"):
            found.append("its depth map")
        if _TONE_MAP.search(content):
            found.append("its HDR gain map")
        if _has_video(content):
            found.append("the video of its motion photo")
    return xmp, list(dict.fromkeys(found))


def _auxiliary_words(urn: str) -> str:
    name = urn.rpartition(":")[2]
    return _AUXILIARY.get(name, f"an auxiliary image ({printable(name)})")


def strip_auxiliary_references(xmp: bytes) -> tuple[bytes, list[str]]:
    """Removes from an XMP packet what refers to dropped auxiliary data.

    Returns:
        The packet, empty where it is damaged, and a few words on each.
    """
    if not any(space.encode() in xmp for space in _CLAIMS):
        return xmp, []
    words: list[str] = []
    is_changed = False
    try:
        document = minidom.parseString(xmp.strip(b" \t\r\n\0"))
        for element in list(_elements(document)):
            attributes = map(element.getAttributeNode, list((element.attributes or {}).keys()))
            for node in [*attributes, element]:
                if not _is_claim(node):
                    continue
                words.append(_CLAIMS[node.namespaceURI])
                is_changed = True
                if node is element:
                    element.parentNode.removeChild(element)
                else:
                    element.removeAttributeNode(node)
        packet = document.toxml("utf-8").partition(b"?>")[2].strip() if is_changed else xmp
    # An XML parser's errors, and those of what is nested too deep.
    except Exception:
        return b"", ["a damaged XMP packet"]
    return packet, [word for word in words if word]


def _elements(document: Any) -> Iterator[Any]:
    """Lists all elements, without recursion."""
    waiting = [document.documentElement]
    while waiting:
        element = waiting.pop()
        yield element
        waiting += [one for one in element.childNodes if one.nodeType == one.ELEMENT_NODE]


def _is_claim(node: Any) -> bool:
    """Returns whether an element or attribute refers to dropped auxiliary data."""
    space = node.namespaceURI
    names = _NAMES.get(space, ("",))
    # A camera says of photographs without a video, too, that they have none.
    is_denial = getattr(node, "value", "") == "0"
    return space in _CLAIMS and (node.localName or "").startswith(names) and not is_denial


def _has_video(content: bytes) -> bool:
    """Returns whether a motion photo's video follows the image."""
    if b"MotionPhoto_Data" in content:
        return True
    at = content.find(b"ftyp")  # much quicker than a regular expression
    while at >= 0:
        if content[at - 4 : at - 1] == bytes(3) and content[at + 4 : at + 8].startswith(_BRANDS):
            return True
        at = content.find(b"ftyp", at + 1)
    return False


def _further(image: Any) -> int:
    """Counts an MPO's additional images, previews of the first excluded."""
    entries = (getattr(image, "mpinfo", None) or {}).get(0xB002, ())
    kinds = [entry.get("Attribute", {}).get("MPType") for entry in list(entries)[1:]]
    return sum(kind not in _PREVIEWS for kind in kinds)
