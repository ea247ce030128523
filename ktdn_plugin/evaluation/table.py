"""The table of a comparison: per image and mean, on screen, as CSV and as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from ktdn_plugin.errors import printable
from ktdn_plugin.metrics import UNNAMED_SPLIT, Measure
from ktdn_plugin.text_tables import markdown_lines, table_lines

MEAN = "mean"
NOTHING = "-"  # where there is no value


@dataclass
class Table:
    """Figures of several methods on the same images.

    Attributes:
        split: The split's name, empty where it has none.
        measures: What was measured, in order.
        methods: Each method's name, and what it is.
        images: The images' names.
    """

    split: str
    measures: Sequence[Measure]
    methods: dict[str, str]
    images: Sequence[str]
    _values: dict[tuple[str, str, str], float] = field(default_factory=dict)

    def add(self, image: str, method: str, measure: str, value: float) -> None:
        """Adds a figure."""
        self._values[image, method, measure] = value

    @property
    def is_empty(self) -> bool:
        """Whether there is no figure at all."""
        return not self._values

    def value(self, image: str, method: str, measure: str) -> float | None:
        """Returns a figure, where there is one."""
        return self._values.get((image, method, measure))

    def common(self, measure: str) -> list[str]:
        """Lists the images that a measure's means are over.

        Those that every method has a figure of, else the means would not compare; methods that
        have none at all do not count.
        """
        having = {
            method: {image for image in self.images if (image, method, measure) in self._values}
            for method in self.methods
        }
        some = [images for images in having.values() if images]
        return [image for image in self.images if some and all(image in each for each in some)]

    def mean(self, method: str, measure: str) -> float | None:
        """Returns a method's mean over the images that every method has."""
        values = [self.value(image, method, measure) for image in self.common(measure)]
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known and len(known) == len(values) else None

    def gaps(self) -> list[str]:
        """Returns a text that says which means are over fewer images than there are, and why."""
        counts = {measure.name: len(self.common(measure.name)) for measure in self.measures}
        return [
            f"{name}: means are over {count} of {len(self.images)} images, those that every "
            "method has"
            for name, count in counts.items()
            if count < len(self.images)
        ]

    def screen(self, per_image: bool) -> list[str]:
        """Formats the means, and each image's figures where they are wanted."""
        rows = [list(self._row(method, None)) for method in self.methods]
        head = ["method", *(measure.name for measure in self.measures)]
        lines = [f"{self.title()}; mean per method", *table_lines([head, *rows])]
        lower = [measure.name for measure in self.measures if measure.lower_is_better]
        if lower:
            lines.append(f"lower is better: {', '.join(lower)}")
        lines += self.gaps()
        if per_image:
            head = ["image", *head]
            single = [
                [image, *self._row(method, image)]
                for image in self.images
                for method in self.methods
            ]
            lines += ["", *table_lines([head, *single], "ll")]
        return lines

    def title(self) -> str:
        """Returns a text that says what the figures are of."""
        count = f"{len(self.images)} image{'s' * (len(self.images) != 1)}"
        return f"{f'split {self.split}' if self.split else UNNAMED_SPLIT}, {count}"

    def as_rows(self) -> Iterator[list[str]]:
        """Returns the cells of a CSV: a row for each image and method, and for each's mean."""
        names = [measure.name for measure in self.measures]
        yield ["split", "image", "method", *names]
        for image in (*self.images, MEAN):
            for method in self.methods:
                values = [
                    self.mean(method, name) if image is MEAN else self.value(image, method, name)
                    for name in names
                ]
                cells = ["" if value is None else f"{value:.6f}" for value in values]
                yield [self.split or UNNAMED_SPLIT, image, method, *cells]

    def as_markdown(self) -> str:
        """Returns both tables, the best of each column, and of each image, in bold."""
        head = ["method", *map(_heading, self.measures)]
        lines = [
            f"# Methods compared: {self.title()}",
            "",
            "Arrows show which way is better; the best is bold. No border is cropped.",
            "",
            *(f"- `{_cell(one.name)}`: {_cell(one.about)}" for one in self.measures if one.about),
            "",
            "## Mean",
            "",
            *markdown_lines([head, *self._marked(None)]),
        ]
        lines += [f"\n{gap}." for gap in self.gaps()]
        lines += ["", *(f"- {_cell(name)}: {_cell(about)}" for name, about in self.methods.items())]
        rows = [[_cell(image), *row] for image in self.images for row in self._marked(image)]
        lines += ["", "## Per image", "", *markdown_lines([["image", *head], *rows], "ll")]
        return "\n".join(lines) + "\n"

    def _row(self, method: str, image: str | None) -> Iterable[str]:
        yield method
        for measure in self.measures:
            yield self._text(image, method, measure)

    def _text(self, image: str | None, method: str, measure: Measure) -> str:
        value = self._figure(image, method, measure)
        return NOTHING if value is None else measure.text(value)

    def _figure(self, image: str | None, method: str, measure: Measure) -> float | None:
        if image is None:
            return self.mean(method, measure.name)
        return self.value(image, method, measure.name)

    def _marked(self, image: str | None) -> Iterable[list[str]]:
        """Returns each method's cells; the best of each column, as it is shown, in bold."""
        best = {}
        for measure in self.measures:
            known = [self._figure(image, method, measure) for method in self.methods]
            values = [value for value in known if value is not None and not math.isnan(value)]
            if values:
                choose = min if measure.lower_is_better else max
                best[measure.name] = measure.text(choose(values))
        for method in self.methods:
            cells = [_cell(method)]
            for measure in self.measures:
                text = self._text(image, method, measure)
                cells.append(f"**{text}**" if text == best.get(measure.name) else text)
            yield cells


def _heading(measure: Measure) -> str:
    return f"{measure.name} {'↓' if measure.lower_is_better else '↑'}"


def _cell(text: str) -> str:
    return printable(text).replace("|", r"\|")
