"""Features of any network: the outputs of those of its modules that get a name.

Knowledge transfer compares features. KTDN gives its own; :func:`name_features` makes another
network give some as well, and from then on it can be a student or a teacher as KTDN can.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from ktdn_plugin.errors import KTDNError, did_you_mean


def name_features(network: nn.Module, modules: Mapping[str, str]) -> nn.Module:
    """Lets a network return the outputs of some of its modules as named features.

    Afterwards ``network(x, return_features=True)`` gives what ``network(x)`` gives and, beside it,
    the features by name; other arguments go to the network as they are. ``network(x)`` alone
    records nothing. ``network.feature_extractor(names)`` is what a
    :class:`~ktdn_plugin.training.steps.FrozenTeacher` is made of.

    A feature is what the module gives, also where the network changes that in place later on. A
    module that runs several times in one forward pass gives its last output.

    Args:
        network: Any network; it is changed. Names and values of its weights stay, wrappers,
            ``compile()``, deep copies and pickling work as before.
        modules: Feature name to module path, as in ``network.named_modules()``:
            ``{'mid': 'body.3'}``. They replace names that were given before. None at all leaves a
            network alone that gives features of itself.

    Returns:
        The network.

    Raises:
        KTDNError: If a path leads to no module, or the network gives no features and none is
            named. A forward pass that is asked for features raises it where one was not computed,
            has lost its gradients, or is not one tensor (n, c, h, w).

    Example:
        >>> network = name_features(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), {"mid": "0"})
        >>> image, features = network(torch.rand(1, 3, 10, 10), return_features=True)
        >>> features["mid"].shape
        torch.Size([1, 8, 8, 8])
    """
    if not modules:
        if hasattr(network, "feature_extractor"):
            return network
        raise KTDNError(
            f"{type(network).__name__} has no named features; choose some of its modules"
        )
    paths = [path for path, _ in network.named_modules(remove_duplicate=False) if path]
    for name, path in modules.items():
        if path not in paths:
            hint = did_you_mean(path, paths) or _outermost(network)
            raise KTDNError(
                f"feature '{name}': {type(network).__name__} has no module {path!r}{hint}"
            )
    named = cast("_Named", network)
    if not isinstance(network, _Named):
        network.__class__ = _named_class(type(network))
    named.feature_modules = dict(modules)
    for path in set(modules.values()):
        module = network.get_submodule(path)
        if _keep_output not in module._forward_hooks.values():
            module.register_forward_hook(_keep_output)
    return network


class NamedFeatures(nn.Module):
    """A network that returns only its named features, though all of it runs.

    Args:
        network: A network after :func:`name_features`; its weights are shared.
        names: The features' names.

    Raises:
        KTDNError: If a name is unknown, or there are none.
    """

    def __init__(self, network: nn.Module, names: Iterable[str]) -> None:
        super().__init__()
        self.network = network
        self.names = _check_names(cast("_Named", network), names)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Returns the named features (n, c, h, w) of images (n, 3, h, w)."""
        return self.network(x, return_features=self.names)[1]


class _Named(nn.Module):
    """Mixin placed before a network's class."""

    feature_modules: dict[str, str]

    def forward(
        self, *args: Any, return_features: bool | Iterable[str] = False, **kwargs: Any
    ) -> Any:
        if return_features is False:
            return super().forward(*args, **kwargs)
        if return_features is True:
            return_features = self.feature_modules
        modules = {
            name: self.get_submodule(self.feature_modules[name])
            for name in _check_names(self, return_features)
        }
        # Kept at the modules: DataParallel's replicas and deep copies have their own.
        for module in modules.values():
            module.kept_outputs = []  # type: ignore[assignment]
        try:
            output = super().forward(*args, **kwargs)
            return output, {name: _taken(self, name, module) for name, module in modules.items()}
        finally:
            for module in modules.values():
                module.kept_outputs = None  # type: ignore[assignment]

    def feature_extractor(self, names: Iterable[str]) -> NamedFeatures:
        """Returns a network of the same weights that gives the named features alone."""
        return NamedFeatures(self, names)

    def __reduce_ex__(self, protocol: Any) -> Any:
        # The class was made here, and no module holds it for pickle to find.
        reduced: Any = super().__reduce_ex__(protocol)
        return (_empty, (type(self).__bases__[1],), *reduced[2:])


def _named_class(base: type[nn.Module]) -> type[nn.Module]:
    """Returns a network's class with named features; it goes by the same name, in messages too."""
    return type(
        base.__name__, (_Named, base), {"__module__": base.__module__, "__doc__": base.__doc__}
    )


def _empty(base: type[nn.Module]) -> nn.Module:
    made = _named_class(base)
    return made.__new__(made)


def _keep_output(module: nn.Module, inputs: Any, output: Any) -> None:
    kept: Any = getattr(module, "kept_outputs", None)
    if kept is not None:
        # A copy: 'res += x', or a ReLU in place, would make another feature of it.
        output = output.clone() if isinstance(output, Tensor) else output
        kept[:] = [output, torch.is_grad_enabled()]


def _taken(network: _Named, name: str, module: nn.Module) -> Tensor:
    kept: Any = module.kept_outputs
    where = (
        f"feature '{name}': module '{network.feature_modules[name]}' of {type(network).__name__}"
    )
    if not kept:
        raise KTDNError(f"{where} is not called in the forward pass; choose one that is")
    output, had_gradients = kept
    if not isinstance(output, Tensor) or output.ndim != 4:
        what = (
            f"a tensor {tuple(output.shape)}"
            if isinstance(output, Tensor)
            else type(output).__name__
        )
        raise KTDNError(
            f"{where} gives {what}, not a single tensor (n, c, h, w); choose another module"
        )
    if torch.is_grad_enabled() and not had_gradients:
        raise KTDNError(
            f"{where} is computed without gradients (reentrant checkpointing?), so nothing "
            "would be learned from it; turn that off, or choose a module outside of it"
        )
    return output


def _check_names(network: _Named, names: Iterable[str]) -> tuple[str, ...]:
    names = tuple(names)
    known = network.feature_modules
    for name in names:
        if name not in known:
            raise KTDNError(
                f"{type(network).__name__} has no feature '{name}'{did_you_mean(name, known)} "
                f"(it has {', '.join(known)})"
            )
    if not names:
        raise KTDNError(f"no features requested; {type(network).__name__} has {', '.join(known)}")
    return names


def _outermost(network: nn.Module) -> str:
    return f" (its top-level modules are {', '.join(name for name, _ in network.named_children())})"
