"""``ktdn check-data``: what is wrong with a dataset, before a training run is spent on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import cv2
from tqdm import tqdm

from ktdn_plugin.checking.copies import judge_copies
from ktdn_plugin.checking.findings import KINDS, Finding
from ktdn_plugin.checking.output import check_is_none_of, check_output
from ktdn_plugin.checking.pairs import judge_pairs
from ktdn_plugin.checking.reading import SetFacts, measure_set
from ktdn_plugin.checking.sets import judge_set, name_of, open_sets
from ktdn_plugin.checking.sheet import choose_rows, write_sheet
from ktdn_plugin.checking.stores import describe_store
from ktdn_plugin.console import print_lines
from ktdn_plugin.scenes.scene_set import SceneSet


def check_data(
    paths: Sequence[Path],
    dataset: str | None = None,
    splits: Sequence[str] = (),
    output: Path = Path("check.png"),
    workers: int | None = None,
) -> list[Finding]:
    """Checks sets of images, prints what is wrong, and draws what is worth a look.

    Args:
        paths: Stores and folders, see :func:`ktdn_plugin.checking.sets.open_sets`.
        dataset: How folders are laid out; as ``folders`` if none is given.
        splits: Which parts of the dataset.
        output: Picture to write, where there is something to look at; replaces an existing one.
        workers: Scenes to measure at a time; by default one per processor, up to eight.

    Returns:
        What was found, in the order in which it was printed.

    Raises:
        KTDNError: If a path is not a set of images, or the picture cannot be written.
    """
    # Before anything is read: what is known only after an hour comes late.
    check_output(output)
    sets = open_sets(paths, dataset, splits)
    for scenes in sets:
        check_is_none_of(output, [*scenes.files("hazy"), *scenes.files("clear")])
    facts = _measure(sets, workers)
    findings: list[Finding] = []
    for owner, (scenes, measured) in enumerate(zip(sets, facts, strict=True)):
        own = [
            *judge_set(scenes),
            *measured.findings,
            *judge_pairs(scenes, measured, owner),
        ]
        _print(own)
        findings += own
        print_lines(_summary(scenes, measured, own))
        if scenes.store is not None:
            print_lines(describe_store(scenes.store))
    copies = judge_copies(sets, facts)
    _print(copies)
    findings += copies
    print_lines(_duplicates_summary(sets, copies))
    _draw(output, findings, sets)
    count = Counter(finding.severity for finding in findings)
    print_lines(f"{_of(count['error'], 'error')}, {_of(count['warning'], 'warning')}.")
    return findings


def _measure(sets: Sequence[SceneSet], workers: int | None) -> list[SetFacts]:
    total = sum(len(each.clear) + (0 if each.hazy is None else len(each.hazy)) for each in sets)
    facts = []
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)  # the images are what is worked on at the same time
    try:
        with tqdm(total=total, unit="image", disable=None, leave=False) as bar:
            for scenes in sets:
                for step in measure_set(scenes, workers):
                    if isinstance(step, SetFacts):
                        facts.append(step)
                    else:
                        bar.update(step)
    finally:
        cv2.setNumThreads(before)
    return facts


def _print(findings: Sequence[Finding]) -> None:
    print_lines(*findings)


def _summary(scenes: SceneSet, facts: SetFacts, findings: Sequence[Finding]) -> str:
    clear, pairs = len(scenes.clear), len(() if scenes.pairs is None else scenes.pairs)
    if scenes.hazy is None:
        what = f"{_of(clear, 'clear image')} without hazy ones; read, values checked"
    else:
        compared = sum(pair.match is not None for pair in facts.pairs)
        what = (
            f"{len(scenes.hazy)} hazy and {_of(clear, 'clear image')}, {_of(pairs, 'pair')}; "
            f"all read, values checked, scenes of {_of(compared, 'pair')} compared"
        )
    if scenes.store is not None:
        what += ", checksums and fingerprint compared"
    return f"{name_of(scenes)}: {what}: {_kinds(findings)}"


def _kinds(findings: Sequence[Finding]) -> str:
    count = Counter(finding.kind for finding in findings)
    found = [f"{count[kind]} {meaning}" for kind, meaning in KINDS.items() if count[kind]]
    return ", ".join(found) or "no problems"


def _duplicates_summary(sets: Sequence[SceneSet], copies: Sequence[Finding]) -> str:
    between = sum(finding.severity == "error" for finding in copies)
    within = f"{len(copies) - between} within sets"
    compared = f"{between} between sets, " if len(sets) > 1 else ""
    images = sum(len(each.clear) for each in sets)
    return f"Duplicates among {_of(images, 'clear image')}: {compared}{within}"


def _draw(output: Path, findings: Sequence[Finding], sets: Sequence[SceneSet]) -> None:
    rows, total = choose_rows(findings)
    if not rows:
        older = f"; {output} is from an earlier check" if output.exists() else ""
        print_lines(f"No picture: nothing to show{older}")
        return
    write_sheet(output, rows, sets)
    left_out = f" ({len(rows)} of {total}, the worst)" if total > len(rows) else ""
    print_lines(f"Picture: {output}{left_out}")


def _of(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"
