"""Dehazer: all kinds of images, and networks of all kinds."""

from __future__ import annotations

import copy
import functools
import threading
import weakref
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
import torch
from golden_rule import draw_weights
from torch import Tensor, nn

import ktdn_plugin
from ktdn_plugin import KTDN, KTDNError
from ktdn_plugin.inference import Dehazer
from ktdn_plugin.inference.frames import Frames
from ktdn_plugin.metrics import psnr, to_rgb8

TOLERANCE = 1e-5
HEIGHT, WIDTH = 75, 110
GB = 10**9


@functools.cache
def network() -> KTDN:
    result = KTDN("test_resnet").eval()
    draw_weights(result, ("bn2.weight",))
    return result


@functools.cache
def dehazer() -> Dehazer:
    return Dehazer(network(), device="cpu")


@functools.cache
def photo() -> np.ndarray:
    image = skimage.data.astronaut()[100 : 100 + HEIGHT, 50 : 50 + WIDTH]
    image = image.copy()
    image.flags.writeable = False
    return image


def plain(image: np.ndarray) -> Tensor:
    """The network's image in [0, 1], without anything of ours."""
    with torch.no_grad():
        x = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None]
        return network()(x / (255 if image.dtype == np.uint8 else 65535))[0].clamp(0, 1)


def save(folder: Path, encoder: str = "test_resnet") -> Path:
    path = folder / "net.pth"
    torch.save({"params": KTDN(encoder).state_dict()}, path)
    return path


# --- kinds of images ---


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


def test_inside_inference_mode(tmp_path: Path) -> None:
    with torch.inference_mode():
        inside = Dehazer(save(tmp_path), device="cpu", max_memory="100GB")
        other = Dehazer(network(), device="cpu")
        assert inside.needs(HEIGHT, WIDTH)
        assert other(torch.rand(3, 40, 50)).shape == (3, 40, 50)
        result = inside(photo())
    assert np.array_equal(result, inside(photo()))


def test_the_public_name() -> None:
    assert ktdn_plugin.Dehazer is Dehazer


# --- networks ---


def test_checkpoints_by_their_path(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save({"params": network().state_dict()}, path)
    for name in (path, str(path)):
        assert np.array_equal(Dehazer(name, device="cpu")(photo()), dehazer()(photo()))


def test_an_encoder_that_does_not_fit(tmp_path: Path) -> None:
    path = save(tmp_path)
    with pytest.raises(KTDNError, match=r"net\.pth") as raised:
        Dehazer(path, device="cpu", encoder="resnet18")
    assert "\n" not in str(raised.value)
    with pytest.raises(KTDNError, match="did you mean 'test_resnet'"):
        Dehazer(path, device="cpu", encoder="test_resnett")


def test_files_that_are_no_network(tmp_path: Path) -> None:
    with pytest.raises(KTDNError, match=r"none\.pth"):
        Dehazer(tmp_path / "none.pth", device="cpu")
    (tmp_path / "text.pth").write_text("no network")
    with pytest.raises(KTDNError, match=r"text\.pth"):
        Dehazer(tmp_path / "text.pth", device="cpu")


def test_weights_that_are_no_numbers(tmp_path: Path) -> None:
    broken = copy.deepcopy(network())
    broken.fam8.conv1.bias.data[3] = float("nan")
    path = tmp_path / "net.pth"
    torch.save({"params": broken.state_dict()}, path)
    with pytest.raises(KTDNError, match=r"^\S*net\.pth: 'fam8\.conv1\.bias' holds values that are"):
        Dehazer(path, device="cpu")
    with pytest.raises(KTDNError, match=r"^'fam8\.conv1\.bias' holds values"):
        Dehazer(broken, device="cpu")


def test_weights_that_overflow_on_the_way() -> None:
    broken = copy.deepcopy(network())
    for convolution in (broken.fam16.conv1, broken.fam16.conv2):
        convolution.weight.data.mul_(1e30)
    with pytest.raises(KTDNError, match="image is not finite in precision float32") as raised:
        Dehazer(broken, device="cpu")(photo())
    assert "\n" not in str(raised.value)


def test_the_callers_network_stays_as_it_is() -> None:
    training = copy.deepcopy(network()).train()
    state = copy.deepcopy(training.state_dict())
    result = Dehazer(training, device="cpu", precision="bf16")(photo())
    assert np.array_equal(result, Dehazer(network(), device="cpu", precision="bf16")(photo()))
    assert all(module.training for module in training.modules())
    assert all(parameter.requires_grad for parameter in training.parameters())
    for key, value in training.state_dict().items():
        assert torch.equal(value, state[key]), key
    # And the other way round: training goes on, the dehazer keeps what it was given.
    training.tail[1].weight.data.zero_()
    assert dehazer()(photo()).std() > 5


def test_bf16_is_close() -> None:
    close = Dehazer(network(), device="cpu", precision="bf16")(photo())
    assert 35 < psnr(close, dehazer()(photo())) < 80


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "gpu"}, "device 'gpu' is not one of auto, cpu, cuda, mps"),
        ({"precision": "fp32"}, "precision 'fp32' is not one of float32, tf32, bf16, fp16; did"),
        ({"precision": "fp16"}, "precision fp16 is for GPUs"),
        ({"max_memory": "much"}, "max memory: 'much' is no size of memory; write it as 4GB"),
        ({"max_memory": 0}, "max memory: '0' is nothing"),
        ({"tile": 64, "tile_overlap": 32}, "do not go together"),
        ({"encoder": "resnet18"}, "encoder: goes with a checkpoint's path"),
        ({"tile": 512}, "tile: KTDN needs none; max_memory bounds it, exactly"),
    ],
)
def test_wrong_options(options: dict, message: str) -> None:
    with pytest.raises(KTDNError, match=message) as raised:
        Dehazer(network(), **{"device": "cpu", **options})
    assert "\n" not in str(raised.value)


