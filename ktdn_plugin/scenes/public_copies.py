"""Finding a public dataset's images in an unpacked copy, and what is wrong with the copy."""

from __future__ import annotations

import filecmp
from collections import Counter
from dataclasses import replace
from pathlib import Path

from ktdn_plugin.errors import KTDNError, did_you_mean
from ktdn_plugin.scenes.image_files import (
    file_image_size,
    headers_bar,
    list_images,
    name_within,
)
from ktdn_plugin.scenes.images import FileImages, centered
from ktdn_plugin.scenes.names import side_of_folder
from ktdn_plugin.scenes.problems import refuse
from ktdn_plugin.scenes.public_datasets import DATASETS, PublicDataset, Size
from ktdn_plugin.scenes.scene_set import SceneSet, pairs_array

Key = tuple[int, str]
"""A scene's number, and what tells its hazy images apart; '' is the clear one's."""


def list_public(
    root: Path,
    dataset: str,
    split: str | None,
    *,
    clear_only: bool,
    allow_incomplete: bool,
    check_files: bool,
) -> SceneSet:
    """Lists a split's images; the arguments are
    :func:`~ktdn_plugin.scenes.opening.open_scenes`'s.

    Images are searched at any depth, by their names; where a name does not tell hazy from clear,
    the folder's does. Missing ones are left out together with their partners, and so are those
    that cannot be read, are their partner's twin, or differ from it in size.

    Raises:
        KTDNError: If there is no such folder or split, or the copy is incomplete or altered.
    """
    known = DATASETS[dataset]
    split = _checked_split(dataset, known, split)
    copy = _Copy(root, known, clear_only)
    copy.choose(known.splits[split].numbers)
    if not any(copy.found.values()):
        numbers = known.splits[split].numbers or known.numbers or range(1, 2)
        names = " and ".join(
            name.format(id=numbers.start, variant="*") for name in known.names.values()
        )
        raise KTDNError(
            f"{root}: contains no image of {dataset}/{split} (such as {names}); {known.title} is "
            f"published at {known.page}"
        )
    copy.compare_with_published(known.splits[split].numbers)
    if check_files:
        copy.check_files()
    if not allow_incomplete:
        cure = f"download it again ({known.page})"
        where = f"'ktdn check-data {root} --dataset {dataset} --split {split}' lists them all"
        refuse(root, f"{dataset}/{split} is incomplete or altered", copy.problems, cure, where)
    scenes = copy.scenes(dataset, split)
    if not len(scenes.clear):
        raise KTDNError(
            f"{root}: nothing of {dataset}/{split} can be used: no hazy image has its clear one"
        )
    return scenes


def _checked_split(dataset: str, known: PublicDataset, split: str | None) -> str:
    if split is None:
        if known.default is not None:
            return known.default
        listed = "; ".join(f"{name} ({each.meaning})" for name, each in known.splits.items())
        raise KTDNError(f"{dataset} has several splits; choose one with --split: {listed}")
    if split not in known.splits:
        listed = ", ".join(known.splits)
        raise KTDNError(
            f"'{split}' is not a split of {dataset} ({listed}){did_you_mean(split, known.splits)}"
        )
    return split


