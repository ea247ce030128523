"""The documents of a checkout: every link within them leads to a file, and to a heading of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("", ".github", "options", "ktdn_plugin")
DOCUMENTS = sorted(
    {
        path
        for folder in FOLDERS
        for path in (ROOT / folder).glob("**/*.md" if folder == "ktdn_plugin" else "*.md")
    }
)


def anchors(text: str) -> set[str]:
    """Names the headings as GitHub does."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"(?ms)^```.*?^```", "", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).strip().replace(" ", "-") for line in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = path.parent / file if file else path
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), link


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 250


def test_slow_tests_are_there() -> None:
    for line in (ROOT / "tests" / "slow_tests.txt").read_text(encoding="utf-8").split():
        path, name = line.split("::")
        assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), line
