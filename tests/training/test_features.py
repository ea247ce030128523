"""Features of networks that are not KTDN: named modules give theirs, whatever wraps the network."""

from __future__ import annotations

import copy
import pickle
import re
import threading
from pathlib import Path

import pytest
import torch
from preloaded import together
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from ktdn_plugin import (
    KTDN,
    FrozenTeacher,
    KnowledgeTransferLoss,
    KTDNError,
    student_step,
)
from ktdn_plugin.training.features import name_features


class Block(nn.Module):
    """A residual block whose activation, as is the habit, works in place."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(self.relu(self.conv1(x)))


class Plain(nn.Module):
    """Somebody's network: no features of itself, further arguments, changes in place."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.body = nn.Sequential(*[Block(width) for _ in range(3)])
        self.after = nn.Conv2d(width, width, 3, padding=1)
        self.last = nn.Conv2d(width, 3, 3, padding=1)
        self.flat = nn.Flatten()
        self.pair = Pair()
        self.idle = nn.Identity()

    def forward(self, x: Tensor, scale: float = 1.0, shift: float = 0.0) -> Tensor:
        start = self.first(x)
        y = self.after(self.body(start))
        self.flat(y)
        self.pair(y)
        y += start
        return scale * self.last(y) + shift


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


NAMES = {"mid": "body.2", "early": "body.0.conv1", "late": "after"}


@pytest.fixture
def image() -> Tensor:
    return torch.rand(2, 3, 8, 12, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def plain() -> Plain:
    torch.manual_seed(1)
    return Plain()


@pytest.fixture
def named(plain: Plain) -> nn.Module:
    return name_features(plain, NAMES)


def by_hand(network: Plain, x: Tensor) -> dict[str, Tensor]:
    start = network.first(x)
    mid = network.body(start)
    return {"mid": mid, "early": network.body[0].conv1(start), "late": network.after(mid)}


def assert_same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name])


def is_clean(network: nn.Module) -> bool:
    return all(getattr(module, "kept_outputs", None) is None for module in network.modules())


def test_the_features_are_the_modules_outputs(plain: Plain, image: Tensor) -> None:
    before = copy.deepcopy(plain)
    expected = by_hand(before, image)
    assert name_features(plain, NAMES) is plain
    output, features = plain(image, return_features=True)
    assert torch.equal(output, before(image))
    # Two of them are changed in place behind the module, by a ReLU and by 'y += start'.
    assert_same(features, expected)
    assert_same(
        plain.feature_extractor(["late", "mid"])(image), {n: expected[n] for n in ("late", "mid")}
    )


def test_the_network_stays_itself(plain: Plain, image: Tensor) -> None:
    before = {key: value.clone() for key, value in plain.state_dict().items()}
    expected = plain(image)
    named = name_features(plain, NAMES)
    assert isinstance(named, Plain)
    assert type(named).__name__ == "Plain"
    assert list(named.state_dict()) == list(before)
    for key, value in named.state_dict().items():
        assert torch.equal(value, before[key])
    assert torch.equal(named(image), expected)
    assert torch.equal(named(image, 2.0, shift=1.0), 2 * expected + 1)
    output, features = named(image, 2.0, shift=1.0, return_features=True)
    assert torch.equal(output, 2 * expected + 1)
    assert list(features) == list(NAMES)


