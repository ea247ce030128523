"""What is wrong with the pairs of a set, in words."""

from __future__ import annotations

import math

from ktdn_plugin.checking.findings import Finding, Picture, Row
from ktdn_plugin.checking.likeness import (
    CONTRAST,
    NO_HAZE,
    SAME,
    PairFacts,
    Verdict,
    judge_doubtful,
)
from ktdn_plugin.checking.reading import SetFacts
from ktdn_plugin.checking.sets import name_of
from ktdn_plugin.scenes.scene_set import SceneSet

ENOUGH_PAIRS = 2  # before a whole set counts as swapped


def judge_pairs(scenes: SceneSet, facts: SetFacts, owner: int) -> list[Finding]:
    """Returns what is wrong with a set's pairs.

    Args:
        scenes: The set.
        facts: What was measured of it.
        owner: Its number, for pictures.
    """
    doubtful = [pair for pair in facts.pairs if pair.is_in_doubt]
    verdicts = judge_doubtful(doubtful, facts.thumbnails)
    by_pair = {
        (pair.hazy, pair.clear): verdict for pair, verdict in zip(doubtful, verdicts, strict=True)
    }
    findings: list[Finding] = []
    good: list[PairFacts] = []
    for pair in facts.pairs:
        found = _judge(scenes, pair, by_pair.get((pair.hazy, pair.clear)), owner)
        findings += found
        if not found and pair.match is not None:
            good.append(pair)
    return findings + _exchanged(scenes, good, owner)


def _judge(scenes: SceneSet, pair: PairFacts, verdict: Verdict | None, owner: int) -> list[Finding]:
    both = _names(scenes, pair)
    findings = []
    (height, width), (clear_height, clear_width) = pair.sizes
    if pair.sizes[0] != pair.sizes[1]:
        text = (
            f"{both}: differ in size, {width} x {height} and {clear_width} x {clear_height}; "
            "resize one, or remove the pair"
        )
        findings.append(Finding("size", "error", text, _row(pair, owner, "of different size")))
    match = pair.match
    if match is None:
        return findings
    figure = f"their edges match with {match.here:.1f}, those of one scene with {SAME:.0f} or more"
    if pair.is_shifted:
        x, y = round(match.shift[0] * width), round(match.shift[1] * height)
        text = (
            f"{both}: misaligned, the hazy one shifted by ({x:+}, {y:+}) pixels; align "
            "them, or remove the pair"
        )
        row = _row(pair, owner, f"shifted by ({x:+}, {y:+})", badness=100.0)
        findings.append(Finding("shifted", "error", text, row))
    elif pair.turn is not None:
        text = f"{both}: one of the two is {pair.turn}; turn it back, or remove the pair"
        findings.append(Finding("turned", "error", text, _row(pair, owner, pair.turn, 150.0)))
    elif verdict is not None and not verdict.is_same:
        text = f"{both}: not the same scene ({figure})"
        words = f"not the same scene: {match.here:.1f}"
        if verdict.better is None:
            text += "; look at them, and find the right partner or remove the pair"
            row = _row(pair, owner, words, 200.0 - match.here)
        else:
            better = scenes.clear.describe(verdict.better)
            text += f"; the hazy one seems to belong to {better}: rename it, or remove the pair"
            row = _row(pair, owner, f"match {match.here:.1f}", 200.0 - match.here, verdict.better)
        findings.append(Finding("scene", "error", text, row))
    elif pair.psnr is not None and pair.psnr > NO_HAZE:
        same = (
            "the same picture" if pair.psnr == math.inf else f"nearly identical, {pair.psnr:.0f} dB"
        )
        text = f"{both}: {same}, without any haze; remove the pair"
        findings.append(Finding("no-haze", "error", text, _row(pair, owner, same, 50.0)))
    return findings


def _exchanged(scenes: SceneSet, good: list[PairFacts], owner: int) -> list[Finding]:
    """Finds hazy images that are clearer than the clear ones, among pairs that match."""
    clearer = [pair for pair in good if pair.contrast > CONTRAST]
    if len(clearer) > len(good) / 2 and len(good) >= ENOUGH_PAIRS:
        text = (
            f"{name_of(scenes)}: hazy and clear folders look swapped: the hazy image has more "
            f"contrast in {len(clearer)} of {len(good)} pairs; rename the folders"
        )
        return [Finding("swapped", "error", text, _row(clearer[0], owner, "exchanged?", 120.0))]
    return [
        Finding(
            "swapped",
            "error",
            f"{_names(scenes, pair)}: the hazy one has {pair.contrast:.2f} times the contrast "
            "of the clear one; are the two swapped?",
            _row(pair, owner, f"swapped? contrast x {pair.contrast:.2f}", 80.0),
        )
        for pair in clearer
    ]


def _names(scenes: SceneSet, pair: PairFacts) -> str:
    hazy = scenes.side("hazy").describe(pair.hazy)
    return f"{hazy} and {scenes.clear.describe(pair.clear)}"


def _row(
    pair: PairFacts, owner: int, verdict: str, badness: float = 0.0, better: int | None = None
) -> Row:
    return Row(
        Picture(owner, "hazy", pair.hazy),
        Picture(owner, "clear", pair.clear),
        verdict,
        None if better is None else Picture(owner, "clear", better),
        badness,
    )
