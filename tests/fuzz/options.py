"""Options files with seeded mistakes: each is trained or refused by its lines, nothing else.

Each case is a shipped options file (on tiny images, with a tiny network) with one to three
mutations: odd values, keys dropped, renamed or moved, characters of the text changed. It goes
through all that ``ktdn train`` and ``ktdn test`` do before the first iteration, in a process that
does many; one that takes too long, or too much memory, is a fault.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from figures import Figures

PATIENCE = 20
"""Seconds that a case may take, on a busy machine."""

MEMORY = 12 * 2**30
"""Bytes of addresses that a process may have; torch itself has some three billion."""

OPTIONS = Path(__file__).parents[2] / "options"
FILES = ("train_teacher.yml", "train_ktdn.yml", "train_synthetic_haze.yml", "test_ktdn.yml")
FILES += tuple(f"demo/{name}" for name in ("train_teacher.yml", "train_ktdn.yml", "test_ktdn.yml"))
ENVIRONMENTS = (
    {"RANK": "abc", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"},
    {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "99999"},
    {"RANK": "3", "WORLD_SIZE": "-1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1.5"},
    {"SLURM_STEP_NUM_TASKS": "x", "SLURM_PROCID": "0"},
    {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "y", "SLURM_JOB_ID": "z"},
    {"WORLD_SIZE": "many"},
    {"TORCHELASTIC_RESTART_COUNT": "often"},
)
LAUGHS = "\n".join(
    ["a: &a0 [x, x, x, x, x, x, x, x, x]"]
    + [f"b{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
)
ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 3, 10**9, -(10**9), 2**63, 10**30, 0.5, -0.5, 1e300, 1e-300,
    float("inf"), float("nan"), "", " ", "x", "KTDN", "L1Loss", "Adam", "~nobody-at-all/x", "~",
    "/dev/zero", "/dev/null", "..", "../../x", "a\0b", "\x1b[2J", "\u202e", "\ud800", "x" * 300,
    "x/" * 200, [],
    {}, [0.9], [[]], [None], {"a": 1}, {"type": "x"}, {"type": ["x"]}, {1: 2}, {None: None},
    [1, 2, 3], ["a", "b"], {"type": "EDSR", "num_in_ch": 3, "num_out_ch": 3, "num_feat": -1},
    {"type": "KTDN", "encoder": ["x"]}, {"type": {}, "lr": 1}, "fifo", "0x10", "1e400", "$HOME",
)  # fmt: skip
TEXTS = (
    "!!int ''", "!!timestamp x", "2001-99-99", "2001-01-01", "!!set 1", "!!set {a}", "!!binary x",
    "!!float x", "!!bool maybe", "!!omap [a]", "!!pairs x", "!!python/name:os.system", "!!map 1",
    "!!null 3", "9" * 5000, "0x" + "f" * 9000, "1:" * 3000 + "1", "[" * 3000, "{a: " * 2000, "*a9",
    "&z [*z]", "&z {a: *z}", "? [1]\n: 2", "\t", "- -", "%YAML 9", "---\n---", "!<x> y", "<<: 3",
    "|", "'", '"', "`", "@", "\x07", "\x85", "\ufeff", "\u2028",
)  # fmt: skip


def run(seed: int, seconds: float, folder: Path) -> Figures:
    """Runs cases in children, each of which does as many as it survives."""
    figures = Figures()
    end, number = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        words = [sys.executable, __file__, str(seed), str(number), str(folder)]
        child = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert child.stdout is not None
        done = None
        for line in child.stdout:
            done = json.loads(line)
            number = done["case"] + 1
            if done["outcome"] in ("passed", "refused"):
                figures.count(done["outcome"])
            elif done["outcome"] != "started":
                figures.fault(done["outcome"], f"{seed}/{done['case']}: {done['what']}")
            if time.monotonic() > end and done["outcome"] != "started":
                break
        else:
            child.wait()
            if done is None:
                raise RuntimeError("the fuzzer's child does not start")
            if done["outcome"] == "started":
                what = "no answer" if child.returncode == -signal.SIGALRM else "died"
                figures.fault(f"{what} ({child.returncode})", f"{seed}/{done['case']}")
        child.kill()
        child.wait()
    return figures


def _values(opt: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = (
        opt.items() if isinstance(opt, dict) else enumerate(opt) if isinstance(opt, list) else ()
    )
    for key, value in items:
        yield (*path, key)
        yield from _values(value, (*path, key))


def _holder(opt: Any, path: tuple[Any, ...]) -> Any:
    for key in path[:-1]:
        opt = opt[key]
    return opt


def mutate(opt: Any, chance: random.Random) -> tuple[str, str]:
    """Returns a file's text with mutations, and what they are."""
    said, marks = [], {}
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        paths = list(_values(opt))
        path = chance.choice(paths)
        holder, key = _holder(opt, path), path[-1]
        kind = chance.choice(("odd", "odd", "odd", "text", "text", "drop", "rename", "move"))
        if kind in ("rename", "move") and not isinstance(holder, dict):
            kind = "odd"
        where = ".".join(map(str, path))
        if kind == "odd":
            holder[key] = copy.deepcopy(chance.choice(ODD))
            said.append(f"{where} = {str(holder[key])[:40]!r}")
        elif kind == "text":
            holder[key] = f"MARK{len(marks)}MARK"
            marks[holder[key]] = chance.choice(TEXTS)
            said.append(f"{where}: {marks[holder[key]][:40]!r}")
        elif kind == "drop":
            del holder[key]
            said.append(f"{where} dropped")
        elif kind == "rename":
            new = chance.choice((f"{key}x", str(key)[1:] or "x", 3, None, True, "type", "name"))
            holder[new] = holder.pop(key)
            said.append(f"{where} -> {new}")
        else:
            other = _holder(opt, chance.choice(paths))
            if isinstance(other, dict) and not _is_within(holder[key], other):
                other[key] = holder.pop(key)
                said.append(f"{where} moved")
    text = yaml.safe_dump(opt, sort_keys=False, allow_unicode=False, width=10**9)
    for mark, new in marks.items():
        text = text.replace(mark, new)
    if "*a9" in text:
        text = f"{LAUGHS}\n{text}"
    if chance.random() < 0.1:
        place = chance.randrange(len(text))
        new = chance.choice((":", "\n", "[", "- ", "#", "'", "\0", "&", "*", "!", "  "))
        text = text[:place] + new + text[place + 1 :]
        said.append(f"{new!r} at {place}")
    return text, "; ".join(said)


