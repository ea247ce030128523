"""Images of formats that are not read are counted wherever a folder is read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from helpers import write_png

# In one process, since starting four takes longer than all that they do.
COMMANDS = """
from pathlib import Path
from ktdn_plugin.cli import main
from ktdn_plugin.data.options import configure_paired
from ktdn_plugin.dehaze import dehaze_all
main(["prepare", "prepared", "store"])
main(["check-data", "checked"])  # refused: hazy and clear are too much alike
roots = {"dataroot_gt": "trained/clear", "dataroot_lq": "trained/hazy"}
configure_paired({**roots, "gt_size": 8}, True)
dehaze_all([Path("dehazed/hazy")], Path("out"), lambda: lambda image: image)
"""


def test_every_command_says_what_of_a_folder_it_leaves_out(tmp_path: Path) -> None:
    for folder in ("prepared", "checked", "trained", "dehazed"):
        for side in ("hazy", "clear"):
            write_png(tmp_path / folder / side / "1.png", 1)
        for name in ("2.psd", "3.PSD", "4.jp2", "5.txt"):
            (tmp_path / folder / "hazy" / name).touch()
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    skipped = [line for line in done.stderr.splitlines() if "left out: " in line]
    assert skipped == [
        f"{Path(folder, 'hazy')}: left out: 2 PSD, 1 JPEG 2000, 1 .txt; save unread images as "
        "PNG, JPEG, WebP or TIFF first"
        for folder in ("prepared", "checked", "trained", "dehazed")
    ]
