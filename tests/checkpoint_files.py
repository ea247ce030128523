"""Checkpoint files for tests: a tiny KTDN in every layout, and files that are none of it."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from helpers import ENCODER
from safetensors.torch import save_file
from torch import Tensor, nn

from ktdn_plugin import KTDN, KTDNError, __version__

KEYS = Path(__file__).parent / "golden" / "official_checkpoint_keys.json"

METADATA = {
    "network": {
        "type": "KTDN",
        "encoder": ENCODER,
        "mean": [0.5, 0.25, 0.125],
        "std": [0.2, 0.3, 0.4],
        "reduction": 4,
        "head": "affine",
        "widths": [64, 32, 36],
    },
    "ktdn_plugin": "0.1.0",
    "toolbox": "BasicSR 1.4.2",
    "run": {"name": "trained", "iteration": 40, "total": 50, "stage": "teacher"},
    "data": {
        "train": [{"name": "train", "split": "nh-train", "fingerprint": "ab12", "images": 45}],
        "val": [{"name": "val", "split": "", "fingerprint": "", "images": 5}],
    },
    "metrics": {
        "last": {"val": {"iteration": 40, "figures": {"psnr": 21.0625, "ssim": 0.75}}},
        "best": {"val": {"psnr": {"iteration": 30, "value": 21.5}}},
    },
}


def metadata_of_run(
    toolbox: str, name: str, stage: str, val: str = "val", **network: object
) -> dict:
    """What tests' trainings of four iterations save, less the figures."""
    return {
        "network": {
            "type": "KTDN",
            "encoder": ENCODER,
            "mean": [0.64, 0.6, 0.58],
            "std": [0.14, 0.15, 0.152],
            "reduction": 8,
            "head": "tanh",
            "widths": None,
            **network,
        },
        "ktdn_plugin": __version__,
        "toolbox": toolbox,
        "run": {"name": name, "iteration": 4, "total": 4, "stage": stage},
        "data": {
            "train": [{"name": "train", "split": "", "fingerprint": "", "images": 6}],
            "val": [{"name": val, "split": "tiny-val", "fingerprint": "", "images": 2}],
        },
    }


def network(seed: int = 0, **options: object) -> KTDN:
    """A tiny KTDN in eval mode."""
    torch.manual_seed(seed)
    made = KTDN(**{"encoder": ENCODER, **options}).eval()
    if made.head == "affine":  # a tail of zeros would make any image of any weights
        for parameter in made.tail.parameters():
            nn.init.normal_(parameter, 0, 0.1)
    return made


def described_network(seed: int = 0) -> KTDN:
    """The one that ``METADATA`` tells of."""
    options = {key: value for key, value in METADATA["network"].items() if key != "type"}
    return network(seed, **options)


def with_metadata(folder: Path) -> Path:
    """Ours, as a training saves it: both sets of weights, and metadata."""
    path = folder / "net_g_40.pth"
    params, average = described_network(1).state_dict(), described_network(2).state_dict()
    torch.save({"params": params, "params_ema": average, "ktdn": METADATA}, path)
    return path


def published_weights(seed: int = 0) -> dict[str, Tensor]:
    """The published layout, its small entries at random; the large ones are one number each."""
    torch.manual_seed(seed)
    shapes = json.loads(KEYS.read_text(encoding="utf-8"))
    weights = {}
    for number, (key, shape) in enumerate(shapes.items(), start=1):
        if key.endswith("num_batches_tracked"):
            weights[key] = torch.tensor(number)
        elif len(shape) > 1:
            weights[key] = torch.tensor(number / 1000).expand(shape)
        else:
            weights[key] = torch.rand(shape) + 0.5
    return weights


def published_file(folder: Path) -> Path:
    """A file in the published layout."""
    path = folder / "KTDN.pth"
    weights = {f"module.{key}": value.clone() for key, value in published_weights().items()}
    torch.save({"model": weights}, path)
    return path


