"""Knowledge transfer in a real step: who learns, who stays as it is, and what is compared."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ktdn_plugin import (
    KTDN,
    FrozenTeacher,
    KnowledgeTransferLoss,
    KTDNError,
    LaplacianLoss,
    student_step,
    teacher_step,
)
from ktdn_plugin.training.steps import image_losses

# From the first layer to the last, and batch statistics.
MOVING = {
    "encoder.body.conv1.0.weight",
    "encoder.body.bn1.running_mean",
    "fam16.conv1.weight",
    "em.refine1.weight",
    "tail.1.weight",
}
LOSSES = {"l_rec": nn.L1Loss(), "l_lap": LaplacianLoss(0.3, levels=3)}


@pytest.fixture
def clear() -> Tensor:
    return torch.rand(2, 3, 40, 48, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def hazy(clear: Tensor) -> Tensor:
    return 0.5 * clear + 0.4


@pytest.fixture
def student() -> KTDN:
    torch.manual_seed(1)
    return KTDN("test_resnet").train()


@pytest.fixture
def teacher_network() -> KTDN:
    torch.manual_seed(2)
    return KTDN("test_resnet").train()


def copied(module: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in module.state_dict().items()}


def changed(module: nn.Module, before: dict[str, Tensor]) -> set[str]:
    return {
        key for key, value in module.state_dict().items() if not torch.equal(before[key], value)
    }


def test_frozen_teacher_stays_in_eval_mode(teacher_network: KTDN) -> None:
    teacher = FrozenTeacher(teacher_network)
    both = nn.ModuleList([teacher, nn.BatchNorm2d(1)]).train()
    assert both[1].training
    assert teacher.train() is teacher
    assert not any(module.training for module in teacher.modules())
    assert not any(p.requires_grad for p in teacher.parameters())


def test_frozen_teacher_is_in_eval_mode_though_its_network_trains(
    teacher_network: KTDN, clear: Tensor
) -> None:
    teacher = FrozenTeacher(teacher_network.train())
    assert not any(module.training for module in teacher.modules())
    expected = teacher(clear)["mid"]
    teacher_network.train()  # and with it the layers that the two share
    before = copied(teacher_network)
    assert torch.equal(teacher(clear)["mid"], expected)
    assert changed(teacher_network, before) == set()


def test_frozen_teacher_gives_the_network_s_features(teacher_network: KTDN, clear: Tensor) -> None:
    for names in (("mid",), ("stage1", "mid"), ("stage2",)):
        features = FrozenTeacher(teacher_network, names)(clear)
        expected = teacher_network.eval().forward_features(clear, names)
        assert list(features) == list(names)
        for name in names:
            assert torch.equal(features[name], expected[name])
            assert not features[name].requires_grad


def test_frozen_teacher_passes_no_gradient_on(teacher_network: KTDN, clear: Tensor) -> None:
    features = FrozenTeacher(teacher_network)(clear.requires_grad_())
    assert not features["mid"].requires_grad


def test_frozen_teacher_keeps_no_decoder(teacher_network: KTDN) -> None:
    kept = set(FrozenTeacher(teacher_network).state_dict())
    assert any("fam16." in key for key in kept)
    assert not [key for key in kept if "fam8." in key or "em." in key or "tail." in key]


def test_student_learns_and_teacher_does_not(
    student: KTDN, teacher_network: KTDN, hazy: Tensor, clear: Tensor
) -> None:
    teacher = FrozenTeacher(teacher_network, ("stage1", "mid")).train()
    transfer_loss = KnowledgeTransferLoss(features=("stage1", "mid"))
    before, before_network = copied(teacher), copied(teacher_network)
    before_student = copied(student)
    # Given the teacher's weights as well, an optimiser with decay would move them if it could.
    optimizer = torch.optim.AdamW([*student.parameters(), *teacher.parameters()], weight_decay=0.1)
    for _ in range(2):
        step = student_step(student, hazy, clear, LOSSES, teacher, transfer_loss)
        optimizer.zero_grad()
        torch.stack(list(step.losses.values())).sum().backward()
        optimizer.step()
    assert changed(teacher, before) == set()
    assert changed(teacher_network, before_network) == set()
    assert [name for name, p in teacher_network.named_parameters() if p.grad is not None] == []

    assert [name for name, p in student.named_parameters() if p.grad is None] == []
    assert changed(student, before_student) >= MOVING


def test_losses_are_of_these_images_and_features(
    student: KTDN, teacher_network: KTDN, hazy: Tensor, clear: Tensor
) -> None:
    student.eval()  # the same output each time
    transfer_loss = KnowledgeTransferLoss(0.5)
    step = student_step(student, hazy, clear, LOSSES, FrozenTeacher(teacher_network), transfer_loss)
    assert list(step.losses) == ["l_rec", "l_lap", "l_kt"]
    assert torch.equal(step.output, student(hazy))
    assert step.output.shape == clear.shape
    assert all(loss.ndim == 0 and loss.requires_grad for loss in step.losses.values())

    torch.testing.assert_close(step.losses["l_rec"], (step.output - clear).abs().mean())
    torch.testing.assert_close(step.losses["l_lap"], LOSSES["l_lap"](step.output, clear))
    # The teacher sees the clear images, the student the hazy ones.
    theirs = teacher_network.eval().forward_features(clear)["mid"]
    ours = student.forward_features(hazy)["mid"]
    torch.testing.assert_close(step.losses["l_kt"], 0.5 * F.l1_loss(ours, theirs))


def test_transfer_alone_teaches_the_student_s_encoder(
    student: KTDN, teacher_network: KTDN, hazy: Tensor, clear: Tensor
) -> None:
    step = student_step(
        student, hazy, clear, {}, FrozenTeacher(teacher_network), KnowledgeTransferLoss()
    )
    assert list(step.losses) == ["l_kt"]
    step.losses["l_kt"].backward()
    learning = {name for name, p in student.named_parameters() if p.grad is not None}
    assert learning == {
        name for name, _ in student.named_parameters() if name.startswith(("encoder.", "fam16."))
    }
    for name in ("encoder.body.conv1.0.weight", "fam16.conv1.weight"):
        assert student.get_parameter(name).grad.any()


def test_student_that_is_its_teacher_has_nothing_to_learn_from_it(
    student: KTDN, teacher_network: KTDN, clear: Tensor
) -> None:
    student.load_state_dict(teacher_network.state_dict())
    step = student_step(
        student.eval(), clear, clear, {}, FrozenTeacher(teacher_network), KnowledgeTransferLoss()
    )
    assert step.losses["l_kt"] == 0


def test_student_without_a_teacher(student: KTDN, hazy: Tensor, clear: Tensor) -> None:
    step = student_step(student.eval(), hazy, clear, LOSSES)
    assert list(step.losses) == ["l_rec", "l_lap"]
    assert torch.equal(step.output, student(hazy))
    torch.testing.assert_close(step.losses["l_rec"], (step.output - clear).abs().mean())
    # Any network will do then.
    plain = student_step(nn.Conv2d(3, 3, 1), hazy, clear, LOSSES)
    sum(plain.losses.values()).backward()


def test_teacher_and_loss_belong_together(
    student: KTDN, teacher_network: KTDN, hazy: Tensor, clear: Tensor
) -> None:
    message = "both a teacher and a transfer_loss, or neither"
    with pytest.raises(ValueError, match=message):
        student_step(student, hazy, clear, LOSSES, teacher=FrozenTeacher(teacher_network))
    with pytest.raises(ValueError, match=message):
        student_step(student, hazy, clear, LOSSES, transfer_loss=KnowledgeTransferLoss())


def test_teacher_step(teacher_network: KTDN, clear: Tensor) -> None:
    before = copied(teacher_network)
    optimizer = torch.optim.Adam(teacher_network.parameters(), 1e-3)
    values = []
    for _ in range(8):
        step = teacher_step(teacher_network, clear, LOSSES)
        assert list(step.losses) == ["l_rec", "l_lap"]
        torch.testing.assert_close(step.losses["l_rec"], (step.output - clear).abs().mean())
        optimizer.zero_grad()
        sum(step.losses.values()).backward()
        assert [name for name, p in teacher_network.named_parameters() if p.grad is None] == []
        optimizer.step()
        values.append(sum(step.losses.values()).item())
    assert values[-1] < 0.9 * values[0]
    assert changed(teacher_network, before) >= MOVING


class _Watched(nn.Module):
    """A loss of images or of features that notes what it is given, and whether autocast is on."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[tuple[torch.dtype, torch.dtype, bool]] = []

    def forward(self, one: Tensor | dict, other: Tensor | dict) -> Tensor:
        one, other = (x["mid"] if isinstance(x, dict) else x for x in (one, other))
        self.given.append((one.dtype, other.dtype, torch.is_autocast_enabled("cpu")))
        return (one - other).abs().mean()


