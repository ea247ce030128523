"""Optimisers by name: each either trains and resumes, or says in one line why not."""

from __future__ import annotations

import io

import pytest
import timm
import torch
import torch._dynamo

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.training.optimizers import UNUSABLE, find_optimizer

TORCHS = [
    name
    for name, one in vars(torch.optim).items()
    if isinstance(one, type) and issubclass(one, torch.optim.Optimizer) and name != "Optimizer"
]


def weights() -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(torch.ones(size)) for size in ((4, 3, 3, 3), (4,), (1,))]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [*sorted(TORCHS), *timm.optim.list_optimizers()])
def test_every_name_trains_or_is_refused(name: str) -> None:
    if name in (*UNUSABLE, "adahessian") or name.startswith(("bnb", "fused")):
        # The last two are other packages', and need a GPU.
        with pytest.raises(KTDNError, match=f"^'{name}' cannot be used"):
            find_optimizer(name)
        return
    build = find_optimizer(name)
    conv, *others = parameters = weights()
    more = {"momentum": 0.9} if "Nesterov" in _complaint(build) else {}
    optimizer = build([{"params": [conv]}, {"params": others, "lr": 1e-3}], lr=1e-2, **more)
    for _ in range(2):
        for parameter in parameters:
            parameter.grad = torch.ones_like(parameter)
        # Kron lets torch.compile generate kernels, which takes a minute and is torch's own matter.
        with torch.compiler.set_stance("force_eager"):
            optimizer.step()
    assert not torch.equal(conv, torch.ones_like(conv))
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    torch.load(file, weights_only=True)  # or no training could go on


def _complaint(build) -> str:
    try:
        build(weights(), lr=0.1)
    except ValueError as error:
        return str(error)
    return ""


def test_an_unknown_name_gets_a_suggestion() -> None:
    with pytest.raises(KTDNError, match=r"neither torch nor timm .* did you mean 'AdamW'"):
        find_optimizer("AdamWW")


def test_torch_goes_first() -> None:
    assert find_optimizer("AdamW") is torch.optim.AdamW
    assert "timm" in find_optimizer("Lion").__module__
