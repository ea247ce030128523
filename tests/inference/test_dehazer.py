"""Dehazer: all kinds of images."""

from __future__ import annotations

import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from tiny_dehazer import dehazer, network, photo, plain
from torch import Tensor, nn

import ktdn_plugin
from ktdn_plugin import KTDNError
from ktdn_plugin.inference import Dehazer
from ktdn_plugin.inference.frames import Frames
from ktdn_plugin.metrics import to_rgb8

TOLERANCE = 1e-5


def test_arrays_of_8_bit() -> None:
    result = dehazer()(photo())
    assert (result.dtype, result.shape) == (np.uint8, photo().shape)
    wanted = to_rgb8(plain(photo()))
    assert wanted.std() > 5
    # Where a value is next to a half, one more or less.
    assert np.abs(result.astype(int) - wanted).max() <= 1
    assert (result != wanted).mean() < 0.001


def test_arrays_of_16_bit_and_floating_point() -> None:
    wanted = plain(photo()).permute(1, 2, 0).numpy()
    deep = dehazer()(photo().astype(np.uint16) * 257)
    assert (deep.dtype, deep.shape) == (np.uint16, photo().shape)
    assert np.abs(deep / 65535 - wanted).max() < 1 / 65535 + TOLERANCE
    floating = dehazer()(photo().astype(np.float32) / 255)
    assert (floating.dtype, floating.shape) == (np.float32, photo().shape)
    assert np.abs(floating - wanted).max() < TOLERANCE


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float32, 1e-5), (torch.float64, 1e-5), (torch.float16, 0.01), (torch.bfloat16, 0.05)],
)
def test_tensors(dtype: torch.dtype, tolerance: float) -> None:
    x = (torch.from_numpy(photo().copy()).permute(2, 0, 1).double() / 255).to(dtype)
    before = x.clone()
    result = dehazer()(x)
    assert (result.dtype, result.shape) == (dtype, x.shape)
    assert result.device == x.device
    assert result.is_contiguous()
    assert (result.double() - plain(photo())).abs().max() < tolerance
    assert torch.equal(x, before)
    assert torch.equal(dehazer()(x[None])[0], result)


def test_batches_are_their_images() -> None:
    images = np.stack([photo(), photo()[::-1], photo()[:, ::-1]])
    results = dehazer()(images)
    assert (results.dtype, results.shape) == (np.uint8, images.shape)
    tensors = dehazer()(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255)
    for image, result, tensor in zip(images, results, tensors, strict=True):
        alone = dehazer()(image)
        assert np.abs(alone.astype(int) - result).max() <= 1
        assert (alone != result).mean() < 0.001
        assert np.abs(to_rgb8(tensor).astype(int) - alone).max() <= 1


def test_images_of_pillow() -> None:
    made = dehazer()(Image.fromarray(photo()).convert("RGBA"))
    assert made.mode == "RGB"
    assert (np.asarray(made) == dehazer()(photo())).all()


def test_lists_hold_anything(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    cv2.imwrite(str(path), photo()[..., ::-1])
    small = photo()[:20, :33]
    tensor = torch.rand(3, 17, 40)
    results = dehazer()([photo(), str(path), [tensor, small]])
    assert isinstance(results, list)
    assert np.array_equal(results[0], results[1])
    assert torch.equal(results[2][0], dehazer()(tensor))
    assert np.array_equal(results[2][1], dehazer()(small))
    assert dehazer()(()) == []


def test_no_image_at_all() -> None:
    assert dehazer()(np.zeros((0, 5, 6, 3), np.uint8)).shape == (0, 5, 6, 3)
    assert dehazer()(torch.zeros(0, 3, 5, 6)).shape == (0, 3, 5, 6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_paths(tmp_path: Path, dtype: type) -> None:
    image = photo() if dtype is np.uint8 else photo().astype(np.uint16) * 257
    path = tmp_path / "photo.png"
    cv2.imwrite(str(path), image[..., ::-1])
    for name in (path, str(path)):
        result = dehazer()(name)
        assert result.dtype == dtype
        assert np.array_equal(result, dehazer()(image))


def test_one_pixel() -> None:
    assert dehazer()(photo()[:1, :1]).shape == (1, 1, 3)


def test_results_can_be_trained_on_and_inputs_with_gradients_be_given() -> None:
    x = torch.rand(3, 40, 50, requires_grad=True)
    result = dehazer()(x)
    assert not result.requires_grad
    assert not result.is_inference()
    weight = torch.ones(3, 40, 50, requires_grad=True)
    (weight * result).sum().backward()
    assert torch.equal(weight.grad, result)
    assert x.grad is None
    result.add_(1)


def test_the_public_name() -> None:
    assert ktdn_plugin.Dehazer is Dehazer


def test_strength() -> None:
    image = photo()
    made = Dehazer(network(), device="cpu", strength=0)
    assert np.array_equal(made(image), image)
    made.strength = 0.5
    x = torch.from_numpy(image.copy()).permute(2, 0, 1) / 255
    with torch.no_grad():
        wanted = to_rgb8((x + network()(x[None])[0]) / 2)
    assert np.abs(made(image).astype(int) - wanted).max() <= 1
    for wrong in (-0.1, 2.1, float("nan"), True, "1", None):
        with pytest.raises(KTDNError, match=r"^strength: "):
            made.strength = wrong
    assert made.strength == 0.5


@pytest.mark.parametrize(
    "image", [None, 3, np.zeros((5, 5), np.uint8), torch.zeros(5, 5, 3), np.zeros((5, 5, 3))]
)
def test_not_an_image(image: object) -> None:
    with pytest.raises(KTDNError):
        dehazer()(image)
    with pytest.raises(KTDNError):
        dehazer()([photo(), image])


def test_runs_from_several_threads_wait_for_each_other() -> None:
    running, most = 0, 0
    count = threading.Lock()

    class Watched(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            nonlocal running, most
            with count:
                running += 1
                most = max(most, running)
            threading.Event().wait(0.02)
            with count:
                running -= 1
            return x

    ways = [Dehazer(Watched(), device="cpu") for _ in range(2)]
    threads = [threading.Thread(target=ways[number % 2], args=(photo(),)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_images_that_come_some_rows_at_a_time() -> None:
    frames = Frames(photo()[None], torch.device("cpu"))
    dehazer().run(frames)
    assert np.array_equal(frames.result[0], dehazer()(photo()))
