"""What a store says about itself: what it was made from, and whether its tables fit its images."""

from __future__ import annotations

from ktdn_plugin.checking.findings import Finding
from ktdn_plugin.console import readable_size
from ktdn_plugin.data.store_writer import Content
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.scenes.store import Store


def judge_store(store: Store) -> list[Finding]:
    """Returns what is wrong with a store apart from its pixels, of which it reads none.

    Args:
        store: The store.
    """
    content = Content(store.pairs)
    try:
        # In the order in which the store was summed up.
        for side, count in store.info.counts.items():
            for number in range(count):
                about, size = store.about(side, number), store.size(side, number)
                if (about["height"], about["width"]) != size:
                    return [_error(store, f"its table of {side} sizes is damaged")]
                content.add(side, str(about["name"]), str(about["sha256"]), size)
    except KeyError as error:
        return [_error(store, f"damaged ({side} image {number} has no {error})")]
    except KTDNError as error:
        return [Finding("store", "error", str(error))]
    if content.complete(store.info).fingerprint != store.info.fingerprint:
        return [_error(store, "its fingerprint is wrong")]
    return []


def describe_store(store: Store) -> str:
    """Describes what a store was made from, on one line."""
    info = store.info
    return (
        f"{store.path}: {info.name}, from {info.source_files} files of {_size(info.source_bytes)}; "
        f"{_size(info.pixel_bytes)} of pixels; fingerprint {info.fingerprint}; created by "
        f"{info.tool}"
    )


def _error(store: Store, what: str) -> Finding:
    return Finding("store", "error", f"{store.path}: {what}; rebuild the store")


def _size(count: int) -> str:
    if not isinstance(count, int):  # a damaged store may say anything
        return f"{count} bytes"
    return readable_size(count)
