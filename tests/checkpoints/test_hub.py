"""KTDN on the Hugging Face Hub: pushed and loaded through a stand-in, and from folders."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hub_stand_in import Hub
from huggingface_hub import ModelCard
from safetensors.torch import save

import ktdn_plugin
from ktdn_plugin import KTDN, KTDNError, load_network
from ktdn_plugin.checkpoints import Checkpoint
from ktdn_plugin.model_zoo.weights import find_shipped

OPTIONS = {"head": "affine", "widths": (48, 20, 40), "mean": (0.5, 0.4, 0.3), "reduction": 4}
PROGRAM = """
import json, sys, torch
from ktdn_plugin import KTDN, KTDNError, load_network
from ktdn_plugin.checkpoints import Checkpoint

pushed = load_network("ktdn_tiny")
config = Checkpoint.read("ktdn_tiny").metadata
commit = pushed.push_to_hub("me/tiny", config=config, model_card_kwargs={"license": "mit"})
loaded = KTDN.from_pretrained("me/tiny")
both = zip(pushed.state_dict().items(), loaded.state_dict().items(), strict=True)
said = {
    "commit": str(commit),
    "equal": all(a[0] == b[0] and torch.equal(a[1], b[1]) for a, b in both),
    "network": [loaded.encoder.name, loaded.head, loaded.training],
    "errors": {},
}
for name in sys.argv[1:]:
    try:
        KTDN.from_pretrained(name)
    except KTDNError as error:
        said["errors"][name] = str(error)
try:
    pushed.push_to_hub("closed/tiny")
except KTDNError as error:
    said["errors"]["closed/tiny"] = str(error)
print(json.dumps(said))
"""


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def network() -> KTDN:
    torch.manual_seed(0)
    return KTDN("test_resnet", **OPTIONS).eval()


def assert_same(one: KTDN, other: KTDN) -> None:
    both = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    assert all(a == b and torch.equal(x, y) for (a, x), (b, y) in both)
    image = torch.rand(1, 3, 40, 50)
    with torch.no_grad():
        assert torch.equal(one(image), other(image))


@pytest.mark.slow
def test_pushed_and_loaded(hub: Hub, tmp_path: Path) -> None:
    weights = find_shipped("ktdn_tiny").read_bytes()
    other = save({"layer.weight": torch.zeros(3)})
    foreign = json.dumps({"encoder": "resnet18", "hidden_size": 3}).encode()
    config = b'{"network": {"type": "KTDN", "encoder": "mobilenetv2_100", "head": "affine"}}'
    hub.repositories |= {
        "me/foreign": {"config.json": foreign, "model.safetensors": weights},
        "me/other": {"config.json": config, "model.safetensors": other},
        "me/empty": {"README.md": b"# nothing"},
        "me/broken": {"config.json": b"{", "model.safetensors": weights},
        "me/cut": {"config.json": config, "model.safetensors": weights[:9999]},
    }
    expected = {
        "me/gone": "me/gone: no such repository on the Hugging Face Hub, or a private one: check",
        "not a name": "not a name: neither a folder nor a repository's name, user/repo",
        "me/empty": "me/empty: no KTDN is in this repository: it has no config.json",
        "me/foreign": "me/foreign/config.json: has no 'network', which KTDN's have",
        "me/broken": "me/broken/config.json: ",
        "me/other": "me/other/model.safetensors: a different network than KTDN",
        "me/cut": "me/cut/model.safetensors: not a readable safetensors file",
        "closed/tiny": "closed/tiny: the Hugging Face Hub: ",
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *(name for name in expected if name != "closed/tiny")],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(ktdn_plugin.__file__).parents[1]),
            "HF_ENDPOINT": hub.address,
            "HF_HOME": str(tmp_path / "cache"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_OFFLINE": "0",
            "HF_TOKEN": "hf_stand_in",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["commit"].endswith("/me/tiny/commit/" + "1" * 40)
    assert said["equal"]
    assert said["network"] == ["mobilenetv2_100", "affine", False]
    for name, wanted in expected.items():
        assert said["errors"][name].startswith(wanted)
        assert len(said["errors"][name].splitlines()) == 1
    pushed = hub.repositories["me/tiny"]
    assert {"config.json", "model.safetensors", "README.md"} <= set(pushed)
    card = ModelCard(pushed["README.md"].decode())
    assert card.data.license == "mit"
    assert card.data.pipeline_tag == "image-to-image"
    assert card.data.library_name == "ktdn-plugin"
    assert 'KTDN.from_pretrained("me/tiny")' in card.text
    assert "| trained on | photographs: split folders/photographs" in card.text


def test_folders(tmp_path: Path) -> None:
    made, folder = network(), tmp_path / "net"
    assert made.save_pretrained(folder) is None
    assert_same(KTDN.from_pretrained(folder), made)
    # The weights alone are a checkpoint of ours.
    assert_same(load_network(folder / "model.safetensors"), made)
    saved = json.loads((folder / "config.json").read_text())
    assert saved == Checkpoint.read(folder / "model.safetensors").metadata
    assert saved["network"]["widths"] == [48, 20, 40]
    assert "| training | not recorded in the file |" in (folder / "README.md").read_text()
    (folder / "README.md").write_text("mine")
    made.save_pretrained(folder, config={"run": {"stage": "teacher"}})
    assert (folder / "README.md").read_text() == "mine"
    assert json.loads((folder / "config.json").read_text())["run"] == {"stage": "teacher"}


def test_what_is_wrong_is_one_line(tmp_path: Path) -> None:
    made = network()
    (tmp_path / "empty").mkdir()
    with pytest.raises(KTDNError, match=r"empty: no KTDN is in this folder: it has no config.json"):
        KTDN.from_pretrained(tmp_path / "empty")
    with pytest.raises(KTDNError, match=r"config: describes another network, with head tanh; this"):
        made.save_pretrained(tmp_path / "new", config={"network": {"head": "tanh"}})
    with pytest.raises(KTDNError, match=r"config: is a dictionary, not a str"):
        made.save_pretrained(tmp_path / "new", config="net.pth")
    assert not (tmp_path / "new").exists()
    made.save_pretrained(tmp_path / "net")
    config = tmp_path / "net" / "config.json"
    config.write_text(config.read_text().replace('"affine"', '"tanh"'))
    with pytest.raises(KTDNError, match=r"model.safetensors: its weights do not fit KTDN"):
        KTDN.from_pretrained(tmp_path / "net")
