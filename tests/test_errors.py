"""Suggestions in place of a wrong name."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ktdn_plugin.errors import did_you_mean


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