def _is_within(value: Any, other: Any) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return value is other or any(_is_within(one, other) for one in inner)


def _case(seed: int, number: int, shipped: dict[str, Any]) -> tuple[str, str, dict[str, str]]:
    chance = random.Random(f"{seed} {number}")
    name = chance.choice(list(shipped))
    environment = chance.choice(ENVIRONMENTS) if chance.random() < 0.03 else {}
    text, said = mutate(copy.deepcopy(shipped[name]), chance)
    return text, f"{name}: {said} {environment or ''}", environment


def _shipped(folder: Path) -> dict[str, Any]:
    """Returns the shipped options on tiny images, with a tiny network; it makes them at first."""
    import torch
    from helpers import write_png

    from ktdn_plugin import KTDN

    (folder / "experiments").mkdir(exist_ok=True)
    for kind in ("hazy", "clear"):
        for index in range(2):
            write_png(folder / kind / f"{index}.png", index, (64, 64))
    network = folder / "net.pth"
    torch.save({"params": KTDN("test_convnext").state_dict()}, network)
    with contextlib.suppress(FileExistsError):
        os.mkfifo(folder / "fifo")
    found = {}
    for name in FILES:
        opt = yaml.load((OPTIONS / name).read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        opt["name"], opt["num_gpu"] = "run", 0
        for phase, dataset in opt["datasets"].items():
            given = dataset.get("type")
            dataset.update(dataroot_gt="clear")
            for key in ("layout", "split"):
                dataset.pop(key, None)
            if given == "PairedHazeDataset":
                dataset["dataroot_lq"] = "hazy"
            if phase == "train":
                dataset.update(gt_size=48, batch_size_per_gpu=1, num_worker_per_gpu=0)
        for key in ("network_g", "network_t"):
            if key in opt:
                opt[key].update(encoder="test_convnext", pretrained=False)
        for key, value in (opt.get("path") or {}).items():
            if key.startswith("pretrain_") and value:
                opt["path"][key] = str(network)
        if "train" in opt:
            opt["train"].pop("teacher_min_psnr", None)
        found[name] = opt
    return found


def _serve(seed: int, number: int, folder: Path) -> None:
    """Is the child: does one case after the other, and says what came of it."""
    import resource

    os.chdir(folder)
    from ktdn_plugin.basicsr import register

    register()
    shipped = _shipped(folder)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    before = dict(os.environ)
    while True:
        text, what, environment = _case(seed, number, shipped)
        print(json.dumps({"case": number, "outcome": "started"}), file=answers, flush=True)
        os.environ.update(environment)
        signal.alarm(PATIENCE)  # which ends the process, wherever it hangs
        outcome, reason = _outcome(text, folder, is_train="test_ktdn" not in what)
        signal.alarm(0)
        os.environ.clear()
        os.environ.update(before)
        answer = {"case": number, "outcome": outcome, "what": f"{what} | {reason}"}
        print(json.dumps(answer), file=answers, flush=True)
        number += 1


def _outcome(text: str, folder: Path, is_train: bool) -> tuple[str, str]:
    from types import SimpleNamespace

    from ktdn_plugin.basicsr.startup import read_options_text, start_up
    from ktdn_plugin.errors import KTDNError
    from ktdn_plugin.training import distributed

    path = folder / "options.yml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    flags = SimpleNamespace(
        opt=path, launcher="none", auto_resume=False, debug=False, force_yml=None
    )
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            opt, state = start_up(flags, read_options_text(flags), folder, is_train)
            _build(opt, state, str(path), is_train)
    except (KTDNError, OSError) as error:
        lines = error.lines if isinstance(error, KTDNError) else [str(error)]
        good = lines and all(line.strip() for line in lines)
        return ("refused" if good else "silent"), " ".join(lines)[:300]
    except Exception as error:
        inner = error.__traceback__
        while inner is not None and inner.tb_next is not None:
            inner = inner.tb_next
        place = f"{inner.tb_frame.f_code.co_filename}:{inner.tb_lineno}" if inner else ""
        return "traceback", f"{type(error).__name__}: {str(error)[:200]} at {place[-60:]}"
    finally:
        distributed.leave(failed=True)
    return "passed", ""


def _build(opt: Any, state: Any, source: str, is_train: bool) -> None:
    """Builds loaders and model, as training and testing do before anything is written."""
    if is_train:
        from ktdn_plugin.basicsr.train import _Run

        _Run(opt, state, source)
    else:
        from ktdn_plugin.basicsr.test import _build as build
        from ktdn_plugin.errors import error_context

        opt["val"] = {"save_img": True, "suffix": None, **(opt.get("val") or {})}
        with error_context(source):
            build(opt)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    _serve(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
