"""Knowledge-transfer loss: a student's features against those of a teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from ktdn_plugin.errors import did_you_mean
from ktdn_plugin.losses.pixel_loss import CRITERIA, REDUCTIONS


class KnowledgeTransferLoss(nn.Module):
    """Weighted sum over features of the distance between a student's and a teacher's.

    Source: KTDN (Wu et al., CVPRW 2020) compares one feature, ``mid``, by L1. Adapters, for a
    student that is narrower than its teacher, are the regressors of FitNets (Romero et al., ICLR
    2015); they are parameters of this loss, so the optimiser has to be given them.

    Args:
        loss_weight: Factor of the whole loss.
        reduction: ``'mean'`` or ``'sum'`` over each feature's elements, or ``'none'``: ``(n,)``,
            one value for each sample, whose mean is that of ``'mean'``.
        features: Names of the features to compare, with their weights; a list of names, or one
            name, has weights of 1. Default: ``{'mid': 1.0}``.
        criterion: ``'l1'``, ``'mse'`` or ``'smooth_l1'``.
        adapters: ``name: (student_channels, teacher_channels)`` for every feature that gets a
            trainable 1x1 convolution from the student's width to the teacher's.

    Raises:
        ValueError: If a name is not known, or no feature is named.

    Example:
        >>> student, teacher = ({"mid": torch.full((1, 8, 5, 5), value)} for value in (0.0, 0.5))
        >>> float(KnowledgeTransferLoss(features={"mid": 2.0})(student, teacher))
        1.0
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        reduction: str = "mean",
        features: Mapping[str, float] | Sequence[str] | str | None = None,
        criterion: str = "l1",
        adapters: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.reduction = _known("reduction", reduction, REDUCTIONS)
        self.criterion = _known("criterion", criterion, tuple(CRITERIA))
        self.weights = _weights(features)
        self.adapter_widths = {name: tuple(widths) for name, widths in (adapters or {}).items()}
        self.adapters = nn.ModuleDict()
        for name, widths in self.adapter_widths.items():
            _known("adapters for", name, self.feature_names)
            if len(widths) != 2:
                raise ValueError(
                    f"KnowledgeTransferLoss: adapters[{name!r}]={widths!r} must be "
                    "(student_channels, teacher_channels)"
                )
            self.adapters[name] = nn.Conv2d(widths[0], widths[1], kernel_size=1)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the features that are compared, in order."""
        return tuple(self.weights)

    def forward(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> Tensor:
        """Compares the named features; others that the mappings hold are left alone.

        Args:
            student: Features by name, each ``(n, c, h, w)``, any value range, any floating-point
                dtype; gradients flow into these only.
            teacher: Features by name, each of the student's shape, or of that after its adapter.

        Returns:
            Scalar, or ``(n,)`` for ``reduction='none'``; float32 for half-precision features.

        Raises:
            ValueError: If a feature is missing, or shapes do not match.
        """
        terms = [
            weight
            * self._compare(name, _pick("student", student, name), _pick("teacher", teacher, name))
            for name, weight in self.weights.items()
        ]
        return self.loss_weight * torch.stack(terms).sum(0)

    def _compare(self, name: str, student: Tensor, teacher: Tensor) -> Tensor:
        _check_shapes(name, student.shape, teacher.shape, self.adapter_widths.get(name))
        # Autograd cannot save what inference mode made, and a frozen teacher may well run in it.
        teacher = teacher.clone() if teacher.is_inference() else teacher.detach()
        if name in self.adapters:
            adapter = cast("nn.Conv2d", self.adapters[name])
            student = adapter(student.to(adapter.weight.dtype))
        dtype = torch.promote_types(
            torch.promote_types(student.dtype, teacher.dtype), torch.float32
        )
        student, teacher = student.to(dtype), teacher.to(dtype)
        criterion = CRITERIA[self.criterion]
        if self.reduction == "none":
            return criterion(student, teacher, reduction="none").flatten(1).mean(1)
        return criterion(student, teacher, reduction=self.reduction)


def _known(argument: str, value: str, known: Sequence[str]) -> str:
    if value not in known:
        raise ValueError(
            f"KnowledgeTransferLoss: {argument} {value!r} is not one of "
            f"{', '.join(known)}{did_you_mean(value, known)}"
        )
    return value


def _weights(features: Mapping[str, float] | Sequence[str] | str | None) -> dict[str, float]:
    if features is None:
        features = "mid"
    if isinstance(features, str):
        features = [features]
    if not isinstance(features, Mapping):
        features = dict.fromkeys(features, 1.0)
    if not features:
        raise ValueError("KnowledgeTransferLoss: features is empty; remove it to use 'mid'")
    return dict(features)


def _pick(whose: str, features: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in features:
        raise ValueError(
            f"KnowledgeTransferLoss: the {whose} has no feature {name!r}, only "
            f"{', '.join(features) or 'none'}{did_you_mean(name, features)}"
        )
    return features[name]


def _check_shapes(
    name: str, student: torch.Size, teacher: torch.Size, adapter: tuple[int, ...] | None
) -> None:
    shapes = (
        f"KnowledgeTransferLoss: feature {name!r} of student {tuple(student)} and "
        f"teacher {tuple(teacher)}"
    )
    if len(student) != 4 or len(teacher) != 4:
        raise ValueError(f"{shapes} must both be (n, c, h, w)")
    widths = (student[1], teacher[1])
    if adapter is not None:
        if widths != adapter:
            raise ValueError(
                f"{shapes} do not fit its adapter {list(adapter)}; {_advice(name, widths)}"
            )
    elif widths[0] != widths[1]:
        raise ValueError(f"{shapes} differ in width; {_advice(name, widths)}")
    if student[2:] != teacher[2:]:
        raise ValueError(f"{shapes} differ in height or width; use images of the same size")
    if student[0] != teacher[0]:
        raise ValueError(f"{shapes} differ in batch size")


def _advice(name: str, widths: tuple[int, int]) -> str:
    if widths[0] == widths[1]:
        return "remove its adapter"
    return f"set adapters: {{{name}: {list(widths)}}}"
