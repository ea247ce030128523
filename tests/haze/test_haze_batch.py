from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ktdn_plugin.haze.batch import synthesize_haze_batch
from ktdn_plugin.haze.scattering import synthesize_haze

DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    ),
]


def images(count: int = 3, height: int = 40, width: int = 56, **kwargs: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, 3, height, width, generator=generator).to(**kwargs)


def as_tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_each_image_gets_the_haze_of_its_seed(device: str, dtype: torch.dtype) -> None:
    clear = images(dtype=dtype, device=device)
    depth = 3 * images(dtype=torch.float32)[:, :1]
    batch = synthesize_haze_batch(clear, [5, 2**32 - 1, 5], depth=depth, octaves=4, veil=(0.1, 0.1))
    for tensor in batch:
        assert tensor.device == clear.device
        assert tensor.dtype == dtype
    for index, seed in enumerate((5, 2**32 - 1, 5)):
        single = synthesize_haze(
            clear[index].permute(1, 2, 0).float().cpu().numpy(),
            seed,
            depth=depth[index, 0].numpy(),
            octaves=4,
            veil=(0.1, 0.1),
        )
        assert torch.equal(
            batch.transmission[index, 0].cpu(), as_tensor(single.transmission).to(dtype)
        )
        assert torch.equal(
            batch.airlight[index, :, 0, 0].cpu(), as_tensor(single.airlight).to(dtype)
        )
        expected = as_tensor(single.hazy).permute(2, 0, 1)
        tolerance = {torch.float16: 5e-4, torch.bfloat16: 4e-3}.get(dtype, 3e-7)
        torch.testing.assert_close(
            batch.hazy[index].cpu().float(), expected, rtol=0, atol=tolerance
        )


def test_half_precision_is_rounded_once() -> None:
    clear = images(dtype=torch.bfloat16)
    seeds = [1, 2, 3]
    exact = synthesize_haze_batch(clear.double(), seeds).hazy
    hazy = synthesize_haze_batch(clear, seeds).hazy
    # All but the few that lie half-way between two numbers of this precision.
    assert (hazy == exact.to(torch.bfloat16)).float().mean() > 0.999


@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(1, 3),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    seed=st.integers(0, 2**32 - 3),
)
def test_any_size_works(count: int, height: int, width: int, seed: int) -> None:
    batch = synthesize_haze_batch(images(count, height, width), range(seed, seed + count))
    assert batch.hazy.shape == (count, 3, height, width)
    assert batch.transmission.shape == (count, 1, height, width)
    assert batch.airlight.shape == (count, 3, 1, 1)
    assert batch.hazy.min() >= 0
    assert batch.hazy.max() <= 1


def test_gradients_flow_to_the_image() -> None:
    clear = images(2, 3, 4, dtype=torch.float64).requires_grad_()
    depth = torch.ones(2, 1, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda image: synthesize_haze_batch(image, [1, 2], depth=depth).hazy, clear
    )
    batch = synthesize_haze_batch(clear, [1, 2], depth=depth)
    batch.hazy.sum().backward()
    assert torch.equal(clear.grad, batch.transmission.expand_as(clear))
    assert depth.grad is None
    assert not batch.transmission.requires_grad


@pytest.mark.parametrize(
    ("options", "error", "name"),
    [
        ({"clear": np.zeros((1, 3, 4, 4))}, TypeError, "clear"),
        ({"clear": torch.zeros(1, 3, 4, 4, dtype=torch.uint8)}, TypeError, "clear"),
        ({"clear": torch.zeros(3, 4, 4)}, ValueError, "clear"),
        ({"clear": torch.zeros(1, 1, 4, 4)}, ValueError, "clear"),
        ({"clear": torch.zeros(1, 3, 0, 4)}, ValueError, "clear"),
        ({"seeds": [1, 2]}, ValueError, "seeds"),
        ({"seeds": [-1]}, ValueError, "seed"),
        ({"veil": (1, 0)}, ValueError, "veil"),
        ({"depth": np.ones((1, 1, 4, 4))}, TypeError, "depth"),
        ({"depth": torch.ones(1, 1, 4, 4, dtype=torch.bool)}, TypeError, "depth"),
        ({"depth": torch.ones(1, 4, 4)}, ValueError, "depth"),
        ({"depth": -torch.ones(1, 1, 4, 4)}, ValueError, "depth"),
    ],
)
def test_unfit_arguments_are_refused_in_one_line(
    options: dict[str, Any], error: type[Exception], name: str
) -> None:
    arguments = {"clear": torch.zeros(1, 3, 4, 4), "seeds": [0], **options}
    with pytest.raises(error, match=rf"^{name} .*") as caught:
        synthesize_haze_batch(**arguments)
    assert "\n" not in str(caught.value)
