"""Images on their way in and out: padding, types, rounding."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from ktdn_plugin import KTDNError
from ktdn_plugin.archs.ktdn_arch import pad_to_multiple
from ktdn_plugin.inference.frames import Frames, padding
from ktdn_plugin.inference.images import LARGEST, check_images
from ktdn_plugin.metrics import to_rgb8

CPU = torch.device("cpu")
SIZES = st.integers(1, 70)
KINDS = ("uint8", "uint16", "float32", "tensor")


def make(kind: str, n: int, height: int, width: int) -> np.ndarray | Tensor:
    stream = np.random.RandomState(height + width)
    if kind == "tensor":
        return torch.from_numpy(stream.random_sample((n, 3, height, width)).astype(np.float32))
    values = stream.random_sample((n, height, width, 3)) * LARGEST[kind]
    return (values if kind == "float32" else np.rint(values)).astype(kind)


def as_network_sees(images: np.ndarray | Tensor) -> Tensor:
    if isinstance(images, Tensor):
        return images
    values = images.astype(np.float32) / np.float32(LARGEST[images.dtype.name])
    return torch.from_numpy(values).permute(0, 3, 1, 2)


def test_padding_is_the_networks() -> None:
    for size in range(1, 71):
        axis = torch.arange(float(size)).view(1, 1, 1, size).expand(1, 1, size, size)
        wanted = pad_to_multiple(axis.contiguous())[0, 0, 0]
        assert padding(size).tolist() == wanted.tolist(), size


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_those_of_the_padded_image(kind: str) -> None:
    @settings(max_examples=40, deadline=None)
    @given(SIZES, SIZES, st.integers(1, 2), st.integers(1, 40))
    @example(1, 1, 1, 16)
    @example(16, 16, 2, 8)
    @example(32, 48, 1, 32)
    @example(33, 64, 2, 32)
    def rows(height: int, width: int, n: int, step: int) -> None:
        images = make(kind, n, height, width)
        before = images.clone() if isinstance(images, Tensor) else images.copy()
        frames = Frames(images, CPU)
        wanted = pad_to_multiple(as_network_sees(images))
        assert frames.size == tuple(wanted.shape[2:])
        assert (frames.height, frames.width) == (height, width)
        pieces = [
            frames.read(top, min(top + step, frames.size[0]))
            for top in range(0, frames.size[0], step)
        ]
        assert {piece.dtype for piece in pieces} == {torch.float32}
        assert torch.equal(torch.cat(pieces, dim=2), wanted)
        assert bool((images == before).all())

    rows()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_read_comes_back_as_it_was(kind: str) -> None:
    # All values that there are of 8 and of 16 bit.
    height, width = (256, 256) if kind == "uint16" else (37, 50)
    images = make(kind, 2, height, width)
    if kind == "uint16":
        images[0, :, :, 0] = np.arange(65536).reshape(256, 256)
    if kind == "uint8":
        images[1].reshape(-1)[:256] = np.arange(256)
    frames = Frames(images, CPU)
    for top in range(0, frames.size[0], 16):
        frames.write(top, top + 16, frames.read(top, top + 16).clone())
    assert type(frames.result) is type(images)
    assert frames.result.dtype == images.dtype
    assert frames.result.shape == images.shape
    assert bool((frames.result == images).all())


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_clamped(kind: str) -> None:
    frames = Frames(make(kind, 1, 32, 32), CPU)
    values = torch.full((1, 3, 32, 32), 0.5)
    values[:, 0], values[:, 1] = -0.3, 1.7
    frames.write(0, 32, values)
    got = as_network_sees(frames.result)
    assert got[0, :2].flatten(1).unique(dim=1).flatten().tolist() == [0, 1]
    torch.testing.assert_close(got[0, 2], torch.full((32, 32), 0.5), rtol=0, atol=1 / 255)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("strength", [0.0, 0.7, 1.0, 2.0])
def test_strength_scales_the_change_before_values_are_clamped(kind: str, strength: float) -> None:
    images = make(kind, 1, 40, 50)  # padded to 48 x 64
    frames = Frames(images, CPU, strength)
    hazy = as_network_sees(images)
    change = torch.linspace(-1.5, 1.5, 48 * 64).view(1, 1, 48, 64)
    for top in (0, 16, 32):
        rows = slice(top, top + 16)
        frames.write(top, top + 16, frames.read(top, top + 16) + change[:, :, rows])
    expected = (hazy + strength * change[:, :, :40, :50]).clamp(0, 1)
    step = {"uint8": 255, "uint16": 65535}.get(kind, 1e6)
    torch.testing.assert_close(as_network_sees(frames.result), expected, rtol=0, atol=0.51 / step)


def test_rounding_is_that_of_a_saved_picture() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(3, 64, 64, generator=generator) * 1.2 - 0.1
    values[0].view(-1)[:256] = (torch.arange(256) + 0.5) / 255  # halves
    frames = Frames(np.zeros((1, 64, 64, 3), np.uint8), CPU)
    frames.write(0, 64, values[None].clone())
    assert np.array_equal(frames.result[0], to_rgb8(values))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_tensors_keep_their_format(dtype: torch.dtype) -> None:
    images = make("tensor", 1, 40, 40).to(dtype)
    frames = Frames(images, CPU)
    assert frames.read(0, 48).dtype == torch.float32
    frames.write(0, 48, frames.read(0, 48).clone())
    assert frames.result.dtype == dtype
    torch.testing.assert_close(frames.result, images)


def test_arrays_of_every_layout_are_read_in_silence() -> None:
    image = make("uint16", 1, 40, 50)
    wanted = Frames(image, CPU).read(0, 48)
    read_only = image.copy()
    read_only.flags.writeable = False
    other = {
        "read-only, as of Pillow": read_only,
        "other byte order": image.astype(image.dtype.newbyteorder()),
        "turned twice": image[:, ::-1, ::-1].copy()[:, ::-1, ::-1],
        "of channels first": np.moveaxis(np.moveaxis(image, 3, 1).copy(), 1, 3),
        "a window": np.pad(image, ((0, 0), (3, 3), (4, 4), (0, 0)))[:, 3:-3, 4:-4],
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, array in other.items():
            unpadded = Frames(array[:, :32, :32], CPU).read(0, 32)
            assert torch.equal(unpadded, wanted[:, :, :32, :32]), name
            frames = Frames(array, CPU)
            assert torch.equal(frames.read(0, 48), wanted), name
            frames.write(0, 48, frames.read(0, 48).clone())
            assert np.array_equal(frames.result, image), name


def test_rows_below_the_image_are_not_written() -> None:
    frames = Frames(np.full((1, 20, 20, 3), 7, np.uint8), CPU)
    frames.result[:] = 9
    frames.write(20, 32, torch.ones(1, 3, 12, 32))
    assert (frames.result == 9).all()
    frames.write(16, 32, torch.ones(1, 3, 16, 32))
    assert (frames.result[:, 16:] == 255).all()
    assert (frames.result[:, :16] == 9).all()


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((4, 4), np.uint8), r"an array is \(h, w, 3\) or .* RGB; got \(4, 4\)"),
        (np.zeros((4, 4, 4), np.uint8), r"got \(4, 4, 4\)"),
        (np.zeros((3, 4, 5), np.uint8), r"got \(3, 4, 5\)"),
        (np.zeros((1, 1, 4, 4, 3), np.uint8), r"got \(1, 1, 4, 4, 3\)"),
        (np.zeros((0, 4, 3), np.uint8), r"got \(0, 4, 3\)"),
        (np.zeros((4, 4, 3), np.float64), "of uint8, uint16 or float32; got float64"),
        (np.zeros((4, 4, 3), np.int32), "got int32"),
        (np.zeros((4, 4, 3), bool), "got bool"),
        (torch.zeros(4, 4, 3), r"a tensor is \(3, h, w\) or .* got \(4, 4, 3\)"),
        (torch.zeros(3, 4, 0), r"got \(3, 4, 0\)"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), r"of floating point; got torch.uint8"),
        (np.full((4, 4, 3), 255, np.float32), r"is in \[0, 1\]; this one has values from 255 to"),
        (torch.full((3, 4, 4), -128.0), "values from -128 to -128"),
        (torch.full((3, 4, 4), float("nan")), "values from nan to nan"),
        ([1, 2], "a path, an array or a tensor, not a list"),
        (None, "not a NoneType"),
    ],
)
def test_not_an_image(images: object, message: str) -> None:
    with pytest.raises(KTDNError, match=message) as raised:
        check_images(images)
    assert "\n" not in str(raised.value)


def test_a_little_beyond_the_range_is_an_image() -> None:
    check_images(torch.tensor([-0.2, 1.0, 1.3]).view(3, 1, 1))
    check_images(torch.zeros(0, 3, 4, 4))
    check_images(np.zeros((0, 4, 4, 3), np.float32))