def test_options_are_looked_at_before_a_file_is_read(tmp_path: Path) -> None:
    with pytest.raises(KTDNError, match="max memory"):
        Dehazer(tmp_path / "none.pth", device="cpu", max_memory="4XB")


@pytest.mark.parametrize(
    "image", [None, 3, np.zeros((5, 5), np.uint8), torch.zeros(5, 5, 3), np.zeros((5, 5, 3))]
)
def test_what_is_no_image(image: object) -> None:
    with pytest.raises(KTDNError):
        dehazer()(image)
    with pytest.raises(KTDNError):
        dehazer()([photo(), image])


# --- other networks ---


class Other(nn.Module):
    """A network that looks at its neighbours, and notes in which mode it ran."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.register_buffer("ran", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        assert not self.training
        assert x.dtype == self.conv.weight.dtype
        return self.conv(x).sigmoid()


@torch.no_grad()
def test_another_network_whole_and_in_one_tile() -> None:
    torch.manual_seed(0)
    other = Other()
    x = torch.from_numpy(photo().copy()).permute(2, 0, 1)[None].float() / 255
    wanted = to_rgb8(copy.deepcopy(other).eval()(x)[0])
    state = copy.deepcopy(other.state_dict())
    for options in ({}, {"tile": 110}, {"tile": 4096, "tile_overlap": 100}):
        result = Dehazer(other, device="cpu", **options)(photo())
        assert np.abs(result.astype(int) - wanted).max() <= 1
        assert (result != wanted).mean() < 0.001
    close = Dehazer(other, device="cpu", precision="bf16")(photo())
    assert psnr(close, wanted) > 35
    assert other.training
    assert other.conv.weight.dtype == torch.float32
    assert other.conv.weight.requires_grad
    assert all(torch.equal(value, state[key]) for key, value in other.state_dict().items())


def test_tiles_of_another_network_show_no_seams() -> None:
    same = Dehazer(nn.Identity(), device="cpu", tile=40, tile_overlap=12)
    assert np.array_equal(same(photo()), photo())
    assert np.array_equal(same(np.stack([photo(), photo()]))[1], photo())


def test_what_is_ktdns_alone() -> None:
    with pytest.raises(KTDNError, match="max_memory: only for KTDN; give other networks a tile"):
        Dehazer(Other(), device="cpu", max_memory="4GB")
    other = Dehazer(Other(), device="cpu")
    with pytest.raises(KTDNError, match="max_memory: only for KTDN"):
        other.max_memory = GB
    assert other.max_memory is None
    with pytest.raises(KTDNError, match="what another network than KTDN needs is not known"):
        other.needs(10, 10)


def test_another_network_that_makes_something_else() -> None:
    with pytest.raises(KTDNError, match=r"makes \(1, 3, 37, 55\) of \(1, 3, 75, 110\)"):
        Dehazer(nn.AvgPool2d(2), device="cpu")(photo())
    broken = nn.Conv2d(3, 3, 1)
    nn.init.constant_(broken.weight, float("nan"))
    with pytest.raises(KTDNError, match="the network's image is not finite"):
        Dehazer(broken, device="cpu")(photo())


def test_wrapped_networks_are_ktdn_too() -> None:
    wrapped = Dehazer(nn.DataParallel(network()), device="cpu", max_memory="100GB")
    assert (wrapped(photo()) == dehazer()(photo())).all()


# --- memory ---


def test_a_limit_may_be_set_and_lifted() -> None:
    one = Dehazer(network(), device="cpu", max_memory="100GB")
    assert one.max_memory == 100 * GB
    wanted = one(photo())
    one.max_memory = 1000
    with pytest.raises(KTDNError, match=r"110 x 75 pixels do not fit into max memory 1MB in"):
        one(photo())
    with pytest.raises(KTDNError, match="no size"):
        one.max_memory = "much"
    assert one.max_memory == 1000
    one.max_memory = None
    assert one.max_memory is None
    assert np.array_equal(one(photo()), wanted)


def test_a_batch_that_does_not_fit_runs_image_by_image(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Dehazer(network(), device="cpu")
    images = np.stack([photo()] * 6)
    wanted = one(images)
    sizes = []
    run = one._planner.engine.run

    def noted(image, size, emit, heights):
        sizes.append(len(image(0, 16)))
        run(image, size, emit, heights)

    monkeypatch.setattr(one._planner.engine, "run", noted)
    single, six = (one._planner.plan(n, (80, 112), 0).peak for n in (1, 6))
    assert single < six
    monkeypatch.setattr(one._memory, "free", lambda: (single + six) // 2)
    results = one(images)
    assert sizes == [1] * 6
    assert np.abs(results.astype(int) - wanted).max() <= 1
    tensors = one(torch.rand(2, 3, 40, 40))
    assert tensors.shape == (2, 3, 40, 40)


def test_too_little_free_memory_is_said_without_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Dehazer(network(), device="cpu", precision="bf16")
    monkeypatch.setattr(one._memory, "free", lambda: 3 * 10**6)
    with pytest.raises(
        KTDNError,
        match=r"^110 x 75 pixels do not fit into the 3MB that may be taken on cpu in precision "
        r"bf16; \d\dMB would do$",
    ):
        one(photo())


def test_needs() -> None:
    fast, least = dehazer().needs(1200, 1600)
    assert 0 < least < fast < 10 * GB
    assert dehazer().needs(1, 1)[1] < least
    with pytest.raises(KTDNError, match="there is no image of 5 x 0 pixels"):
        dehazer().needs(0, 5)


ERRORS = {
    "CUDA": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has"),
    "CPU": RuntimeError(
        "[enforce fail at alloc_cpu.cpp:121] data. DefaultCPUAllocator: can't allocate memory: "
        "you tried to allocate 80 bytes. Error code 12 (Cannot allocate memory)"
    ),
    "Windows": RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8"),
    "MPS": RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
    "numpy": MemoryError("Unable to allocate 3.00 GiB for an array"),
}


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_out_of_memory_names_size_device_and_a_limit(error: Exception) -> None:
    one = Dehazer(network(), device="cpu")
    held, alive = one._memory.held(), []

    def runs_out(*_: object) -> None:
        left = torch.ones(2**28, dtype=torch.uint8)
        alive.append(weakref.ref(left))
        raise error

    run, one._planner.engine.run = one._planner.engine.run, runs_out
    with pytest.raises(
        KTDNError,
        match=r"^out of memory: 110 x 75 pixels on cpu in precision float32; give --max-memory "
        r"([\d.]+[MG]B) \(max_memory=\), the least that does, if so much is free$",
    ) as raised:
        one(photo())
    assert raised.value.__cause__ is error
    one._planner.engine.run = run
    words = str(raised.value).split()
    one.max_memory = words[words.index("--max-memory") + 1]
    # What the failed run had taken is not counted, nor kept while its error is looked at.
    assert one.max_memory < held + 2**27
    assert alive[0]() is None
    assert one(photo()).shape == photo().shape


def test_another_network_that_runs_out_of_memory() -> None:
    class Greedy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(KTDNError, match=r"out of memory: 110 x 75 pixels on cpu .* give a tile's"):
        Dehazer(Greedy(), device="cpu")(photo())


def test_other_errors_are_not_taken_for_it() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        Dehazer(Broken(), device="cpu")(photo())


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
