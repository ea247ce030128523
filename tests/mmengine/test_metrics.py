"""Metrics through mmengine's Evaluator: BasicSR's figures, and words where there are none."""

from __future__ import annotations

import logging
import math

import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.structures import BaseDataElement
from torch import Tensor

import ktdn_plugin.registry  # noqa: F401  # names with a scope
from ktdn_plugin.basicsr import compat
from ktdn_plugin.errors import KTDNError

compat.apply()

from basicsr.metrics import calculate_psnr, calculate_ssim  # noqa: E402
from basicsr.utils import tensor2img  # noqa: E402


def evaluator_of(**options: object) -> Evaluator:
    names = ("PSNR", "SSIM")
    return Evaluator([{"type": f"ktdn_plugin.{name}", **options} for name in names])


def image(seed: int, height: int = 24, width: int = 31) -> Tensor:
    # Beyond [0, 1] as well, as a network's output is.
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(3, height, width, generator=generator) * 1.2 - 0.1


def sample(dehazed: Tensor, clear: Tensor, name: str = "x.png") -> BaseDataElement:
    return BaseDataElement(metainfo={"name": name}, dehazed=dehazed, clear=clear)


def measure(evaluator: Evaluator, samples: list[BaseDataElement]) -> dict[str, float]:
    for one in samples:
        evaluator.process(data_samples=[one])
    return evaluator.evaluate(len(samples))


@pytest.mark.parametrize("border", [0, 3])
def test_same_as_basicsr(border: int) -> None:
    sizes = [(24, 31), (40, 17), (33, 33)]
    pairs = [(image(n, *size), image(n + 10, *size)) for n, size in enumerate(sizes)]
    found = measure(evaluator_of(crop_border=border), [sample(*pair) for pair in pairs])
    for name, function in (("PSNR", calculate_psnr), ("SSIM", calculate_ssim)):
        values = [
            function(tensor2img(dehazed), tensor2img(clear), crop_border=border)
            for dehazed, clear in pairs
        ]
        assert found[name] == pytest.approx(sum(values) / len(values), abs=1e-9)


def test_equal_images() -> None:
    found = measure(evaluator_of(), [sample(image(0), image(0))])
    assert found == {"PSNR": math.inf, "SSIM": pytest.approx(1)}


def test_prefix() -> None:
    found = measure(evaluator_of(prefix="val"), [sample(image(0), image(1))])
    assert set(found) == {"val/PSNR", "val/SSIM"}


def caught_lines(name: str) -> list[str]:
    logger = MMLogger.get_instance(name)
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    return lines


@pytest.mark.parametrize(
    ("meta", "expected"),
    [({"split": "tiny-val"}, "split tiny-val"), ({}, "unnamed split"), (None, "unnamed split")],
)
def test_the_split_is_logged(meta: dict | None, expected: str) -> None:
    lines = caught_lines(f"metrics of {expected} {meta}")
    evaluator = evaluator_of()
    if meta is not None:
        evaluator.dataset_meta = meta
    measure(evaluator, [sample(image(n), image(n + 5)) for n in range(2)])
    assert [line for line in lines if " over " in line] == [
        f"{name} over 2 images, {expected}" for name in ("PSNR", "SSIM")
    ]


def test_missing_images_are_named() -> None:
    for missing in ("clear", "dehazed"):
        one = sample(image(0), image(1), "val/03.png")
        one.pop(missing)
        with pytest.raises(KTDNError, match=rf"^PSNR: val/03.png has no {missing} image"):
            evaluator_of().process(data_samples=[one])


def test_images_without_a_figure_are_named() -> None:
    lines = caught_lines("figures")
    small = sample(image(0, 10, 40), image(1, 10, 40), "val/03.png")
    other = sample(image(0, 10, 40), image(1, 10, 41), "val/04.png")
    good = sample(image(0), image(1), "val/05.png")
    found = measure(evaluator_of(), [small, other, good])
    alone = measure(evaluator_of(), [good])
    assert found["SSIM"] == alone["SSIM"]
    (psnr_line,) = (line for line in lines if line.startswith("PSNR: no value"))
    assert "PSNR: no value for 1 of 3 images, val/04.png (images of " in psnr_line
    (ssim_line,) = (line for line in lines if line.startswith("SSIM: no value"))
    assert "for 2 of 3 images, val/03.png and 1 more (an image of 40 x 10 pixels is" in ssim_line
    assert ssim_line.endswith("; the mean is over the others")
    assert measure(evaluator_of(), [other]) == {"PSNR": None, "SSIM": None}
    assert lines[-1].endswith("; there is no mean")


@pytest.mark.parametrize(
    "options", [{"crop_border": -1}, {"crop_border": "a"}, {"collect_device": "x"}, {"prefix": 3}]
)
def test_wrong_arguments(options: dict) -> None:
    key = next(iter(options))
    with pytest.raises(KTDNError, match=rf"^PSNR\.{key}: "):
        evaluator_of(**options)