def test_clamped_images_get_no_gradient_where_they_overshoot() -> None:
    output = torch.tensor([-0.5, 0.25, 1.5]).repeat(1, 3, 1, 1).requires_grad_()
    clear = torch.full_like(output, 0.5)
    losses = {"l_rec": nn.L1Loss(reduction="sum")}
    plain = image_losses(output, clear, losses)["l_rec"]
    assert float(plain.detach()) == pytest.approx(3 * 2.25)
    clamped = image_losses(output, clear, losses, clamp=True)["l_rec"]
    assert float(clamped.detach()) == pytest.approx(3 * 1.25)
    clamped.backward()
    assert output.grad is not None
    assert output.grad[0, 0, 0].tolist() == [0, -1, 0]


def test_networks_run_in_the_precision_asked_for_and_image_losses_in_float32(
    student: KTDN, teacher_network: KTDN, hazy: Tensor, clear: Tensor
) -> None:
    half = torch.bfloat16
    watched, compared = _Watched(), _Watched()
    losses = {"l": watched}
    teacher = FrozenTeacher(teacher_network)
    for step in (
        teacher_step(teacher_network, clear, losses, amp=half),
        student_step(student, hazy, clear, losses, amp=half),
        student_step(student, hazy, clear, losses, teacher, compared, amp=half),
    ):
        assert step.output.dtype == half
    assert watched.given == [(torch.float32, torch.float32, False)] * 3
    # Features come as they are: the loss sees to its own precision, with autocast off.
    assert compared.given == [(half, half, False)]
    image_losses(clear.to(half), clear.to(half), losses)
    assert watched.given[-1] == (torch.float32, torch.float32, False)
    with torch.autocast("cpu", dtype=half):  # somebody else's
        student_step(student, hazy, clear, losses, teacher, compared)
    assert watched.given[-1] == (torch.float32, torch.float32, False)
    assert compared.given[-1] == (half, half, False)


def test_a_teacher_with_an_affine_head_is_refused() -> None:
    with pytest.raises(KTDNError, match=r"network\.head: a teacher with an affine head"):
        FrozenTeacher(KTDN("test_resnet", head="affine"))
