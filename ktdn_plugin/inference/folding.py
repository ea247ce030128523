"""Folding batch norms into the preceding convolutions, for inference.

In eval mode a batch norm scales and shifts each channel by constants, which the preceding
convolution can absorb: this saves one pass over the feature per batch norm.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, cast

import torch
from timm.layers import BatchNormAct2d, SyncBatchNormAct
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ktdn_plugin.errors import KTDNError

TOLERANCE = 1e-9
"""Largest float64 difference, relative to the output's largest value, that counts as rounding."""

_Dtypes = list[tuple[nn.Module, str, torch.dtype]]
_Undo = list[tuple[nn.Module, str, Any]]

_EXAMPLE_SIZE = 64
# Subclasses may do more than normalise; these do not.
_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm, BatchNormAct2d, SyncBatchNormAct)


def fold_batch_norms(network: nn.Module, example: Tensor | None = None) -> int:
    """Folds eval-mode batch norms into the convolutions that precede them, in place.

    The network is run once to find the batch norms whose input is exactly a convolution's output.
    These are replaced by the activation they include, or by an identity; the convolutions get new
    weights, and a bias if they had none. A batch norm is left alone where something else also uses
    the convolution's output, where either module runs more than once, is registered under several
    names or has hooks, where the convolution derives its weights from others, and where no
    convolution precedes it.

    Weights are folded in float64, and the network's outputs before and after are compared in
    float64 too, so that a mistake cannot pass for rounding; then in the network's own dtype, where
    the folded network must be about as accurate as the original. The names of the network's
    weights change: fold after loading, not before.

    Args:
        network: The network, in eval mode, on any device.
        example: Images (n, 3, h, w) in [0, 1] to run it on. Random 64 x 64 images by default.

    Returns:
        The number of batch norms folded.

    Raises:
        ValueError: If the network is not in eval mode.
        KTDNError: If the outputs before and after differ by more than rounding, or are not
            finite. The network is then left unchanged.
    """
    if any(module.training for module in network.modules()):
        raise ValueError("batch norms are folded in eval mode: call network.eval() first")
    if example is None:
        generator = torch.Generator().manual_seed(0)
        example = torch.rand(1, 3, _EXAMPLE_SIZE, _EXAMPLE_SIZE, generator=generator)
    home = next((value.device for value in network.parameters()), torch.device("cpu"))
    dtypes = _list_dtypes(network)
    undo: _Undo = []
    # New weights must be ordinary tensors, even if the caller is in inference mode.
    with torch.inference_mode(False), torch.no_grad():
        example = example.clone()
        rough_before = _run(network, example)
        try:
            # Apple GPUs do not support float64.
            network.to(torch.device("cpu") if home.type == "mps" else home)
            _cast((module, name, torch.float64) for module, name, _ in dtypes)
            recorder = _Recorder(network)
            with recorder:
                before = _run(network, example)
            recorder.note_uses(before)
            pairs = recorder.pairs()
            folded = sum(_fold(*pair, recorder.parents[pair[1]], dtypes, undo) for pair in pairs)
            _compare(
                network, before, _run(network, example), [TOLERANCE * _peak(t) for t in before]
            )
            _cast(dtypes)
            network.to(home)
            _compare(network, before, _run(network, example), _allowances(before, rough_before))
        except BaseException:
            for module, name, value in reversed(undo):
                setattr(module, name, value)
            raise
        finally:
            _cast(dtypes)
            network.to(home)
    return folded


class _Recorder(TorchDispatchMode):
    """Records which convolution produced each batch norm's input, and what else uses it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.parents: dict[nn.Module, tuple[nn.Module, str]] = {}
        self.calls: Counter[nn.Module] = Counter()
        self._makers: dict[int, tuple[nn.Conv2d, Tensor]] = {}
        self._other_uses: set[int] = set()
        self._takers: list[tuple[nn.Module, int]] = []
        self._running: nn.Module | None = None
        self._hooks: list[Any] = []
        paths = Counter(id(m) for _, m in network.named_modules(remove_duplicate=False))
        for parent in network.modules():
            for name, child in parent.named_children():
                if paths[id(child)] == 1 and not _has_hooks(child):
                    self.parents[child] = (parent, name)
        # Several convolutions may share one weight; the running module tells them apart.
        self._convs = [m for m in self.parents if isinstance(m, nn.Conv2d)]
        self._norms = [m for m in self.parents if type(m) in _NORMS and _is_constant(m)]

    def __enter__(self) -> Any:
        for module in (*self._convs, *self._norms):
            self._hooks.append(module.register_forward_pre_hook(self._enter))
            self._hooks.append(module.register_forward_hook(self._leave))
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for hook in self._hooks:
            hook.remove()

    def pairs(self) -> Iterator[tuple[nn.Conv2d, nn.Module]]:
        """Yields the pairs of convolution and batch norm that can be folded."""
        for norm, key in self._takers:
            conv, _ = self._makers[key]
            if key not in self._other_uses and self.calls[norm] == self.calls[conv] == 1:
                yield conv, norm

    def note_uses(self, value: Any) -> None:
        """Notes that something other than a batch norm uses the tensors in a value."""
        self._other_uses.update(id(tensor) for tensor in _tensors(value))

    def _enter(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        self.calls[module] += 1
        self._running = module
        if not isinstance(module, nn.Conv2d) and args and id(args[0]) in self._makers:
            self._takers.append((module, id(args[0])))

    def _leave(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self._running = None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        running = self._running
        if not (running in self.calls and not isinstance(running, nn.Conv2d)):
            self.note_uses([args, kwargs])
        # Some modules convolve with weights computed from their own.
        if (
            func is torch.ops.aten.convolution.default
            and isinstance(running, nn.Conv2d)
            and args[1] is running.weight
            and args[2] is running.bias
        ):
            # Keep the tensor alive, so that no later one can reuse its id.
            self._makers[id(output)] = (running, output)
            self._other_uses.discard(id(output))
        return output


def _has_hooks(module: nn.Module) -> bool:
    # Hooks expect the module's current output.
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _is_constant(norm: nn.Module) -> bool:
    return isinstance(norm.running_mean, Tensor) and isinstance(norm.running_var, Tensor)


def _tensors(value: Any) -> list[Tensor]:
    """Lists the tensors in nested tuples, lists and dictionaries."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [tensor for part in value for tensor in _tensors(part)]
    return []


