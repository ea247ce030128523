"""KnowledgeTransferLoss: what is compared, where gradients go, and what it says of misfits."""

from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ktdn_plugin.losses import KnowledgeTransferLoss

CRITERIA = {"l1": F.l1_loss, "mse": F.mse_loss, "smooth_l1": F.smooth_l1_loss}


def feature(*size: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def pair(*size: int) -> tuple[Tensor, Tensor]:
    return feature(*size), feature(*size, seed=1)


def test_default_is_the_paper_s_l1_on_mid() -> None:
    student, teacher = pair(2, 4, 3, 5)
    loss = KnowledgeTransferLoss()
    assert loss.feature_names == ("mid",)
    value = loss({"mid": student, "other": student}, {"mid": teacher})
    torch.testing.assert_close(value, (student - teacher).abs().mean())


@pytest.mark.parametrize("criterion", list(CRITERIA))
def test_weights_and_criteria(criterion: str) -> None:
    a, b = pair(2, 4, 3, 5), pair(2, 6, 2, 2)
    loss = KnowledgeTransferLoss(0.5, features={"b": 3.0, "a": 0.25}, criterion=criterion)
    assert loss.feature_names == ("b", "a")
    value = loss({"a": a[0], "b": b[0]}, {"a": a[1], "b": b[1]})
    function = CRITERIA[criterion]
    torch.testing.assert_close(value, 0.5 * (3 * function(*b) + 0.25 * function(*a)))


def test_one_name_or_a_list_of_names() -> None:
    a, b = pair(1, 2, 3, 3), pair(1, 1, 2, 2)
    one = KnowledgeTransferLoss(features="stage2")
    assert one.feature_names == ("stage2",)
    several = KnowledgeTransferLoss(features=["b", "a"])
    assert several.feature_names == ("b", "a")
    value = several({"a": a[0], "b": b[0]}, {"a": a[1], "b": b[1]})
    torch.testing.assert_close(value, F.l1_loss(*a) + F.l1_loss(*b))


@settings(max_examples=30, deadline=None)
@given(st.tuples(*[st.integers(1, 4)] * 4), st.sampled_from(list(CRITERIA)), st.floats(0.125, 8))
def test_reductions_belong_together(
    size: tuple[int, int, int, int], criterion: str, weight: float
) -> None:
    a, b = pair(*size), pair(size[0], 2, 3, 1)
    mean, total, none = (
        KnowledgeTransferLoss(2.0, r, {"a": weight, "b": 1.0}, criterion)(
            {"a": a[0], "b": b[0]}, {"a": a[1], "b": b[1]}
        )
        for r in ("mean", "sum", "none")
    )
    assert none.shape == size[:1]
    torch.testing.assert_close(none.mean(), mean)
    function = CRITERIA[criterion]
    expected = 2 * (weight * function(*a, reduction="sum") + function(*b, reduction="sum"))
    torch.testing.assert_close(total, expected)


def test_none_keeps_samples_apart() -> None:
    student, teacher = feature(3, 2, 2, 2), feature(3, 2, 2, 2)
    student[1] += 0.5
    values = KnowledgeTransferLoss(reduction="none")({"mid": student}, {"mid": teacher})
    torch.testing.assert_close(values, torch.tensor([0.0, 0.5, 0.0], dtype=torch.float64))


@pytest.mark.parametrize("criterion", list(CRITERIA))
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_gradient_is_right(reduction: str, criterion: str) -> None:
    student, teacher = pair(2, 3, 2, 2)
    distance = (student - teacher).abs()
    assert min(distance.min(), (distance - 1).abs().min()) > 1e-4
    loss = KnowledgeTransferLoss(0.7, reduction, criterion=criterion)
    assert torch.autograd.gradcheck(
        lambda x: loss({"mid": x}, {"mid": teacher}), student.requires_grad_()
    )


@pytest.mark.parametrize("criterion", list(CRITERIA))
def test_zero_only_at_equality(criterion: str) -> None:
    x = feature(1, 2, 3, 3)
    loss = KnowledgeTransferLoss(criterion=criterion)
    assert loss({"mid": x}, {"mid": x.clone()}) == 0
    changed = x.clone()
    changed[0, 0, 0, 0] += 1e-3
    assert loss({"mid": changed}, {"mid": x}) > 0


def test_no_gradient_reaches_the_teacher() -> None:
    student, teacher = (nn.Conv2d(3, 4, 1).double() for _ in range(2))
    x = feature(2, 3, 4, 4)
    KnowledgeTransferLoss()({"mid": student(x)}, {"mid": teacher(x)}).backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in student.parameters())


@pytest.mark.parametrize("criterion", list(CRITERIA))
def test_teacher_may_run_in_inference_mode(criterion: str) -> None:
    student, teacher = pair(1, 2, 3, 3)
    with torch.inference_mode():
        made = teacher * 1
    loss = KnowledgeTransferLoss(criterion=criterion)
    loss({"mid": student.requires_grad_()}, {"mid": made}).backward()
    assert student.grad is not None


