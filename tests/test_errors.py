"""Suggestions in place of a wrong name, and other programs' errors on one line."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ktdn_plugin.errors import describe_error, did_you_mean, first_line


@pytest.mark.parametrize(
    ("name", "known", "meant"),
    [
        ("strict_load", ("strict_load_g", "strict_load_t"), "strict_load_g"),
        ("strict_load", ("strict_load_t", "strict_load_g"), "strict_load_t"),
        ("adamw", ("Adam", "AdamW", "NAdam"), "AdamW"),
        ("gpu", ("cpu", "cuda"), "cuda"),
        (3, ("c3", "d4"), "c3"),
        ("name", ("model", "train"), None),
        ("name", (), None),
        ("", (), None),
        ("", ("name",), None),
    ],
)
def test_the_name_that_is_meant(name: object, known: Sequence[str], meant: str | None) -> None:
    assert did_you_mean(name, known) == (f"; did you mean '{meant}'?" if meant else "")


@pytest.mark.parametrize(
    ("error", "first", "described"),
    [
        (ValueError("too large\nby far"), "too large", "ValueError: too large"),
        (RuntimeError("\n  \n  no memory "), "no memory", "RuntimeError: no memory"),
        (AssertionError(), "AssertionError", "AssertionError"),
        (TypeError("x" * 400), "x" * 400, "TypeError: " + "x" * 300),
    ],
)
def test_an_error_on_one_line(error: Exception, first: str, described: str) -> None:
    assert (first_line(error), describe_error(error)) == (first, described)
