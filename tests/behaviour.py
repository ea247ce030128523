"""What the command line does, written down, so that a large change can be compared with it.

    python tests/behaviour.py record before.json
    ... change ...
    python tests/behaviour.py compare before.json

Each command runs in a process of its own, in a scratch folder of fixed pictures. Its exit code, the
figures of its tables, and the files it makes (pictures by their pixels) are what is compared;
wording is not. Flags keep the spelling they had when this was written: users' scripts do as well.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
from helpers import student_options, teacher_options, write_options, write_png
from PIL import Image

ROOT = Path(__file__).parents[1]
FIGURE = re.compile(r"(?<![\w.])-?\d+\.\d+(?![\w.])")
CLOSE = 2e-3
"""Of figures: what other versions of the same arithmetic may differ by."""

COMMANDS = [
    "info ktdn_small ktdn_tiny",
    "models *tiny* --size 64x64",
    "options -o my_options",
    "options -o my_options",  # it is there: refused
    "dehaze photos -o dehazed --format png",
    "dehaze photos -o dehazed --format png",  # all there: skipped
    "dehaze photos -o dehazed --format png --strength 0.5",  # made otherwise: refused
    "dehaze photos/plain.png -o one.jpg --checkpoint ktdn_tiny --strength 0.7 --quality 90",
    "dehaze photos/large.png -o stripes.png --max_memory 900MB",
    "dehaze photos/plain.png -o gone/there.xyz",
    "dehaze nothing.png",
    "dehaze photos --checkpiont ktdn_tiny",
    "dehaze folders/hazy --gt folders/clear -o with_gt --compare",
    "dehaze flat --gt flat -o flat_gt",
    "evaluate with_gt --gt folders/clear --hazy folders/hazy --baseline hazy dcp"
    " --checkpoint tiny=ktdn_tiny --y --per-image -o table.csv",
    "evaluate --gt flat --baseline hazy -o flat.csv",
    "evaluate --gt folders --baseline hazy -o folders.csv --split mine",
    "evaluate photos --gt folders/clear",
    "prepare folders folders.store",
    "prepare flat flat.store --workers 1",
    "prepare folders clear.store --clear_only",
    "evaluate --gt folders.store --baseline hazy -o store.csv",
    "dehaze folders.store -o from_store --gt folders.store",
    "check-data folders",
    "check-data folders.store flat.store",
    "check-data broken",
    "report with_gt --gt folders/clear --hazy folders/hazy -o page.html",
    "haze photos/plain.png -o hazed --seed 3 --density 2 3 --transmission",
    "haze --options teacher.yml -o sheet.png --count 4",
    "train -opt teacher.yml",
    "train -opt student.yml",
    "train -opt student.yml",  # there is one of that name: archived
    "train -opt broken.yml",
    "test -opt evaluation.yml",
    "curves experiments/teacher experiments/student -o curves.png",
    "report experiments/student with_gt -o runs.html --photos 2",
    "info experiments/student/models/net_g_latest.pth --json",
    "convert experiments/student/models/net_g_latest.pth s.safetensors --half",
    "convert experiments/student/models/net_g_latest.pth p.pth --to published",
    "convert s.safetensors m.pth --to mmengine --overwrite",
    "evaluate --gt folders --checkpoint s=s.safetensors --checkpoint m=m.pth -o layouts.csv",
    "mmengine check student.py",  # there is no such stage
    "mmengine train student.py",
    "mmengine test student.py work_dirs/student/iter_4.pth",
    "curves work_dirs/student -o mmengine.png",
    "shim neosr --for neosr",
    "comfyui ComfyUI",
    "env",
    "trian -opt teacher.yml",
]


def make_pictures(folder: Path) -> None:
    """Makes photographs of all sorts, and pairs in two layouts."""
    photos = folder / "photos"
    write_png(photos / "plain.png", 1)
    write_png(photos / "large.png", 2, (384, 512))
    picture = cv2.imread(str(photos / "plain.png"))
    cv2.imwrite(str(photos / "deep.png"), picture.astype(np.uint16) * 257 + 100)
    cv2.imwrite(str(photos / "grey.png"), picture[..., 0])
    cv2.imwrite(str(photos / "alpha.png"), np.dstack([picture, picture[..., 0]]))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture[..., ::-1]).save(photos / "turned.jpg", quality=95, exif=exif)
    (photos / "broken.jpg").write_bytes((photos / "turned.jpg").read_bytes()[:300])
    for index in range(3):
        name = f"{index:02}"
        for layout, hazy, clear in (
            ("folders", f"hazy/{name}.png", f"clear/{name}.png"),
            ("flat", f"{name}_hazy.png", f"{name}_GT.png"),
            ("train", f"hazy/{name}.png", f"clear/{name}.png"),
            ("val", f"hazy/{name}.png", f"clear/{name}.png"),
        ):
            write_png(folder / layout / clear, 10 + index)
            image = cv2.imread(str(folder / layout / clear))
            (folder / layout / hazy).parent.mkdir(exist_ok=True)
            cv2.imwrite(str(folder / layout / hazy), image // 2 + 100)
    write_png(folder / "broken/hazy/1.png", 1)
    write_png(folder / "broken/clear/1.png", 2, (64, 96))
    (folder / "broken/hazy/2.png").write_bytes(b"\x89PNG")


def write_configs(folder: Path) -> None:
    """Writes the options files and the config that commands above name."""
    sys.path.insert(0, str(ROOT / "tests/mmengine"))
    from configs import student_config, write_config

    write_options(folder, teacher_options())
    student = student_options()
    student["logger"]["keep_checkpoints"] = 1
    write_options(folder, student)
    student["train"]["pixel_opt"]["type"] = "L1Los"
    student["trian"] = {}
    write_options(folder, student, "broken.yml")
    evaluation = {
        "name": "evaluation",
        "model_type": "KTDNModel",
        "num_gpu": 0,
        "datasets": {"test": {"name": "pairs", **student["datasets"]["val"]}},
        "network_g": student["network_g"],
        "path": {"pretrain_network_g": "experiments/student/models/net_g_latest.pth"},
        "val": {**student["val"], "save_img": True},
    }
    write_options(folder, evaluation)
    checkpoint = "experiments/teacher/models/net_g_latest.pth"
    write_config(folder, student_config(model__teacher_checkpoint=checkpoint), "student.py")
    for program in ("ComfyUI/custom_nodes", "neosr/neosr/archs"):
        (folder / program).mkdir(parents=True)


def describe(path: Path) -> object:
    """Returns what of a file is compared: a picture's sizes and means, a table's figures."""
    suffix = path.suffix.lower()
    if suffix in {".png", ".jpg"} and "curves" not in path.name and "mmengine" not in path.name:
        pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        means = [round(float(value), 1) for value in np.atleast_1d(pixels.mean((0, 1)))]
        return [*pixels.shape, str(pixels.dtype), *means]
    if suffix in {".csv", ".md"}:
        return [round(float(value), 4) for value in FIGURE.findall(path.read_text("utf-8"))]
    return None


def record(folder: Path) -> list[dict]:
    """Runs all commands in a folder and returns what each did."""
    make_pictures(folder)
    write_configs(folder)
    seen = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    rows = []
    for command in COMMANDS:
        print(command, file=sys.stderr)
        done = subprocess.run(
            [sys.executable, "-m", "ktdn_plugin", *command.split()],
            cwd=folder, env=environment, capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        made = {
            re.sub(r"\d{8}_\d{6}", "TIME", name): describe(folder / name)
            for name in sorted(files - seen)
            if "/.ktdn-" not in name and "/vis_data/" not in name
        }
        seen |= files
        rows.append(
            {
                "command": command,
                "exit": done.returncode,
                "traceback": "Traceback" in done.stderr,
                "made": made,
                "stderr": done.stderr.splitlines()[-3:],
            }
        )
    return rows


def differences(before: list[dict], after: list[dict]) -> list[str]:
    """Returns a line for each thing that is not as it was."""
    lines = [
        f"{command}: is no longer among the commands"
        for command in {row["command"] for row in before} - set(COMMANDS)
    ]
    before = [row for row in before if row["command"] in COMMANDS]
    for one, other in zip(before, after, strict=True):
        command = one["command"]
        if (one["exit"], one["traceback"]) != (other["exit"], other["traceback"]):
            lines.append(f"{command}: exit {one['exit']} -> {other['exit']} {other['stderr']}")
        for name in sorted(one["made"].keys() | other["made"].keys()):
            if name not in other["made"]:
                lines.append(f"{command}: {name} is no longer made")
            elif name not in one["made"]:
                lines.append(f"{command}: {name} is made now")
            elif not _alike(one["made"][name], other["made"][name]):
                lines.append(f"{command}: {name}: {one['made'][name]} -> {other['made'][name]}")
    return lines


def _alike(one: object, other: object) -> bool:
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return all(map(_alike, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= max(CLOSE, 1e-3 * abs(one))
    return one == other


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=["record", "compare"])
    parser.add_argument("file", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = record(Path(folder))
    if args.action == "record":
        args.file.write_text(json.dumps(rows, indent=1))
        return 0
    lines = differences(json.loads(args.file.read_text()), rows)
    print("\n".join(lines) or f"{len(rows)} commands do what they did")
    return bool(lines)


if __name__ == "__main__":
    sys.exit(main())