class _Copy:
    """A copy of a dataset on disk.

    Attributes:
        found: The images of each side.
        problems: What is missing or altered, one line each.
    """

    def __init__(self, root: Path, known: PublicDataset, clear_only: bool) -> None:
        self.root = root
        self.known = known
        self.sides = ("clear",) if clear_only else ("hazy", "clear")
        self.problems: list[str] = []
        self.found: dict[str, dict[Key, Path]] = {side: {} for side in self.sides}
        for path in list_images(root):
            folders = {part.lower() for part in path.relative_to(root).parts[:-1]}
            if not folders & known.elsewhere:
                self._place(path)

    def _place(self, path: Path) -> None:
        recognized = self._recognize(path)
        if recognized is None:
            self._report(path, f"no image of {self.known.title}")
            return
        side, key = recognized
        if side not in self.sides:
            return
        numbers, variants = self.known.numbers, self.known.variants
        if (numbers is not None and key[0] not in numbers) or (
            side == "hazy" and variants is not None and key[1] not in variants
        ):
            self._report(path, f"more than {self.known.title} has")
            return
        first = self.found[side].setdefault(key, path)
        # Copies of one file do no harm: a dataset was unpacked twice, or sorted into splits.
        if first is not path and not _equal(first, path):
            self._report(path, f"another image than {name_within(first, self.root)}")

    def _recognize(self, path: Path) -> tuple[str, Key] | None:
        folders = reversed(path.relative_to(self.root).parts[:-1])
        by_folder = next(filter(None, map(side_of_folder, folders)), None)
        for side, pattern in self.known.patterns.items():
            match = pattern.fullmatch(path.stem)
            if match and by_folder in (None, side):
                return side, (int(match[1]), match[2])
        if by_folder is not None and self.known.plain is not None:
            match = self.known.plain.fullmatch(path.stem)
            if match:
                return by_folder, (int(match[1]), match[2])
        return None

    def _report(self, path: Path, what: str) -> None:
        self.problems.append(f"{name_within(path, self.root)}: {what}")

    def _published(self, side: str, key: Key) -> str:
        return self.known.names[side].format(id=key[0], variant=key[1])

    def choose(self, numbers: range | None) -> None:
        """Leaves out what is not of a split."""
        if numbers is not None:
            for side, paths in self.found.items():
                self.found[side] = {key: path for key, path in paths.items() if key[0] in numbers}

    def compare_with_published(self, numbers: range | None) -> None:
        """Looks for what is missing, and for other kinds of files."""
        known = self.known
        numbers = known.numbers if numbers is None else numbers
        if numbers is None:
            self._compare_counts()
        else:
            variants = {"hazy": known.variants or (), "clear": ("",)}
            for number in numbers:
                for side in self.sides:
                    for variant in variants[side]:
                        if (number, variant) not in self.found[side]:
                            name = self._published(side, (number, variant))
                            self.problems.append(f"{name} is missing")
        for side in self.sides:
            for key, path in self.found[side].items():
                suffix = path.suffix.lower().replace(".jpeg", ".jpg")
                if suffix != known.suffixes[side]:
                    self._report(path, f"in place of {self._published(side, key)}")

    def _compare_counts(self) -> None:
        """Compares with what is known of a dataset whose numbers are not."""
        for side in self.sides:
            wanted, count = self.known.counts[side], len(self.found[side])
            if count != wanted:
                self.problems.append(f"{count} {side} images instead of {wanted}")
        if "hazy" not in self.sides:
            return
        clear = {number for number, _ in self.found["clear"]}
        hazy = Counter(number for number, _ in self.found["hazy"])
        for number in sorted(hazy.keys() - clear):
            self.problems.append(f"{self._published('clear', (number, ''))} is missing")
        each = self.known.hazy_per_clear
        for number in sorted(clear):
            if not hazy[number] or (each is not None and hazy[number] != each):
                name = self._published("clear", (number, ""))
                expected = "" if each is None else f" instead of {each}"
                self.problems.append(f"{name} has {hazy[number]} hazy images{expected}")

    def check_files(self) -> None:
        """Looks into the files; those that are of no use are left out."""
        sizes: dict[Path, Size] = {}
        listed = [(side, *item) for side in self.sides for item in self.found[side].items()]
        for side, key, path in headers_bar(listed):
            try:
                size = sizes[path] = file_image_size(path)
            except KTDNError as error:
                self.problems.append(str(error).replace(str(path), name_within(path, self.root), 1))
                del self.found[side][key]
                continue
            allowed = self.known.sizes.get(side, (size,))
            if size not in allowed:
                height, width = allowed[0]
                self._report(path, f"{size[1]} x {size[0]} instead of {width} x {height}")
        for key, path in list(self.found.get("hazy", {}).items()):
            clear = self.found["clear"].get((key[0], ""))
            if clear is None:
                continue
            twin = _equal(path, clear)
            if twin:
                self._report(path, f"the same file as {name_within(clear, self.root)}")
            wanted = self._kept(sizes[clear])
            if sizes[path] != wanted and not self.known.sizes:  # or one of them is named above
                (height, width), other = sizes[path], name_within(clear, self.root)
                what = f"{width} x {height}, but {other} is {wanted[1]} x {wanted[0]}"
                self._report(path, what)
            if twin or sizes[path] != wanted:
                del self.found["hazy"][key]

    def _kept(self, clear: Size) -> Size:
        center = self.known.center
        return clear if center is None else centered(clear, center)[2:]

    def scenes(self, dataset: str, split: str) -> SceneSet:
        """Puts together what can be used."""
        center, root = self.known.center, self.root
        clear = self.found["clear"]
        scenes = SceneSet(
            root, FileImages([], center, root), None, None, dataset, split, self.problems
        )
        if "hazy" not in self.sides:
            paths = [clear[key] for key in sorted(clear)]
            names = [Path(self._published("clear", key)).stem for key in sorted(clear)]
            names = [name.removesuffix("_GT") for name in names]
            return replace(scenes, clear=FileImages(paths, center, root), names=names)
        hazy = {key: path for key, path in self.found["hazy"].items() if (key[0], "") in clear}
        order = sorted(hazy, key=lambda key: (key[0], len(key[1]), key[1]))
        numbers = sorted({number for number, _ in order})
        place = {number: index for index, number in enumerate(numbers)}
        return replace(
            scenes,
            clear=FileImages([clear[number, ""] for number in numbers], center, root),
            hazy=FileImages([hazy[key] for key in order], root=root),
            pairs=pairs_array((index, place[number]) for index, (number, _) in enumerate(order)),
            names=[self._pair_key(key) for key in order],
        )

    def _pair_key(self, key: Key) -> str:
        name = Path(self._published("hazy", key)).stem
        return name.removesuffix("_*").removesuffix("_hazy")


def _equal(one: Path, other: Path) -> bool:
    try:
        return filecmp.cmp(one, other, shallow=False)  # sizes first, content only if they agree
    except OSError as error:
        raise KTDNError(f"{error.filename}: {error.strerror or error}") from error