def test_adapters_are_trained_and_compared_after() -> None:
    loss = KnowledgeTransferLoss(
        features=["mid", "stage1"], criterion="mse", adapters={"mid": (2, 5)}
    ).double()
    student = {"mid": feature(2, 2, 4, 4).requires_grad_(), "stage1": feature(2, 3, 8, 8)}
    teacher = {"mid": feature(2, 5, 4, 4, seed=1), "stage1": feature(2, 3, 8, 8, seed=1)}
    parameters = dict(loss.named_parameters())
    assert parameters["adapters.mid.weight"].shape == (5, 2, 1, 1)
    assert set(parameters) == {"adapters.mid.weight", "adapters.mid.bias"}

    value = loss(student, teacher)
    expected = F.mse_loss(loss.adapters["mid"](student["mid"]), teacher["mid"])
    torch.testing.assert_close(value, expected + F.mse_loss(student["stage1"], teacher["stage1"]))

    optimizer = torch.optim.SGD(loss.parameters(), lr=0.1)
    value.backward()
    assert student["mid"].grad is not None
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in loss.parameters())
    optimizer.step()
    assert loss(student, teacher) < value


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("criterion", list(CRITERIA))
def test_half_precision_features_are_compared_in_float32(
    dtype: torch.dtype, criterion: str
) -> None:
    student, teacher = (x.to(dtype) for x in pair(2, 8, 6, 6))
    loss = KnowledgeTransferLoss(criterion=criterion)
    value = loss({"mid": student}, {"mid": teacher})
    assert value.dtype == torch.float32
    exact = loss({"mid": student.double()}, {"mid": teacher.double()})
    assert value.item() == pytest.approx(exact.item(), rel=1e-6)
    mixed = loss({"mid": student}, {"mid": teacher.float()})
    torch.testing.assert_close(mixed, value)


def test_sums_and_squares_beyond_float16_stay_finite() -> None:
    big = torch.full((1, 64, 8, 8), 300, dtype=torch.float16)
    value = KnowledgeTransferLoss(reduction="sum", criterion="mse")({"mid": big}, {"mid": -big})
    assert value.item() == pytest.approx(600**2 * big.numel(), rel=1e-5)


@pytest.mark.parametrize("criterion", list(CRITERIA))
def test_autocast_does_not_round_the_comparison(criterion: str) -> None:
    student, teacher = (x.float() for x in pair(2, 8, 6, 6))
    loss = KnowledgeTransferLoss(criterion=criterion, adapters={"mid": (8, 8)})
    with torch.autocast("cpu", torch.bfloat16):
        value = loss({"mid": student}, {"mid": teacher})
        adapted = loss.adapters["mid"](student)
    assert adapted.dtype == torch.bfloat16
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, CRITERIA[criterion](adapted.float(), teacher))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"reduction": "summ"}, "did you mean 'sum'?"),
        ({"criterion": "l2"}, "criterion 'l2' is not one of l1, mse, smooth_l1"),
        ({"criterion": "smoothl1"}, "did you mean 'smooth_l1'?"),
        ({"features": {}}, "features"),
        ({"features": []}, "features"),
        ({"features": ["stage1"], "adapters": {"stage11": (1, 2)}}, "did you mean 'stage1'?"),
        ({"adapters": {"mid": (1, 2, 3)}}, "(student_channels, teacher_channels)"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)) as error:
        KnowledgeTransferLoss(**arguments)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


def test_unknown_arguments_are_not_swallowed() -> None:
    with pytest.raises(TypeError, match="feature"):
        KnowledgeTransferLoss(feature="mid")  # type: ignore[call-arg]


@pytest.mark.parametrize("lacking", ["student", "teacher"])
def test_missing_features_are_named(lacking: str) -> None:
    features = {
        "student": {"stage2": feature(1, 1, 2, 2)},
        "teacher": {"stage2": feature(1, 1, 2, 2)},
    }
    features[lacking] = {"stage_2": feature(1, 1, 2, 2)}
    words = f"the {lacking} has no feature 'stage2', only stage_2; did you mean 'stage_2'?"
    with pytest.raises(ValueError, match=re.escape(words)):
        KnowledgeTransferLoss(features="stage2")(**features)


@pytest.mark.parametrize(
    ("student", "teacher", "words"),
    [
        ((2, 4, 3, 3), (2, 8, 3, 3), "differ in width; set adapters: {mid: [4, 8]}"),
        ((2, 1, 3, 3), (2, 8, 3, 3), "differ in width; set adapters: {mid: [1, 8]}"),
        ((2, 8, 3, 3), (2, 8, 3, 6), "differ in height or width"),
        ((2, 8, 1, 1), (2, 8, 3, 3), "differ in height or width"),
        ((1, 8, 3, 3), (2, 8, 3, 3), "differ in batch size"),
        ((8, 3, 3), (8, 3, 3), "(n, c, h, w)"),
    ],
)
def test_shapes_do_not_broadcast(
    student: tuple[int, ...], teacher: tuple[int, ...], words: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(words)) as error:
        KnowledgeTransferLoss()({"mid": feature(*student)}, {"mid": feature(*teacher)})
    message = str(error.value)
    assert f"feature 'mid' of student {student} and teacher {teacher}" in message
    assert "\n" not in message


@pytest.mark.parametrize(("student", "teacher"), [(3, 8), (4, 6)])
def test_an_adapter_of_other_widths_is_named(student: int, teacher: int) -> None:
    loss = KnowledgeTransferLoss(adapters={"mid": (4, 8)}).double()
    words = re.escape(
        f"do not fit its adapter [4, 8]; set adapters: {{mid: [{student}, {teacher}]}}"
    )
    with pytest.raises(ValueError, match=words):
        loss({"mid": feature(1, student, 2, 2)}, {"mid": feature(1, teacher, 2, 2)})