def _fold(
    conv: nn.Conv2d,
    norm: Any,
    place: tuple[nn.Module, str],
    dtypes: _Dtypes,
    undo: _Undo,
) -> bool:
    """Folds one batch norm; returns whether the new weights fit the network's dtype."""
    scale = (norm.running_var + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight
    shift = -norm.running_mean * scale
    if conv.bias is not None:
        shift = shift + conv.bias * scale
    if norm.bias is not None:
        shift = shift + norm.bias
    weight = conv.weight * scale.view(-1, 1, 1, 1)
    dtype = next(kind for module, name, kind in dtypes if module is conv and name == "weight")
    if not all(bool(values.to(dtype).isfinite().all()) for values in (weight, shift)):
        return False  # half precision ends at 65504
    undo += [(conv, "weight", conv.weight), (conv, "bias", conv.bias), (*place, norm)]
    learns = conv.weight.requires_grad
    if conv.bias is None:
        dtypes.append((conv, "bias", dtype))
    # Keep the memory layout, such as channels last for fast convolutions.
    conv.weight = nn.Parameter(weight, learns)
    conv.bias = nn.Parameter(shift, learns)
    setattr(*place, _what_is_left(norm))
    return True


def _what_is_left(norm: Any) -> nn.Module:
    if not isinstance(norm, (BatchNormAct2d, SyncBatchNormAct)):
        return nn.Identity().eval()
    act, drop = cast(nn.Module, norm.act), cast(nn.Module, norm.drop)
    return act if isinstance(drop, nn.Identity) else nn.Sequential(drop, act).eval()


def _list_dtypes(network: nn.Module) -> _Dtypes:
    """Lists the dtypes of a network's floating-point weights and buffers."""
    return [
        (module, name, value.dtype)
        for module in network.modules()
        for named in (module.named_parameters, module.named_buffers)
        for name, value in named(recurse=False)
        if value.is_floating_point()
    ]


def _cast(dtypes: Iterable[tuple[nn.Module, str, torch.dtype]]) -> None:
    # To float64 and back: lossless for any narrower dtype.
    for module, name, dtype in dtypes:
        value = getattr(module, name)
        if value is not None:
            value.data = value.data.to(dtype)


def _run(network: nn.Module, example: Tensor) -> list[Tensor]:
    """Runs a network in its weights' dtype."""
    like = next(network.parameters(), example)
    return _tensors(network(example.to(like.device, like.dtype)))


def _peak(tensor: Tensor) -> float:
    return float(tensor.abs().max())


def _distance(one: Tensor, other: Tensor) -> float:
    return _peak(one.cpu().double() - other.cpu().double())


def _allowances(truth: list[Tensor], rough: list[Tensor]) -> list[float]:
    """Returns how far from the truth a folded network may be in reduced precision.

    This is based on the unfolded network's own error, with a generous margin: of two roundings,
    one may hit values that later layers amplify.
    """
    return [
        100 * max(_distance(one, other), torch.finfo(other.dtype).eps * _peak(one))
        for one, other in zip(truth, rough, strict=True)
    ]


def _compare(
    network: nn.Module, wanted: list[Tensor], got: list[Tensor], allowances: list[float]
) -> None:
    name = type(network).__name__
    if not wanted:
        raise ValueError(f"{name} returns no tensor to compare")
    for one, other, allowance in zip(wanted, got, allowances, strict=True):
        if not one.isfinite().all():
            raise KTDNError(
                f"{name}: its output is NaN or infinite: its weights or batch norm statistics are "
                "damaged, or no training has set them"
            )
        difference = _distance(one, other)
        # Not the other way round, so that NaN fails too.
        if not difference <= allowance:
            raise KTDNError(
                f"{name}: folding its batch norms would change its output by {difference:.1e}, "
                f"more than the {allowance:.1e} that rounding explains; use it unfolded"
            )
