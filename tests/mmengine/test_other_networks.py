"""The distiller around networks that are not KTDN."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from configs import log_of, student_config, teacher_config
from mmengine.model import BaseModel
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

from ktdn_plugin import KTDNError
from ktdn_plugin.checkpoints import Checkpoint


class PlainRestorer(nn.Module):
    """A network of another project: it knows nothing of features."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, width, 3, padding=1)
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, stride=2), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.tail = nn.Sequential(nn.Conv2d(width, 12, 3, padding=1), nn.PixelShuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        even = nn.functional.pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2), mode="replicate")
        image = even + self.tail(self.body(self.head(even)))
        return image[..., : x.shape[-2], : x.shape[-1]]


class Generator(BaseModel):
    """The same as a model of mmengine's, as mmagic's generators may be."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.net = PlainRestorer(width)

    def forward(self, inputs: Tensor, data_samples: object = None, mode: str = "tensor") -> Tensor:
        assert mode == "tensor"
        return self.net(inputs)


@pytest.fixture(autouse=True)
def registered() -> None:
    for item in (PlainRestorer, Generator):
        MODELS.register_module(module=item, force=True)


class Treacherous(PlainRestorer):
    """A finite image, whose gradient is none."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + (self.head.bias * 0).sum().sqrt()


def test_a_gradient_that_is_not_finite(
    mmengine_run: Callable, pairs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    MODELS.register_module(module=Treacherous, force=True)
    cfg = teacher_config(model__generator={"type": "Treacherous"})
    assert mmengine_run("train", cfg) == 1
    (line,) = (one for one in capfd.readouterr().err.splitlines() if one.startswith("error: "))
    assert "the gradient became NaN or infinite on the batch of train/clear/0" in line
    assert not list(pairs.glob("work_dirs/**/*.pth"))


KINDS = {
    "module": ("PlainRestorer", "body.2", "body.2"),
    "base model": ("Generator", "net.body", "net.body"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_teacher_and_narrower_student_of_another_kind(
    mmengine_run: Callable, pairs: Path, kind: str
) -> None:
    name, student_path, teacher_path = KINDS[kind]
    cfg = teacher_config(model__generator={"type": name, "width": 12})
    assert mmengine_run("train", cfg, "--work-dir", "teacher") == 0
    cfg = student_config(
        model__student={"type": name, "width": 6},
        model__teacher={"type": name, "width": 12},
        model__teacher_checkpoint="teacher/iter_4.pth",
        model__student_features={"inner": student_path},
        model__teacher_features={"inner": teacher_path},
        model__transfer_loss={
            "type": "KnowledgeTransferLoss",
            "features": {"inner": 1.0},
            "adapters": {"inner": (6, 12)},
        },
    )
    cfg["custom_hooks"].append({"type": "TeacherCheckHook", "min_psnr": 5})
    assert mmengine_run("train", cfg) == 0
    assert "loss_kt:" in log_of(pairs)
    # Its adapters are trained, saved and resumed with it.
    cfg["train_cfg"]["max_iters"] = 6
    assert mmengine_run("train", cfg, "--resume") == 0
    four, six = (
        torch.load(pairs / f"work_dirs/config/iter_{n}.pth", weights_only=True)["ema_state_dict"]
        for n in (4, 6)
    )
    adapters = [key for key in four if "transfer_loss.adapters" in key]
    assert len(adapters) == 2
    assert all(not torch.equal(four[key], six[key]) for key in adapters)
    # What it has saved is the student's own weights, by their own names.
    weights = Checkpoint.read(pairs / "work_dirs/config/iter_6.pth").weights
    built = MODELS.build({"type": name, "width": 6})
    built.load_state_dict(weights)
    assert mmengine_run("test", cfg, "work_dirs/config/iter_6.pth", "--work-dir", "tested") == 0


class Normed(PlainRestorer):
    """A network that is told its parts as OpenMMLab's are: by names of registries of its own."""

    def __init__(self, width: int, norm_cfg: dict) -> None:
        assert norm_cfg == {"type": "BN"}
        super().__init__(width)


def test_what_mmengines_own_runner_takes_is_taken(mmengine_run: Callable, pairs: Path) -> None:
    MODELS.register_module(module=Normed, force=True)
    cfg = teacher_config(
        model__generator={"type": "Normed", "width": 8, "norm_cfg": {"type": "BN"}},
        val_dataloader2=None,
        env_cfg__my_own=3,
        default_hooks__checkpoint__interval=0,
        train_cfg__max_iters=1,
    )
    profiler = {"type": "ProfilerHook", "on_trace_ready": {"type": "log_trace"}, "by_epoch": False}
    cfg["custom_hooks"] = [{**profiler, "profile_times": 1}]
    assert mmengine_run("train", cfg) == 0


def distiller(**changes: object) -> nn.Module:
    network = {"type": "PlainRestorer", "width": 6}
    section = {
        "type": "KTDNDistiller",
        "student": network,
        "teacher": network,
        "teacher_checkpoint": "plain.pth",
        "student_features": {"inner": "body"},
        "teacher_features": {"inner": "body"},
        "transfer_loss": {"type": "KnowledgeTransferLoss", "features": ["inner"]},
        "pixel_loss": {"type": "PixelLoss"},
        **changes,
    }
    with DefaultScope.overwrite_default_scope("ktdn_plugin"):
        return MODELS.build(section)


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(PlainRestorer(6).state_dict(), "plain.pth")


def test_the_teacher_is_out_of_sight(saved: None) -> None:
    model = distiller()
    names = {name.split(".")[0] for name in model.state_dict()}
    assert names == {"student"}
    teacher = model.teacher
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    model.train()
    assert not teacher.training
    assert not any(module.training for module in teacher.modules())
    assert not any(one.requires_grad for one in teacher.parameters())
    own = {id(one) for one in model.parameters()}
    assert not own & {id(one) for one in teacher.parameters()}
    image = torch.rand(2, 3, 16, 16)
    sum(model.step(image, image).losses.values()).backward()
    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())
    # An average of the model has its own student, and shares the teacher.
    average = copy.deepcopy(model)
    assert average.teacher is teacher
    assert not {id(one) for one in average.parameters()} & own


def test_a_copy_leaves_the_teacher_where_it_is(saved: None) -> None:
    model = distiller()
    copy.deepcopy(model).to(torch.float64)
    assert {one.dtype for one in model.teacher.parameters()} == {torch.float32}


def test_the_teacher_goes_where_the_model_goes(saved: None) -> None:
    model = distiller().to(torch.float64)
    assert {one.dtype for one in model.teacher.parameters()} == {torch.float64}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"student_features": {"inner": "bdy"}}, "no module 'bdy'; did you mean 'body'"),
        ({"student_features": None}, "PlainRestorer has no named features"),
        ({"teacher_features": {"inner": "body", "more": "tail"}}, "does not compare 'more'"),
        (
            {"teacher_features": {"iner": "body"}},
            "teacher_features: .* not compare 'iner'; did you mean 'inner'",
        ),
        ({"transfer_loss": None}, "needs both a teacher and a transfer_loss"),
        ({"pixel_loss": None}, "no image loss is given"),
        ({"teacher_checkpoint": None}, "teacher_checkpoint: .* is missing"),
        ({"teacher_checkpoint": "none.pth"}, "none.pth: no such checkpoint file"),
        ({"teacher": {"type": "PlainRestorer", "width": 7}}, "plain.pth: .*a different network"),
    ],
)
def test_what_does_not_fit_is_reported(saved: None, changes: dict, message: str) -> None:
    with pytest.raises(KTDNError, match=message) as caught:
        distiller(**changes)
    assert "\n" not in str(caught.value)


def test_without_a_teacher(saved: None) -> None:
    model = distiller(
        teacher=None, transfer_loss=None, teacher_checkpoint=None, student_features=None,
        teacher_features=None,
    )  # fmt: skip
    image = torch.rand(1, 3, 16, 16)
    assert set(model.step(image, image).losses) == {"l_rec"}
