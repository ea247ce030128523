"""Near hashes: all that comparing each with each would find, and no other."""

from __future__ import annotations

import random
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ktdn_plugin.checking import near_hashes
from ktdn_plugin.checking.near_hashes import MOST_NEAR, RADIUS, count_bits, find_near


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=20))
def test_bits_are_counted_with_and_without_numpy_2(values: list[int]) -> None:
    wanted = [value.bit_count() for value in values]
    array = np.array(values, dtype=np.uint64)
    assert count_bits(array).tolist() == wanted
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(np, "bitwise_count", raising=False)
        assert count_bits(array).tolist() == wanted


def altered(draw: random.Random, value: int) -> int:
    """Changes up to three bits more than are near, often just as many in each band."""
    bits = range(63) if draw.random() < 0.5 else range(draw.choice((16, 32, 48)), 63)
    for place in draw.sample(bits, min(draw.randint(0, RADIUS + 3), len(bits))):
        value ^= 1 << place
    return value


def near_by_definition(hashes: list[int], others: list[int]) -> list[list[int]]:
    return [
        [i, j]
        for i, j in combinations(range(len(hashes)), 2)
        if (hashes[i] ^ others[j]).bit_count() <= RADIUS
    ]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 90))
def test_banded_hashes_lose_no_pair(seed: int, count: int) -> None:
    draw = random.Random(seed)
    hashes = [draw.getrandbits(63) for _ in range(count)]
    others = [altered(draw, draw.choice(hashes)) for _ in hashes]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(near_hashes, "FEW", 0)
        patch.setattr(near_hashes, "_compare_all", None)  # it is the bands that are tested
        patch.setattr(near_hashes, "_count_joined", lambda *_: 0)
        patch.setattr(near_hashes, "JOINED", draw.choice((1, 50, 2**21)))
        patch.setattr(near_hashes, "KEPT", draw.choice((1, 2**23)))
        banded = find_near(*(np.array(one, np.uint64) for one in (hashes, others)))
    wanted = near_by_definition(hashes, others)
    assert banded.tolist() == wanted
    assert find_near(*(np.array(one, np.uint64) for one in (hashes, others))).tolist() == wanted


@pytest.mark.parametrize("few", [0, 10**6])
def test_a_crowd_is_bounded(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_hashes, "FEW", few)
    draw = random.Random(0)
    hashes = [12345 ^ 1 << draw.randrange(63) for _ in range(300)]
    array = np.array(hashes, np.uint64)
    wanted: dict[int, list[int]] = {}
    for i, j in near_by_definition(hashes, hashes):
        wanted.setdefault(i, []).append(j)
    found = find_near(array, array)
    assert found.tolist() == [[i, j] for i in wanted for j in wanted[i][:MOST_NEAR]]
