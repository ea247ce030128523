"""Kills a training at random moments and starts it again, until it is through.

    python kill_repeatedly.py OPTIONS SEED KILLS

Every attempt is a process of its own that runs the command line; it is forked from one that has
loaded torch and BasicSR already, so that thirty attempts take a minute. The report, a JSON object,
says how many attempts were killed at what kind of moment.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from ktdn_plugin import cli
from ktdn_plugin.basicsr import register

ATTEMPTS = 200
PATIENCE = 400  # seconds until an attempt counts as hanging, on a busy machine as well


def start(options: str) -> int:
    child = os.fork()
    # A group of its own, so that its data workers die with it; made by both, for whichever is first
    # must find it.
    os.setpgid(child, child)
    if child:
        return child
    log = os.open("attempts.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    code = 1
    try:
        code = cli.main(["train", "-opt", options, "--auto_resume"])
    finally:
        sys.stdout.flush()
        os._exit(code)


def is_saving(run: Path) -> bool:
    return any(run.glob("models/.*.tmp")) or any(run.glob("training_states/.*.tmp"))


def is_validating(run: Path, freq: int) -> bool:
    try:
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    except (OSError, ValueError):
        return False
    return bool(rows) and rows[-1]["kind"] == "train" and rows[-1]["iter"] % freq == 0


def main(options: str, seed: int, kills: int) -> None:
    draw = random.Random(seed)
    register()
    import basicsr.models  # noqa: F401  (loaded once, for all attempts)

    run, freq = Path("experiments/teacher"), 3
    moments = {"random": 0, "saving": 0, "validating": 0}
    codes = []
    for attempt in range(ATTEMPTS):
        done = sum(moments.values()) >= kills
        moment = ("random", "saving", "validating")[attempt % 3]
        child = start(options)
        until = time.monotonic() + draw.uniform(0.3, 2.0)
        began = time.monotonic()
        while True:
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                codes.append(os.waitstatus_to_exitcode(status))
                break
            if time.monotonic() - began > PATIENCE:
                raise SystemExit("an attempt hangs")
            if moment == "random":
                is_due = time.monotonic() > until
            else:
                is_due = is_saving(run) if moment == "saving" else is_validating(run, freq)
            # Some moments that are looked for have to pass, or nothing would ever be trained.
            if not done and is_due and (moment == "random" or draw.random() < 0.2):
                os.killpg(child, signal.SIGKILL)
                os.waitpid(child, 0)
                moments[moment] += 1
                break
            time.sleep(0.001)  # the training needs the processor
        if codes:
            break
    print(json.dumps({"moments": moments, "code": codes[-1] if codes else None}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
