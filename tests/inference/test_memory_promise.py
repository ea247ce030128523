"""The memory that a real process takes, as the system counts it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from golden_rule import draw_weights

from ktdn_plugin import KTDN

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="VmHWM is Linux's"),
    pytest.mark.slow,
]

HEIGHT, WIDTH = 1200, 1600

ALLOCATOR = 1.05
"""What the process may hold beyond its tensors: pieces between blocks in use."""

START = f"""
import json, sys
import numpy as np
import torch
from ktdn_plugin.checkpoints.networks import load_network
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.inference import Dehazer
from ktdn_plugin.system_memory import forget_peak, peak_resident, resident
torch.set_num_threads(1)
path = sys.argv[1]
image = np.random.RandomState(0).randint(0, 256, ({HEIGHT}, {WIDTH}, 3)).astype(np.uint8)
said = {{}}
def digest(result):
    return float(result[::7].astype(np.float64).mean())
"""

# What is measured here is less the process's libraries: those are the same for both.
ASK = """
network = load_network(path)
dehazer = Dehazer(network, device="cpu")
dehazer(image[:64, :64])  # libraries load some of their code when it is first run
said["fast"], said["least"] = dehazer.needs(*image.shape[:2])
forget_peak()
before = resident()
dehazer(image)
said["ours"] = peak_resident() - before
said["predicted"] = dehazer._planner.plan(1, (1200, 1600), None).peak + image.nbytes
forget_peak()
before = resident()
with torch.inference_mode():
    made = network(torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255)
    made = (made.clamp(0, 1) * 255).round()[0].permute(1, 2, 0).to(torch.uint8).numpy()
said["plain"] = peak_resident() - before
said["digest"] = digest(made)
"""

REFUSED = """
import re
ran = []
dehazer = Dehazer(path, device="cpu", max_memory="100MB")
engine, _ = dehazer._planner.engine, dehazer._planner.twin  # rehearsals run the copy
run, engine.run = engine.run, lambda *_: ran.append(1)
try:
    dehazer(image)
except KTDNError as error:
    said["message"] = str(error)
said["ran"] = len(ran)
engine.run = run
dehazer.max_memory = re.search(r"([0-9]+MB) is enough", said["message"]).group(1)
said["limit"] = dehazer.max_memory
said["digest"] = digest(dehazer(image))
said["peak"] = peak_resident()
"""

RUN = """
dehazer = Dehazer(path, device="cpu", max_memory=int(sys.argv[2]))
said["digest"] = digest(dehazer(image))
said["peak"] = peak_resident()
dehazer.max_memory = int(sys.argv[3])
dehazer.strength = 0.7
dehazer(image)
said["next peak"] = peak_resident()
said["limit"] = dehazer.max_memory
"""


def in_a_process(code: str, *words: object) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", f"{START}\n{code}\nprint(json.dumps(said))", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = KTDN("test_resnet")
    draw_weights(network, ("bn2.weight",))
    path = tmp_path_factory.mktemp("checkpoint") / "net.pth"
    torch.save({"params": network.state_dict()}, path)
    return path


@pytest.fixture(scope="module")
def asked(checkpoint: Path) -> dict[str, Any]:
    return in_a_process(ASK, checkpoint)


def test_the_plain_network_takes_several_times_as_much(asked: dict[str, Any]) -> None:
    assert asked["least"] < asked["fast"]
    assert asked["plain"] > 3 * asked["ours"]


def test_the_rehearsal_predicts_what_a_run_takes(asked: dict[str, Any]) -> None:
    assert asked["ours"] <= asked["predicted"]
    # It may count a little too much, not a multiple.
    assert asked["predicted"] <= 1.3 * asked["ours"] + 24 * 2**20


def test_the_process_stays_below_the_limit(checkpoint: Path, asked: dict[str, Any]) -> None:
    between = (asked["least"] + asked["fast"]) // 2
    # Other than what was asked, this process holds nothing beside the checkpoint.
    got = in_a_process(RUN, checkpoint, asked["least"], between)
    assert got["peak"] < ALLOCATOR * asked["least"]
    assert got["next peak"] < ALLOCATOR * between
    assert between == got["limit"]
    assert abs(got["digest"] - asked["digest"]) < 0.01


def test_too_small_a_limit_is_refused_with_one_that_is_enough(
    checkpoint: Path, asked: dict[str, Any]
) -> None:
    got = in_a_process(REFUSED, checkpoint)
    assert got["ran"] == 0
    assert re.fullmatch(
        r"1600 x 1200 pixels do not fit into max memory 100MB in precision float32; \d+MB is "
        r"enough, of which \d+MB is already in use",
        got["message"],
    )
    assert got["peak"] < ALLOCATOR * got["limit"]
    assert got["limit"] < asked["fast"]
    assert abs(got["digest"] - asked["digest"]) < 0.01
