"""The section with the photographs: images to compare, and the figures of each beneath."""

from __future__ import annotations

from collections.abc import Sequence

from ktdn_plugin.report.embedding import DIFFERENCE_GAIN
from ktdn_plugin.report.escaping import escape
from ktdn_plugin.report.numbers import exact, heading, rounded, united
from ktdn_plugin.report.photos import Layer, Photo


def photo_section(photos: Sequence[Photo], first: int = 1) -> str:
    """Writes photographs, one after another.

    Args:
        photos: The photographs.
        first: Number of the first one on the page.
    """
    about = []
    if any(len(photo.layers) > 1 for photo in photos):
        about.append(
            '<span class="hint">Drag the divider, or focus it and use the arrow keys, Home and '
            "End; beneath, choose which two images are compared.</span>"
        )
    if any(layer.kind == "difference" for photo in photos for layer in photo.layers):
        about.append(
            f"The difference is |result &minus; clear|, {DIFFERENCE_GAIN} times amplified: black "
            "where the two are equal."
        )
    if all(photo.is_reconstructed for photo in photos):
        about = ["The teacher is given the clear photograph itself, and learns to give it back."]
    text = f'<p class="about">{" ".join(about)}</p>\n' if about else ""
    return text + "\n".join(_photo(photo, number) for number, photo in enumerate(photos, first))


def _photo(photo: Photo, number: int) -> str:
    name = f"photo-{number}"
    layers = "".join(_layer(photo, layer) for layer in photo.layers)
    left, right = _first_two([layer.kind for layer in photo.layers])
    split = f' <span class="split">{escape(photo.split)}</span>' if photo.split else ""
    notes = "".join(f'<p class="remark">{escape(note)}</p>' for note in photo.notes)
    return (
        f'<article class="photo" id="{name}" aria-labelledby="{name}-name">\n'
        f'<div class="title"><h3 id="{name}-name">{escape(photo.name)}{split}</h3></div>\n'
        f'<div class="stage" data-left="{left}" data-right="{right}">{layers}</div>\n'
        f'<div class="choices"></div>\n<div class="side">{_figures(photo)}{notes}</div>\n</article>'
    )


def _first_two(kinds: Sequence[str]) -> tuple[int, int]:
    """Chooses what is compared at first: what was given, and what was made of it."""
    right = kinds.index("result")
    left = kinds.index("hazy") if "hazy" in kinds else None
    if left is None and "clear" in kinds:
        # What was made lies on the left, as before it would hazy: the clear one is the end.
        clear = kinds.index("clear")
        return (clear, right) if clear < right else (right, clear)
    return (right, right) if left is None else (left, right)


def _layer(photo: Photo, layer: Layer) -> str:
    uri, width, height = layer.image
    label = _label(layer)
    return (
        f'<figure class="layer" data-kind="{layer.kind}" data-label="{escape(layer.label)}"><img '
        f'src="{uri}" width="{width}" height="{height}" alt="{escape(photo.name)}, {label}" '
        f'draggable="false"><figcaption>{label}</figcaption></figure>'
    )


def _label(layer: Layer) -> str:
    label = escape(layer.label)
    return f"{label} &times; {DIFFERENCE_GAIN}" if layer.kind == "difference" else label


def _figures(photo: Photo) -> str:
    if not photo.lines:
        return ""
    metrics = united(line.figures for line in photo.lines)
    names = "".join(f'<th scope="col" class="number">{escape(heading(m))}</th>' for m in metrics)
    rows = "".join(
        f'<tr><th scope="row">{escape(line.label)}</th>'
        + "".join(_cell(metric, line.figures.get(metric)) for metric in metrics)
        + "</tr>"
        for line in photo.lines
    )
    return (
        f'<table class="figures"><caption>{_sources(photo)}</caption><thead><tr><td></td>{names}'
        f"</tr></thead><tbody>{rows}</tbody></table>"
    )


def _cell(metric: str, value: float | None) -> str:
    if value is None:
        return '<td class="number"></td>'
    unit = ' <span class="unit">dB</span>' if metric == "psnr" else ""
    text = rounded(metric, value)
    return (
        f'<td class="number" data-metric="{escape(metric)}" data-value="{exact(value)}">'
        f"{text}{unit}</td>"
    )


def _sources(photo: Photo) -> str:
    """Returns a text that says where figures are from; each source once."""
    sources: dict[str, list[str]] = {}
    for line in photo.lines:
        sources.setdefault(line.source, []).append(line.label)
    if len(sources) == 1:
        return escape(next(iter(sources)))
    return "; ".join(escape(f"{', '.join(labels)}: {source}") for source, labels in sources.items())
