"""Mutates every shipped mmengine config, and runs the command up to its first iteration.

Values are replaced by odd ones, keys are dropped, renamed and moved, types are swapped, and
``--cfg-options`` says odd things. Many cases share a process; one that ends the process, or never
answers, is told by its number.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CASES = 100  # of one process
LONGEST = 180  # seconds of one case, and of what a process loads before
ODD: tuple[Any, ...] = (
    None, True, 0, -1, 3, 10**9, 10**30, 1e300, float("nan"), float("inf"), "", "x", "\0", "..",
    "1e-4", "L1Loss", "~nobody/x", "no.pth", "\u202eabc", [], [[]], [1, 2], ["x"], {},
    {"type": "x"}, {"a": {"b": {}}}, {"type": {}}, {"type": "KTDN"}, [None],
)  # fmt: skip
TYPES = (
    "..", "", ".", "a.b", "L1Loss", "KTDN", "Adam", "SeededSampler", "PSNR", "ktdn_plugin.",
    "x.KTDN", "torch.nn.L1Loss", "builtins.print", "builtins.dict", "sys.exit", "mmengine.Nothing",
    3, None, [], {"type": "KTDN"}, "EMAHook", "ValLoop", "Visualizer", "KTDNDistiller",
    "ktdn_plugin.KTDNTeacher",
)  # fmt: skip
TEXTS = (
    "L1Loss", "..", "[", "(1,", "None", "1e400", "{'a':1}", "a=b", "", "[1,2", "''", "True", "-1",
    "x,y", "\0", "9" * 5000, "((((1))))", "1,[2", "dict(type='KTDN')",
)  # fmt: skip


def run(seed: int, seconds: float, folder: Path) -> Any:
    """Runs mutated configs for some seconds."""
    from figures import Figures

    figures = Figures()
    make_files(folder)
    end, start = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        left = end - time.monotonic()
        words = [sys.executable, __file__, str(seed), str(start), str(left), str(folder)]
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(words, timeout=left + LONGEST, capture_output=True, check=False)
        log = folder / "outcomes.jsonl"
        rows = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        log.unlink(missing_ok=True)
        for row in rows:
            if row["outcome"] in ("refused", "accepted"):
                figures.count(row["outcome"])
            elif row["outcome"] != "begun":
                figures.fault(row["outcome"], f"seed {seed} case {row['case']}: {row['detail']}")
        begun = [row for row in rows if row["outcome"] == "begun"]
        ended = {row["case"] for row in rows if row["outcome"] != "begun"}
        for row in begun:
            if row["case"] not in ended and time.monotonic() < end:
                figures.fault("process ended", f"seed {seed} case {row['case']}: {row['detail']}")
        start = max([row["case"] for row in begun], default=start) + 1
    return figures


def make_files(folder: Path) -> None:
    """Makes tiny pairs and a teacher, and the shipped configs with tiny networks on them."""
    from helpers import ENCODER, teacher_file, write_png

    from ktdn_plugin.mmengine.config import load_config
    from ktdn_plugin.option_files import options_folder

    for kind in ("hazy", "clear"):
        for number in range(3):
            write_png(folder / f"data/{kind}/{number}.png", number)
    teacher_file(folder)
    for path in sorted(options_folder().glob("mmengine/**/train_*.py")):
        cfg = load_config(path).to_dict()
        for key in ("student", "teacher", "generator"):
            if key in cfg["model"]:
                cfg["model"][key] = {"type": "KTDN", "encoder": ENCODER, "pretrained": False}
        if "teacher_checkpoint" in cfg["model"]:
            cfg["model"]["teacher_checkpoint"] = "teacher.pth"
        cfg["load_from"] = "teacher.pth" if cfg.get("load_from") else None
        for phase in ("train", "val", "test"):
            loader = cfg[f"{phase}_dataloader"]
            loader["num_workers"] = 0
            dataset = loader["dataset"]
            for key in ("layout", "dataroot_lq"):
                dataset.pop(key, None)
            dataset["dataroot_gt"] = "data/clear"
            if dataset["type"] == "PairedHazeDataset":
                dataset["dataroot_lq"] = "data/hazy"
            if "gt_size" in dataset:
                dataset["gt_size"] = 48
        name = f"{path.parent.name}_{path.stem}.json"
        (folder / name).write_text(json.dumps(cfg))


def mutated(cfg: Any, rng: random.Random) -> tuple[Any, list[str], str]:
    """Returns a changed config, flags, and what was changed."""
    places = list(_places(cfg))
    path = rng.choice(places)
    name = ".".join(map(str, path))
    if rng.random() < 0.3:
        text = rng.choice(TEXTS)
        return cfg, ["--cfg-options", f"{name}={text}"], f"--cfg-options {name}={text[:40]!r}"
    node, key = _parent(cfg, path), path[-1]
    how = rng.choice(("value", "value", "value", "type", "drop", "rename", "move"))
    if how == "type":
        path = rng.choice([one for one in places if one[-1] in ("type", "ema_type")])
        _parent(cfg, path)[path[-1]] = rng.choice(TYPES)
        return cfg, [], f"{'.'.join(map(str, path))}={_parent(cfg, path)[path[-1]]!r}"
    if how == "value" or isinstance(key, int):
        node[key] = copy.deepcopy(rng.choice(ODD))
        return cfg, [], f"{name}={node[key]!r}"
    if how == "move":
        other = rng.choice([one for one in places if isinstance(one[-1], str)])
        value = copy.deepcopy(node[key])
        _parent(cfg, other)[other[-1]] = value
        return cfg, [], f"{'.'.join(map(str, other))}={name}'s"
    value = node.pop(key)
    if how == "rename":
        cut = rng.randrange(len(key))
        node[key[:cut] + key[cut + 1 :]] = value
    return cfg, [], f"{how} {name}"


def _places(node: Any, path: tuple[Any, ...] = ()) -> Any:
    items: Any = node.items() if isinstance(node, dict) else ()
    if isinstance(node, list):
        items = enumerate(node)
    for key, value in items:
        yield (*path, key)
        yield from _places(value, (*path, key))


def _parent(node: Any, path: tuple[Any, ...]) -> Any:
    for key in path[:-1]:
        node = node[key]
    return node


def main(seed: int, start: int, seconds: float, folder: Path) -> None:
    """Runs cases one after the other in this process, and notes what comes of each."""
    from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, TestLoop, runner

    from ktdn_plugin.mmengine.loops import SeededTrainLoop

    for loop in (EpochBasedTrainLoop, IterBasedTrainLoop, SeededTrainLoop, TestLoop):
        loop.run = lambda self: None
    runner.collect_env = dict  # takes longer than all the rest
    os.chdir(folder)
    configs = {path.name: path.read_text() for path in sorted(folder.glob("*train_*.json"))}
    end = time.monotonic() + seconds
    with (folder / "outcomes.jsonl").open("a") as log:
        for case in range(start, start + CASES):
            if case > start and time.monotonic() > end:
                break
            rng = random.Random(f"{seed}/{case}")
            name = rng.choice(sorted(configs))
            cfg, flags, change = mutated(json.loads(configs[name]), rng)
            stage = ["train"] if rng.random() < 0.8 else ["test"]
            detail = f"{stage[0]} {name}: {change}"
            print(json.dumps({"case": case, "outcome": "begun", "detail": detail}), file=log)
            log.flush()
            (folder / "case.json").write_text(json.dumps(cfg))
            words = ["mmengine", *stage, "case.json", *(["teacher.pth"] * (stage == ["test"]))]
            outcome, said = one_case([*words, *flags])
            row = {"case": case, "outcome": outcome, "detail": f"{detail}: {said}"}
            print(json.dumps(row), file=log, flush=True)


def one_case(words: list[str]) -> tuple[str, str]:
    """Runs a command in this process."""
    from ktdn_plugin import cli

    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = cli.main(words)
    except SystemExit as error:
        return "exit", str(error.code)
    except BaseException as error:
        return "traceback", f"{type(error).__name__}: {str(error)[:200]}"
    if code == 0:
        return "accepted", ""
    lines = [line for line in err.getvalue().splitlines() if line.startswith("error: ")]
    named = [line for line in lines if "case.json: " in line or "--cfg-options" in line]
    if len(lines) > len(named) and not lines[0].count(":") > 1:
        return "nothing named", lines[0]
    return ("refused" if lines else "silent"), " | ".join(lines)[:500]


if __name__ == "__main__":
    sys.path[:0] = [str(HERE), str(HERE.parent)]
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), Path(sys.argv[4]))
