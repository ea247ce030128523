"""Duplicate pictures within a set or between sets, in words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ktdn_plugin.checking.duplicates import Group, find_duplicates
from ktdn_plugin.checking.findings import Finding, Picture, Row
from ktdn_plugin.checking.reading import SetFacts
from ktdn_plugin.scenes.scene_set import SceneSet

SHOWN = 4  # names in one line


def judge_copies(sets: Sequence[SceneSet], facts: Sequence[SetFacts]) -> list[Finding]:
    """Looks for clear images that are the same picture.

    Those of one set are a warning: there are sets with a copy of the clear image for each haze.
    Those of two sets are an error: what is measured on the one was learned from the other.

    Args:
        sets: The sets.
        facts: What was measured of each.
    """
    thumbnails = np.concatenate([each.thumbnails for each in facts])
    hashes = np.concatenate([each.hashes for each in facts])
    owners = np.concatenate([np.full(len(s), n) for n, s in enumerate(f.hashes for f in facts)])
    numbers = np.concatenate([np.arange(len(each.hashes)) for each in facts])
    usable = np.flatnonzero(thumbnails.any(axis=(1, 2)))
    groups = find_duplicates(hashes[usable, 0], hashes[usable, 1], thumbnails[usable])
    places = [(int(owners[n]), int(numbers[n])) for n in usable]
    findings = [_finding(sets, _pictures(group, places)) for group in groups]
    return sorted(findings, key=lambda finding: finding.severity)  # errors first; else as they were


def _pictures(group: Group, places: Sequence[tuple[int, int]]) -> list[Picture]:
    return [
        Picture(*(places[n][0], "clear", places[n][1]), mirrored=mirrored) for n, mirrored in group
    ]


def _finding(sets: Sequence[SceneSet], pictures: Sequence[Picture]) -> Finding:
    first, *others = pictures
    # One of another set before others of the first's: the line names both.
    others.sort(key=lambda picture: picture.owner == first.owner)
    names = [
        sets[p.owner].clear.describe(p.number) + (" (mirrored)" if p.mirrored else "")
        for p in (first, *others)
    ]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    listed = ", ".join(names[:SHOWN]) + more
    between = others[0].owner != first.owner
    what = (
        "the same picture in different sets; remove it from all but one"
        if between
        else "the same picture more than once in one set; fine if each has different haze"
    )
    verdict = "duplicate between sets" if between else "duplicate in one set"
    row = Row(first, others[0], verdict, badness=1.0 if between else 0.0)
    return Finding("duplicate", "error" if between else "warning", f"{listed}: {what}", row)
