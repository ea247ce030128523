"""The public dehazing datasets: what their files are called, how many there are, their splits.

File names, counts and sizes are the publications'. Splits are named here, so that figures on
different images are not taken for figures on the same ones; whose each is, it says itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

Size = tuple[int, int]
"""Height and width."""


@dataclass(frozen=True)
class Split:
    """A part of a dataset.

    Attributes:
        meaning: What it is, and whose.
        numbers: Numbers of its images; all of the dataset's by default.
    """

    meaning: str
    numbers: range | None = None


@dataclass(frozen=True)
class PublicDataset:
    """How a dataset is laid out when it is unpacked.

    Attributes:
        title: Its name in print.
        page: Where it is published.
        names: Names of the files of each side, for messages: ``{id}`` and ``{variant}`` filled in.
        patterns: What a file's name without suffix looks like; the first group is the scene's
            number, the second tells several hazy images of a scene apart.
        plain: The name where only the folder tells the side.
        suffixes: The suffix of the files of each side.
        counts: Images of each side.
        splits: Its splits by name.
        default: The split that is meant if none is given; absent where there are several.
        numbers: The scenes' numbers, where they are known without the files.
        variants: What tells the hazy images of a scene apart, where that is known.
        hazy_per_clear: Hazy images of each scene, where it is the same for all.
        sizes: Sizes that an image of a side may have, where all are alike.
        center: What is kept of a larger clear image, around its centre.
        elsewhere: Folders (lower case) that hold something else.
    """

    title: str
    page: str
    names: Mapping[str, str]
    patterns: Mapping[str, re.Pattern[str]]
    suffixes: Mapping[str, str]
    counts: Mapping[str, int]
    splits: Mapping[str, Split]
    default: str | None = None
    plain: re.Pattern[str] | None = None
    numbers: range | None = None
    variants: tuple[str, ...] | None = None
    hazy_per_clear: int | None = None
    sizes: Mapping[str, tuple[Size, ...]] = field(default_factory=dict)
    center: Size | None = None
    elsewhere: frozenset[str] = frozenset()


def _numbered(first: int, last: int, meaning: str) -> Split:
    return Split(f"{first:02}-{last:02}, {meaning}", range(first, last + 1))


def _challenge(
    title: str,
    page: str,
    count: int,
    suffix: str,
    splits: Mapping[str, Split],
    place: str = "",
    size: Size | None = None,
) -> PublicDataset:
    """Describes a dataset of an NTIRE challenge: numbered pairs ``NN_hazy`` and ``NN_GT``."""
    words = {"hazy": f"{place}_hazy", "clear": f"{place}_GT"}
    return PublicDataset(
        title,
        page,
        names={side: f"{{id:02}}{word}{suffix}" for side, word in words.items()},
        patterns={
            side: re.compile(rf"(\d+){word}()", re.IGNORECASE) for side, word in words.items()
        },
        plain=re.compile(r"(\d+)()"),
        suffixes={"hazy": suffix, "clear": suffix},
        counts={"hazy": count, "clear": count},
        splits=splits,
        numbers=range(1, count + 1),
        variants=("",),
        hazy_per_clear=1,
        sizes={} if size is None else {"hazy": (size,), "clear": (size,)},
    )


_CVL = "https://data.vision.ee.ethz.ch/cvl"
_RESIDE = "https://sites.google.com/view/reside-dehaze-datasets"
_NTIRE_SIZE = (1200, 1600)
# Hazy indoor images lack the border of the clear ones; FFA-Net and GridDehazeNet cut it off so.
_INDOOR = (460, 620)
_INDOOR_SIZES = {"hazy": (_INDOOR,), "clear": ((480, 640), _INDOOR)}
_CLEAR = re.compile(r"(\d+)()")
_INDEX = tuple(str(index) for index in range(1, 11))
_WEATHER = re.compile(r"(\d+)_([\d.]+_[\d.]+)")  # airlight and scattering coefficient
_NOT_IMAGES = {"trans", "transmission", "depth"}
_PARTS = {"its", "ots", "sots", "hsts", "rtts", "indoor", "outdoor"}  # where all lie together

DATASETS: Mapping[str, PublicDataset] = {
    "nh-haze": _challenge(
        "NH-HAZE",
        f"{_CVL}/ntire20/nh-haze/",
        55,
        ".png",
        {
            "challenge-train": _numbered(1, 45, "training images of the NTIRE 2020 challenge"),
            "challenge-val": _numbered(46, 50, "validation images of the NTIRE 2020 challenge"),
            "challenge-test": _numbered(51, 55, "test images of the NTIRE 2020 challenge"),
            "train-50": _numbered(1, 50, "training images of other papers"),
            "test-5": _numbered(51, 55, "test images of papers that train on train-50"),
            "all": _numbered(1, 55, "all images"),
        },
        size=_NTIRE_SIZE,
    ),
    "nh-haze2": _challenge(
        "NH-HAZE2 (NTIRE 2021)",
        f"{_CVL}/ntire21/",
        25,
        ".png",
        {
            "train": _numbered(1, 25, "all images published with ground truth"),
            "train-20": _numbered(1, 20, "training images of papers that test on test-5"),
            "test-5": _numbered(21, 25, "test images of papers that train on train-20"),
        },
        size=_NTIRE_SIZE,
    ),
    "o-haze": _challenge(
        "O-HAZE",
        f"{_CVL}/ntire18/o-haze/",
        45,
        ".jpg",
        {
            "train": _numbered(1, 35, "training images of the NTIRE 2018 challenge"),
            "val": _numbered(36, 40, "validation images of the NTIRE 2018 challenge"),
            "test": _numbered(41, 45, "test images of the NTIRE 2018 challenge"),
            "all": _numbered(1, 45, "all images"),
        },
        place="_outdoor",
    ),
    "i-haze": _challenge(
        "I-HAZE",
        f"{_CVL}/ntire18/i-haze/",
        35,
        ".jpg",
        {
            "train": _numbered(1, 25, "training images of the NTIRE 2018 challenge"),
            "val": _numbered(26, 30, "validation images of the NTIRE 2018 challenge"),
            "test": _numbered(31, 35, "test images of the NTIRE 2018 challenge"),
            "all": _numbered(1, 35, "all images"),
        },
        place="_indoor",
    ),
    "dense-haze": _challenge(
        "Dense-Haze",
        f"{_CVL}/ntire19/dense-haze/",
        55,
        ".png",
        {
            "train": _numbered(1, 45, "training images of the NTIRE 2019 challenge"),
            "val": _numbered(46, 50, "validation images of the NTIRE 2019 challenge"),
            "test": _numbered(51, 55, "test images of the NTIRE 2019 challenge"),
            "all": _numbered(1, 55, "all images"),
        },
        size=_NTIRE_SIZE,
    ),
    "reside-its": PublicDataset(
        "RESIDE ITS",
        _RESIDE,
        names={"hazy": "{id}_{variant}_*.png", "clear": "{id}.png"},
        patterns={"hazy": re.compile(r"(\d+)_(\d+)_[\d.]+"), "clear": _CLEAR},
        suffixes={"hazy": ".png", "clear": ".png"},
        counts={"hazy": 13990, "clear": 1399},
        splits={
            "all": Split("all images: RESIDE's indoor training set"),
            "train": Split("another name for all"),
        },
        default="all",
        numbers=range(1, 1400),
        variants=_INDEX,
        hazy_per_clear=10,
        sizes=_INDOOR_SIZES,
        center=_INDOOR,
        elsewhere=frozenset(_NOT_IMAGES | _PARTS - {"its", "indoor"}),
    ),
    "reside-ots": PublicDataset(
        "RESIDE OTS",
        _RESIDE,
        names={"hazy": "{id:04}_{variant}.jpg", "clear": "{id:04}.jpg"},
        patterns={"hazy": _WEATHER, "clear": _CLEAR},
        suffixes={"hazy": ".jpg", "clear": ".jpg"},
        counts={"hazy": 72135, "clear": 2061},
        splits={
            "all": Split("all images: RESIDE's outdoor training set"),
            "train": Split("another name for all"),
        },
        default="all",
        hazy_per_clear=35,
        elsewhere=frozenset(_NOT_IMAGES | _PARTS - {"ots", "outdoor"}),
    ),
    "sots-indoor": PublicDataset(
        "RESIDE SOTS indoor",
        _RESIDE,
        names={"hazy": "{id}_{variant}.png", "clear": "{id}.png"},
        patterns={"hazy": re.compile(r"(\d+)_(\d+)"), "clear": _CLEAR},
        suffixes={"hazy": ".png", "clear": ".png"},
        counts={"hazy": 500, "clear": 50},
        splits={"all": Split("all images: RESIDE's indoor test set")},
        default="all",
        numbers=range(1400, 1450),
        variants=_INDEX,
        hazy_per_clear=10,
        sizes=_INDOOR_SIZES,
        center=_INDOOR,
        elsewhere=frozenset(_NOT_IMAGES | _PARTS - {"sots", "indoor"}),
    ),
    "sots-outdoor": PublicDataset(
        "RESIDE SOTS outdoor",
        _RESIDE,
        names={"hazy": "{id:04}_{variant}.jpg", "clear": "{id:04}.png"},
        patterns={"hazy": _WEATHER, "clear": _CLEAR},
        suffixes={"hazy": ".jpg", "clear": ".png"},
        counts={"hazy": 500, "clear": 492},
        splits={"all": Split("all images: RESIDE's outdoor test set")},
        default="all",
        elsewhere=frozenset(_NOT_IMAGES | _PARTS - {"sots", "outdoor"}),
    ),
}