def test_nothing_is_kept(named: nn.Module, image: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    named(image, return_features=True)
    assert is_clean(named)
    monkeypatch.setattr(named.last, "forward", lambda x: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        named(image, return_features=True)
    assert is_clean(named)


def test_without_being_asked_nothing_is_recorded(
    named: nn.Module, image: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(tensor: Tensor) -> Tensor:
        raise AssertionError("an output was copied")

    monkeypatch.setattr(Tensor, "clone", refuse)
    named(image)
    with pytest.raises(AssertionError):
        named(image, return_features=True)


def test_gradients_reach_the_modules_of_a_feature(named: nn.Module, image: Tensor) -> None:
    _, features = named(image, return_features=True)
    features["mid"].square().mean().backward()
    reached = {key for key, value in named.named_parameters() if value.grad is not None}
    assert {key.split(".")[0] for key in reached} == {"first", "body"}
    assert float(named.first.weight.grad.abs().sum()) > 0


def test_a_copy_is_independent(named: nn.Module, image: Tensor) -> None:
    double = copy.deepcopy(named)
    for network in (double, pickle.loads(pickle.dumps(named))):
        assert isinstance(network, Plain)
        with torch.no_grad():
            network.first.weight.mul_(2)
        assert_same(network(image, return_features=True)[1], by_hand(network, image))
        assert_same(named(image, return_features=True)[1], by_hand(named, image))
    # One in the midst of the other's forward pass: neither takes what is the other's.
    handle = named.last.register_forward_hook(
        lambda *_: double(image, return_features=True) and None
    )
    assert_same(named(image, return_features=True)[1], by_hand(named, image))
    handle.remove()
    double = copy.deepcopy(double)  # a copy of a copy, as an averaged network may be
    assert_same(double(image, return_features=True)[1], by_hand(double, image))


def replica_of(network: nn.Module) -> nn.Module:
    """What ``torch.nn.parallel.replicate`` makes of a network, on the same device."""
    replica = network._replicate_for_data_parallel()
    for name, child in network._modules.items():
        replica._modules[name] = replica_of(child)
    for name, parameter in network._parameters.items():
        setattr(replica, name, parameter)
    return replica


def test_data_parallel_replicas_do_not_mix(named: nn.Module) -> None:
    images = [torch.rand(1, 3, 8, 8) for _ in range(4)]
    expected = [by_hand(named, image) for image in images]
    together = threading.Barrier(len(images), timeout=20)
    named.last.register_forward_hook(lambda *_: together.wait() and None)
    found: list[dict[str, Tensor]] = [{} for _ in images]

    def work(index: int, replica: nn.Module) -> None:
        found[index] = replica(images[index], return_features=True)[1]

    threads = [threading.Thread(target=work, args=(index, replica_of(named))) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for ours, theirs in zip(found, expected, strict=True):
        assert_same(ours, theirs)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_it_compiles_in_one_piece(named: nn.Module, image: Tensor, backend: str) -> None:
    output = named(image)
    expected = by_hand(named, image)
    compiled = copy.deepcopy(named)
    compiled.compile(backend=backend, fullgraph=True)
    for _ in range(2):
        torch.testing.assert_close(compiled(image), output)
        given, features = compiled(image, return_features=True)
        torch.testing.assert_close(given, output)
        assert_same(features, expected)
    features["mid"].square().mean().backward()
    expected["mid"].square().mean().backward()
    torch.testing.assert_close(compiled.first.weight.grad, named.first.weight.grad)
    assert is_clean(compiled)
    teacher = FrozenTeacher(copy.deepcopy(named), ["mid"])
    teacher.extractor.compile(backend=backend, fullgraph=True)
    assert_same(teacher(image), {"mid": expected["mid"].detach()})


def test_half_precision(named: nn.Module, image: Tensor) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, features = named(image, return_features=True)
    assert features["late"].dtype is torch.bfloat16
    torch.testing.assert_close(
        features["late"].float(), by_hand(named, image)["late"], atol=0.05, rtol=0.05
    )


def test_knowledge_is_transferred_between_other_networks(image: Tensor) -> None:
    torch.manual_seed(2)
    student = name_features(Plain(4), {"mid": "body.1"})
    network = name_features(Plain(6), {"mid": "body.2"})
    teacher = FrozenTeacher(network.train(), ["mid"])
    loss = KnowledgeTransferLoss(adapters={"mid": [4, 6]})
    step = student_step(student, image, image, {"l_rec": nn.L1Loss()}, teacher, loss)
    step.losses["l_kt"].backward()
    assert student.body[1].conv2.weight.grad is not None
    assert student.body[2].conv2.weight.grad is None
    assert loss.adapters["mid"].weight.grad is not None
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert not network.training


def test_a_network_with_features_of_its_own(image: Tensor) -> None:
    network = KTDN("test_convnext").eval()
    assert name_features(network, {}) is network
    assert type(network) is KTDN
    expected = network.fam4
    name_features(network, {"fine": "fam4"})
    assert network.get_submodule("fam4") is expected
    with torch.no_grad():
        assert list(network(image, return_features=True)[1]) == ["fine"]
        assert list(network.feature_extractor(["fine"])(image)) == ["fine"]


def test_naming_again_replaces(named: nn.Module, image: Tensor) -> None:
    name_features(named, {"mid": "body.0"})
    features = named(image, return_features=True)[1]
    assert_same(features, {"mid": named.body[0](named.first(image))})
    assert type(named).__mro__.count(Plain) == 1


def test_of_several_calls_the_last_counts(image: Tensor) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)
            self.alias = self.conv

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(self.conv(x))

    network = name_features(Twice(), {"a": "conv", "b": "alias"})
    output, features = network(image, return_features=True)
    assert_same(features, {"a": output, "b": output})


@pytest.mark.parametrize(
    ("modules", "expected"),
    [
        ({"mid": "boddy"}, "feature 'mid': Plain has no module 'boddy'; did you mean 'body'?"),
        ({"mid": "bdy.2.conv1"}, "did you mean 'body.2.conv1'?"),
        ({"mid": "x"}, "Plain has no module 'x' (its top-level modules are first, body, after"),
        ({"mid": ""}, "has no module ''"),
        ({"mid": 3}, "has no module 3"),
        ({}, "Plain has no named features; choose some of its modules"),
    ],
)
def test_wrong_modules(plain: Plain, modules: dict, expected: str) -> None:
    with pytest.raises(KTDNError, match=re.escape(expected)):
        name_features(plain, modules)
    assert type(plain) is Plain


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("idle", "feature 'mid': module 'idle' of Plain is not called in the forward pass"),
        ("flat", "'flat' of Plain gives a tensor (2, 384), not a single tensor (n, c, h, w)"),
        ("pair", "'pair' of Plain gives tuple, not a single tensor"),
    ],
)
@pytest.mark.parametrize("compiles", [False, True])
def test_modules_without_a_feature(
    plain: Plain, image: Tensor, path: str, expected: str, compiles: bool
) -> None:
    network = name_features(plain, {"mid": path})
    if compiles:
        network.compile(backend="eager")
    with pytest.raises(KTDNError, match=re.escape(expected)):
        network(image, return_features=True)
    assert is_clean(network)
    assert network(image).shape == image.shape


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing(image: Tensor, reentrant: bool) -> None:
    class Thrifty(Plain):
        def forward(self, x: Tensor) -> Tensor:
            return self.last(checkpoint(self.body, self.first(x), use_reentrant=reentrant))

    network = name_features(Thrifty(), {"mid": "body.1"})
    with torch.no_grad():
        expected = network.body[1](network.body[0](network.first(image)))
        assert_same(network(image, return_features=True)[1], {"mid": expected})
    if reentrant:
        with pytest.raises(KTDNError, match="'body\\.1' of Thrifty is computed without gradients"):
            network(image, return_features=True)
        return
    output, features = network(image, return_features=True)
    (output.mean() + features["mid"].square().mean()).backward()
    found = network.first.weight.grad
    network.zero_grad()
    start = network.first(image)
    mid = network.body[1](network.body[0](start))
    (network.last(network.body[2](mid)).mean() + mid.square().mean()).backward()
    torch.testing.assert_close(found, network.first.weight.grad)


def test_unknown_features(named: nn.Module, image: Tensor) -> None:
    expected = re.escape("Plain has no feature 'mdi'; did you mean 'mid'? (it has mid, early")
    with pytest.raises(KTDNError, match=expected):
        named.feature_extractor(["mdi"])
    with pytest.raises(KTDNError, match=expected):
        named(image, return_features=["mdi"])
    with pytest.raises(KTDNError, match="no features requested; Plain has mid, early, late"):
        named.feature_extractor([])


# Each process takes its part of one batch; the gradients are those of the whole.
SCRIPT = """
import sys
import torch
import torch.distributed as dist
sys.path.append(sys.argv[1])
from test_features import train_in_parallel

dist.init_process_group("gloo")
train_in_parallel()
dist.destroy_process_group()
"""


def gradient_of(network: nn.Module, batch: Tensor) -> Tensor:
    output, features = network(batch, return_features=True)
    (output.mean() + sum(feature.square().mean() for feature in features.values())).backward()
    bare = network.module if isinstance(network, DistributedDataParallel) else network
    assert is_clean(bare)
    return bare.first.weight.grad


def train_in_parallel() -> None:
    torch.manual_seed(3)
    batch = torch.rand(2, 3, 8, 8)
    network = name_features(Plain(), NAMES)
    expected = gradient_of(copy.deepcopy(network), batch)
    rank = torch.distributed.get_rank()
    found = gradient_of(DistributedDataParallel(network), batch[rank : rank + 1])
    torch.testing.assert_close(found, expected)
    Path(f"done_{rank}").touch()


@pytest.mark.slow
def test_two_processes(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = together([Path(__file__).parent], [tmp_path] * 2, script=script)
    assert [one.returncode for one in done] == [0, 0], done[0].stderr
    assert {path.name for path in tmp_path.glob("done_*")} == {"done_0", "done_1"}
