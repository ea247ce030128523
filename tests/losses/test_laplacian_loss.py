"""LaplacianLoss against a slow reference, its own definitions, and numbers known by hand."""

from __future__ import annotations

import re
from math import comb

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ktdn_plugin.losses import LaplacianLoss, laplacian_pyramid

Size = tuple[int, int, int, int]


def mirrored(i: int, n: int) -> int:
    i = abs(i)
    return 2 * (n - 1) - i if i >= n else i


def reduce_matrix(n: int, k: int) -> np.ndarray:
    """REDUCE of Burt & Adelson, eq. 1: ``g(i) = sum_m w(m) g(2i + m)``."""
    matrix = np.zeros(((n + 1) // 2, n))
    for i in range(len(matrix)):
        for m in range(k):
            matrix[i, mirrored(2 * i + m - k // 2, n)] += comb(k - 1, m) / 2 ** (k - 1)
    return matrix


def expand_matrix(n: int, k: int) -> np.ndarray:
    """EXPAND of Burt & Adelson, eq. 2: ``g(i) = 2 sum_m w(m) g((i - m) / 2)``, whole indices."""
    matrix = np.zeros((n, (n + 1) // 2))
    for i in range(n):
        for m in range(k):
            source = mirrored(i - m + k // 2, n)
            if source % 2 == 0:
                matrix[i, source // 2] += 2 * comb(k - 1, m) / 2 ** (k - 1)
    return matrix


def expand(x: np.ndarray, h: int, w: int, k: int) -> np.ndarray:
    expanded: np.ndarray = expand_matrix(h, k) @ x @ expand_matrix(w, k).T
    return expanded


def reference_pyramid(x: np.ndarray, levels: int, k: int = 5) -> list[np.ndarray]:
    pyramid = []
    for _ in range(levels):
        h, w = x.shape[-2:]
        coarse = reduce_matrix(h, k) @ x @ reduce_matrix(w, k).T
        pyramid.append(x - expand(coarse, h, w, k))
        x = coarse
    return [*pyramid, x]


def images(*size: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(size, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@st.composite
def fitting(draw: st.DrawFn) -> tuple[Size, int, int]:
    levels, k = draw(st.integers(1, 4)), draw(st.sampled_from([3, 5, 7]))
    side = st.integers(k // 2 * 2 ** (levels - 1) + 1, 40)
    size = (draw(st.integers(1, 2)), draw(st.integers(1, 5)), draw(side), draw(side))
    return size, levels, k


@settings(max_examples=40, deadline=None)
@given(fitting())
def test_pyramid_is_the_reference_and_sums_up_to_the_image(case: tuple[Size, int, int]) -> None:
    size, levels, k = case
    x = images(*size)
    pyramid = laplacian_pyramid(x, levels, k)
    assert len(pyramid) == levels + 1
    for level, reference in zip(pyramid, reference_pyramid(x.numpy(), levels, k), strict=True):
        np.testing.assert_allclose(level.numpy(), reference, atol=1e-12)
    rebuilt = pyramid[-1].numpy()
    for level in reversed(pyramid[:-1]):
        rebuilt = level.numpy() + expand(rebuilt, level.shape[-2], level.shape[-1], k)
    np.testing.assert_allclose(rebuilt, x.numpy(), atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(fitting())
def test_none_averages_to_mean_at_any_size(case: tuple[Size, int, int]) -> None:
    size, levels, k = case
    pred, target = images(*size), images(*size, seed=1)
    for weighting in ("pixels", "levels"):
        mean, none = (
            LaplacianLoss(0.3, r, levels, k, weighting)(pred, target) for r in ("mean", "none")
        )
        assert none.shape == size[:2]
        assert mean > 0
        torch.testing.assert_close(none.mean(), mean)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.sampled_from([3, 5, 7]), st.data())
def test_smaller_sizes_say_what_would_fit(levels: int, k: int, data: st.DataObject) -> None:
    smallest = k // 2 * 2 ** (levels - 1) + 1
    short = data.draw(st.integers(1, smallest - 1))
    loss = LaplacianLoss(levels=levels, kernel_size=k)
    with pytest.raises(ValueError, match="Laplacian pyramid") as error:
        loss(torch.rand(1, 1, short, smallest), torch.rand(1, 1, short, smallest))
    message = str(error.value)
    assert "\n" not in message
    assert f"levels={levels} " in message
    assert f"at least {smallest} x {smallest}, got {short} x {smallest}" in message
    if "too small for even one level" in message:
        assert short <= k // 2
        return
    most = int(message.rpartition("levels=")[2])
    laplacian_pyramid(torch.rand(1, 1, short, smallest), most, k)
    with pytest.raises(ValueError, match=f"levels={most + 1} "):
        laplacian_pyramid(torch.rand(1, 1, short, smallest), most + 1, k)


def test_each_pixel_of_the_default_sees_its_own_sample_and_channel() -> None:
    pred, target = images(3, 4, 33, 35), images(3, 4, 33, 35)
    pred[1, 2, 7, 9] += 0.5
    values = LaplacianLoss(reduction="none")(pred, target)
    assert values.nonzero().tolist() == [[1, 2]]


@pytest.mark.parametrize(("weighting", "expected"), [("pixels", 0.2 / 4**3), ("levels", 0.2)])
def test_a_constant_difference_is_in_the_remainder_alone(weighting: str, expected: float) -> None:
    target = images(2, 3, 19, 22)
    loss = LaplacianLoss(levels=3, level_weighting=weighting)
    assert loss(target + 0.2, target).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("weighting", ["pixels", "levels"])
def test_weightings_and_reductions_are_their_formulas(weighting: str) -> None:
    pred, target = images(2, 3, 37, 50), images(2, 3, 37, 50, seed=1)
    pyramid = reference_pyramid((pred - target).numpy(), levels=4)
    pixels = weighting == "pixels"
    mean = sum((4.0**-j if pixels else 1) * abs(x).mean() for j, x in enumerate(pyramid))
    total = sum((1 if pixels else 4.0**j) * abs(x).sum() for j, x in enumerate(pyramid))
    for reduction, expected in (("mean", mean), ("sum", total)):
        loss = LaplacianLoss(0.7, reduction, levels=4, level_weighting=weighting)
        assert loss(pred, target).item() == pytest.approx(0.7 * expected, rel=1e-10)


@pytest.mark.parametrize("weighting", ["pixels", "levels"])
def test_sum_is_mean_times_elements_where_every_level_halves(weighting: str) -> None:
    pred, target = images(2, 3, 32, 48), images(2, 3, 32, 48, seed=1)
    mean, total = (
        LaplacianLoss(1.0, r, levels=4, level_weighting=weighting)(pred, target)
        for r in ("mean", "sum")
    )
    torch.testing.assert_close(mean * pred.numel(), total)


def test_default_is_pixels_and_weighs_fine_detail_more_than_levels_does() -> None:
    target = torch.zeros(1, 1, 64, 64)
    fine = torch.ones(64, 64)
    fine[::2, 1::2] = fine[1::2, ::2] = -1
    coarse = torch.ones(64, 64)
    by_default = LaplacianLoss()
    by_level = LaplacianLoss(level_weighting="levels")

    def share(loss: LaplacianLoss) -> Tensor:
        values: Tensor = loss(fine[None, None], target) / loss(coarse[None, None], target)
        return values

    assert by_default.level_weighting == "pixels"
    assert share(by_default) > 100 * share(by_level)


@pytest.mark.parametrize("weighting", ["pixels", "levels"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_gradient_is_right(reduction: str, weighting: str) -> None:
    pred, target = images(1, 2, 9, 6, seed=2).requires_grad_(), images(1, 2, 9, 6, seed=3)
    nearest_kink = min(x.abs().min() for x in laplacian_pyramid(pred - target, levels=2))
    assert nearest_kink > 1e-4
    loss = LaplacianLoss(0.5, reduction, levels=2, level_weighting=weighting)
    assert torch.autograd.gradcheck(loss, (pred, target.requires_grad_()))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_zero_only_at_equality(reduction: str) -> None:
    loss = LaplacianLoss(reduction=reduction)
    x = images(1, 1, 40, 33)
    assert loss(x, x.clone()).abs().max() == 0
    changed = x.clone()
    changed[0, 0, 0, 0] += 1e-3
    assert loss(changed, x).min() > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_input_is_compared_in_float32(dtype: torch.dtype) -> None:
    pred, target = (images(2, 3, 48, 40, seed=s).to(dtype) for s in (0, 1))
    value = LaplacianLoss()(pred, target)
    assert value.dtype == torch.float32
    exact = LaplacianLoss()(pred.double(), target.double())
    assert exact.dtype == torch.float64
    assert value.item() == pytest.approx(exact.item(), rel=1e-6)


def test_sums_beyond_float16_stay_finite() -> None:
    ones = torch.ones(1, 3, 256, 256, dtype=torch.float16)
    value = LaplacianLoss(reduction="sum", level_weighting="levels")(ones, -ones)
    assert value.item() == pytest.approx(2 * ones.numel(), rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_changes_nothing(dtype: torch.dtype) -> None:
    target = images(1, 3, 40, 40, dtype=torch.float32).to(dtype)
    pred = images(1, 3, 40, 40, seed=1, dtype=torch.float32).to(dtype).requires_grad_()
    plain = LaplacianLoss()(pred, target)
    with torch.autocast("cpu", torch.bfloat16):
        cast = LaplacianLoss()(pred, target)
        assert (target @ target).dtype == torch.bfloat16
    assert cast.dtype == torch.float32
    assert torch.equal(cast, plain)
    (gradient,) = torch.autograd.grad(cast, pred)
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0


def test_adds_nothing_to_a_checkpoint() -> None:
    assert not LaplacianLoss().state_dict()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"reduction": "avg"}, "reduction='avg' is not one of mean, sum, none"),
        ({"reduction": "man"}, "did you mean 'mean'?"),
        ({"level_weighting": "pixel"}, "did you mean 'pixels'?"),
        ({"levels": 0}, "levels=0"),
        ({"levels": 2.0}, "levels=2.0"),
        ({"kernel_size": 4}, "kernel_size=4"),
        ({"kernel_size": 1}, "kernel_size=1"),
        # Would take all memory and time, for the size that an image must have.
        ({"levels": 10**11}, "levels=100000000000 must be a whole number from 1 to 24"),
        ({"kernel_size": 10**9 + 1}, "kernel_size=1000000001 must be an odd whole number"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        LaplacianLoss(**arguments)  # type: ignore[arg-type]


def test_unknown_arguments_are_not_swallowed() -> None:
    with pytest.raises(TypeError, match="level"):
        LaplacianLoss(level=3)  # type: ignore[call-arg]


@pytest.mark.parametrize("other", [(1, 3, 40, 40), (2, 1, 40, 40), (2, 3, 40, 1), (3, 40, 40)])
def test_shapes_do_not_broadcast(other: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="same shape"):
        LaplacianLoss()(torch.rand(2, 3, 40, 40), torch.rand(other))


def test_only_batches_of_images() -> None:
    x = torch.rand(3, 40, 40)
    with pytest.raises(ValueError, match=r"\(n, c, h, w\)"):
        LaplacianLoss()(x, x)
