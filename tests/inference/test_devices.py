"""Names of devices and precisions: what there is, and what is said of what there is not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from ktdn_plugin import KTDNError
from ktdn_plugin.inference.devices import computing, find_device, find_precision

CPU = torch.device("cpu")
CUDA = torch.device("cuda")


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of Nvidia's GPUs, as torch would tell of them."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def test_auto_takes_a_gpu_where_there_is_one(gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_device("auto") == CUDA
    assert find_device("auto", ("cpu", "mps")) == CPU
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert find_device("auto", ("cpu", "mps")) == torch.device("mps")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert find_device("auto") == torch.device("mps")


def test_auto_is_the_cpu_elsewhere(no_gpu: None) -> None:
    assert find_device("auto") == CPU


def test_names_and_devices(gpus: None) -> None:
    for name in ("cpu", "cpu:0", "cuda", "cuda:1", torch.device("cuda:1")):
        assert find_device(name) == torch.device(name)


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps"])
def test_missing_parts_are_not_replaced(no_gpu: None, name: str) -> None:
    kind = name.split(":")[0]
    with pytest.raises(
        KTDNError,
        match=rf"no device '{name}' here \(of {kind}, torch can use 0\); use cpu or auto",
    ):
        find_device(name)


def test_a_number_too_high(gpus: None) -> None:
    with pytest.raises(KTDNError, match=r"no device 'cuda:2' here \(of cuda, torch can use 2\)"):
        find_device("cuda:2")
    with pytest.raises(KTDNError, match=r"no device 'cpu:1' here \(of cpu, torch can use 1\)"):
        find_device("cpu:1")


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "xpu", "meta", "CPU", None])
def test_invalid_device(name: object) -> None:
    with pytest.raises(KTDNError, match=f"device '{name}' is not one of auto, cpu, cuda, mps"):
        find_device(name)
    with pytest.raises(KTDNError, match="did you mean 'cuda'"):
        find_device("cudda")
    with pytest.raises(KTDNError, match="did you mean 'cuda'"):
        find_device("gpu")


@pytest.mark.parametrize(
    ("name", "meant"), [("fp32", "float32"), ("half", "fp16"), ("bfloat16", "bf16")]
)
def test_precisions_by_other_programs_names(name: str, meant: str) -> None:
    with pytest.raises(KTDNError, match=f"'{name}' is not one of .*did you mean '{meant}'"):
        find_precision(name, CPU)


def test_precisions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert find_precision("float32", CPU) == torch.float32
    assert find_precision("bf16", CPU) == torch.bfloat16
    assert find_precision("tf32", CUDA) == torch.float32
    assert find_precision("fp16", CUDA) == torch.float16
    assert find_precision("bf16", CUDA) == torch.bfloat16
    assert find_precision("fp16", torch.device("mps")) == torch.float16


def test_precisions_that_a_device_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KTDNError, match="fp16 is for GPUs; on a CPU use bf16 or float32"):
        find_precision("fp16", CPU)
    with pytest.raises(KTDNError, match="tf32: cpu does not support it; use float32"):
        find_precision("tf32", CPU)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    with pytest.raises(KTDNError, match="tf32: cuda does not support it"):
        find_precision("tf32", CUDA)
    with pytest.raises(KTDNError, match="bf16: cuda is too old for it; use fp16"):
        find_precision("bf16", CUDA)
    with pytest.raises(KTDNError, match="'bf32' is not one of float32, tf32, bf16, fp16; did you"):
        find_precision("bf32", CPU)


@pytest.fixture
def settings() -> Iterator[None]:
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


def test_only_tf32_rounds_products_and_what_was_set_comes_back(settings: None) -> None:
    for given in ("highest", "high"):
        torch.set_float32_matmul_precision(given)
        torch.backends.cudnn.allow_tf32 = True
        for precision, wanted in (("float32", "highest"), ("tf32", "high"), ("bf16", "highest")):
            with computing(precision):
                assert torch.is_inference_mode_enabled()
                assert torch.backends.cudnn.allow_tf32 is (precision == "tf32")
                assert torch.get_float32_matmul_precision() == wanted
            with pytest.raises(KeyError), computing(precision):
                raise KeyError
            assert torch.get_float32_matmul_precision() == given
            assert torch.backends.cudnn.allow_tf32
            assert not torch.is_inference_mode_enabled()
