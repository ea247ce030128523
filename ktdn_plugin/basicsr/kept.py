"""Which checkpoints of a run stay on the disk."""

from __future__ import annotations

import re
from pathlib import Path

from ktdn_plugin.basicsr.options import Options

_NUMBERED = re.compile(r"net_\w+?_(\d+)\.pth")


def keep_newest(opt: Options) -> None:
    """Deletes all but the newest states with their networks, ``logger.keep_checkpoints`` of them.

    ``net_g_best.pth`` and ``net_g_latest.pth`` are never deleted.
    """
    count = opt["logger"].get("keep_checkpoints")
    if count is None or opt["rank"] != 0:
        return
    states = {
        int(file.stem): file
        for file in Path(opt["path"]["training_states"]).glob("*.state")
        if file.stem.isdigit()
    }
    kept = sorted(states)[-count:]
    for iteration in states.keys() - set(kept):  # first, so that no state lacks its networks
        states[iteration].unlink(missing_ok=True)
    for file in Path(opt["path"]["models"]).glob("net_*.pth"):
        match = _NUMBERED.fullmatch(file.name)
        if match and int(match[1]) not in kept and int(match[1]) < kept[-1]:
            file.unlink(missing_ok=True)


def clear_drafts(opt: Options) -> None:
    """Deletes what a run that was killed while saving left half-written."""
    if opt["rank"] == 0:
        for key in ("models", "training_states"):
            for draft in Path(opt["path"][key]).glob(".*.tmp"):
                draft.unlink(missing_ok=True)