class MakesFolder:
    """Pickled, this is code: whoever loads it carelessly has a new folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.marker),)


class Marked(nn.Module):
    """Another restoration network."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_first = nn.Conv2d(3, 4, 3)
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3))
        self.conv_last = nn.Conv2d(4, 3, 3)


def _text(path: Path) -> None:
    path.write_text("no checkpoint")


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _truncated(path: Path) -> None:
    torch.save({"params": network().state_dict()}, path)
    path.write_bytes(path.read_bytes()[:-5000])


def _truncated_safetensors(path: Path) -> None:
    save_file(network().state_dict(), path)
    path.write_bytes(path.read_bytes()[:-5000])


def _code(path: Path) -> None:
    content = {"params": network().state_dict(), "x": MakesFolder(path.with_name("marker"))}
    torch.save(content, path)


def _code_as_metadata(path: Path) -> None:
    content = {"params": network().state_dict(), "ktdn": MakesFolder(path.with_name("marker"))}
    torch.save(content, path)


def _other(path: Path) -> None:
    torch.save({"params": Marked().state_dict()}, path)


def _other_named(path: Path) -> None:
    torch.save({"params": Marked().state_dict(), "ktdn": {"network": {"type": "Marked"}}}, path)


def _adapters(path: Path) -> None:
    torch.save({"params": {"adapters.mid.weight": torch.ones(2, 2, 1, 1)}}, path)


def _no_network(path: Path) -> None:
    torch.save({"epoch": 3}, path)


def _other_shapes(path: Path) -> None:
    torch.save({"params": network().state_dict(), "ktdn": METADATA}, path)


def _bad_metadata(path: Path) -> None:
    torch.save({"params": network().state_dict(), "ktdn": [1, 2]}, path)


def _bad_encoder(path: Path) -> None:
    described = {"network": {"type": "KTDN", "encoder": "hf-hub:somebody/resnet18"}}
    torch.save({"params": network().state_dict(), "ktdn": described}, path)


BAD = {
    "text.pth": (_text, "not a checkpoint file"),
    "empty.pth": (_empty, "truncated or damaged checkpoint (0 bytes)"),
    "truncated.pth": (_truncated, "truncated or damaged checkpoint"),
    "truncated.safetensors": (_truncated_safetensors, "not a readable safetensors file"),
    "text.safetensors": (_text, "not a readable safetensors file"),
    "code.pth": (_code, "refused"),
    "code_as_metadata.pth": (_code_as_metadata, "refused"),
    "other.pth": (_other, "a different network than KTDN (its 6 entries are in conv_first, body, "),
    "other_named.pth": (_other_named, "a checkpoint of a different network than KTDN: Marked"),
    "net_adapters_4.pth": (_adapters, "the adapters of a training, no network"),
    "no_network.pth": (_no_network, "contains no network weights (it has epoch)"),
    "other_shapes.pth": (_other_shapes, f"do not fit KTDN with encoder '{ENCODER}'"),
    "bad_metadata.pth": (_bad_metadata, "what it has as 'ktdn' is not metadata"),
    "bad_encoder.pth": (_bad_encoder, "'hf-hub:somebody/resnet18' is not a timm model"),
}
"""Name of a file: what writes it, and what is said of it."""


def bad_file(folder: Path, name: str) -> Path:
    """Writes one of the files in ``BAD``."""
    BAD[name][0](folder / name)
    return folder / name


def training_state(folder: Path) -> Path:
    """What BasicSR's side resumes from."""
    path = folder / "40.state"
    torch.save({"epoch": 1, "iter": 40, "optimizers": [], "schedulers": []}, path)
    return path


def assert_damage_is_one_error(
    name: str, content: bytes, damage: list[tuple[int, int]], read: Callable[[Path], object]
) -> None:
    """Changes bytes of a file; reading it succeeds, or ends in one line that names it."""
    damaged = bytearray(content)
    for position, value in damage:
        damaged[position % len(damaged)] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(damaged)
        message = f"{path}: "
        try:
            read(path)  # damage of the numbers alone cannot be seen
        except KTDNError as error:
            message = str(error)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
