"""``ktdn bench transfer``: what knowledge transfer adds to a student, measured by training it.

The same student is trained with the teacher named in its options file, without a teacher, and with
an untrained teacher as a control, which must not help as much.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ktdn_plugin.console import print_lines
from ktdn_plugin.csv_files import write_csv
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.subcommands import run_subcommand
from ktdn_plugin.text_tables import markdown_lines

WITHOUT, UNTRAINED, TRANSFER = "without", "untrained", "transfer"
VARIANTS = {
    WITHOUT: "no teacher",
    UNTRAINED: "untrained teacher",
    TRANSFER: "trained teacher",
}
# The teacher's options, in the form that --force_yml takes.
NO_TEACHER = (
    *("train:transfer_opt=~", "train:teacher_min_psnr=~", "network_t=~"),
    *("path:pretrain_network_t=~", "path:param_key_t=~"),
)


class Figure(NamedTuple):
    """A trained student's figure on one validation set."""

    variant: str
    seed: int
    set: str
    name: str
    value: float


def run_bench_transfer(options: Path, seeds: Sequence[int] = (0, 1, 2)) -> None:
    """Trains a student in three ways with several seeds, and prints a table.

    The runs go to ``experiments/NAME_VARIANT_sSEED``. Existing runs are resumed, and finished ones
    only read, so the command can be interrupted, and run again with more seeds. The table is also
    written to ``experiments/NAME_transfer.csv``, with one row per figure.

    Args:
        options: Options file of a student with ``train.transfer_opt`` and validation sets.
        seeds: ``manual_seed`` of the runs; each variant is run once per seed.

    Raises:
        KTDNError: If the options are not for such a student, or a training fails.
    """
    opt = _load(options)
    if len(set(seeds)) < len(seeds):
        raise KTDNError(f"--seeds {' '.join(map(str, seeds))}: each seed only once")
    home, name = Path("experiments"), opt["name"]
    runs = [(variant, seed) for seed in seeds for variant in VARIANTS]
    began, figures = time.monotonic(), []
    for number, (variant, seed) in enumerate(runs, start=1):
        left = ""
        if number > 1:
            seconds = (time.monotonic() - began) / (number - 1) * (len(runs) - number + 1)
            left = f", about {seconds / 60:.0f} minutes left"
        print_lines("", f"[{number}/{len(runs)}] {VARIANTS[variant]}, seed {seed}{left}")
        run = f"{name}_{variant}_s{seed}"
        changes = [f"name={run}", f"manual_seed={seed}"]
        if variant == WITHOUT:
            changes += NO_TEACHER
        elif variant == UNTRAINED:
            teacher = home / f"{name}_untrained_teachers" / f"s{seed}.pth"
            _save_untrained(opt, seed, teacher)
            changes += [
                f"path:pretrain_network_t={teacher.as_posix()}",
                "path:param_key_t=params",
                "train:teacher_min_psnr=~",  # it reconstructs nothing
            ]
        run_subcommand(["train", "-opt", str(options), "--auto_resume", "--force_yml", *changes])
        figures += _read(home / run, variant, seed)
    table = home / f"{name}_transfer.csv"
    rows = [(*figure[:4], f"{figure.value:.4f}") for figure in figures]
    write_csv(table, [("variant", "seed", "set", "metric", "value"), *rows])
    print_lines("", *format_transfer_table(figures), "", f"Table: {table}")


def _load(path: Path) -> dict[str, Any]:
    from ktdn_plugin.basicsr.options.loading import load_options

    opt = load_options(path)
    for key, what in (
        ("name", "a name for its runs"),
        ("network_g", "a student"),
        ("network_t", "a teacher"),
        ("path.pretrain_network_t", "the teacher's checkpoint"),
        ("train.transfer_opt", "a transfer loss to do without"),
        ("val", "validation to compare by"),
    ):
        section: Any = opt
        for part in key.split("."):
            section = section.get(part) if isinstance(section, dict) else None
        if not section:
            raise KTDNError(f"{path}: {key}: missing; bench transfer needs {what}")
    return opt


def _save_untrained(opt: Mapping[str, Any], seed: int, path: Path) -> None:
    """Saves the teacher as before its first step, its encoder pretrained as the student's."""
    from ktdn_plugin.basicsr.building import build_registered_network
    from ktdn_plugin.checkpoints.saving import save_checkpoint

    options = dict(opt["network_t"])
    student = opt["network_g"]
    if options.get("encoder") == student.get("encoder") and "pretrained" in student:
        options["pretrained"] = student["pretrained"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_registered_network(options)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint({"params": network.state_dict()}, path)


def _read(folder: Path, variant: str, seed: int) -> list[Figure]:
    from ktdn_plugin.curves.runs import read_run

    return [
        Figure(variant, seed, set_name, metric, curve.last[1])
        for (set_name, metric), curve in read_run(folder).metrics.items()
        if curve.last is not None
    ]


def format_transfer_table(figures: Sequence[Figure]) -> list[str]:
    """Formats figures as lines of a Markdown table: mean and standard deviation over the seeds.

    A second table has the gain over no teacher, from pairs of runs with equal seeds.

    Args:
        figures: Figures of the variants in :data:`VARIANTS`, with equal seeds.
    """
    values: dict[tuple[str, str, str], dict[int, float]] = {}
    for one in figures:
        values.setdefault((one.variant, one.set, one.name), {})[one.seed] = one.value
    columns = list(dict.fromkeys((one.set, one.name) for one in figures))
    heads = [f"{set_name} {metric}" for set_name, metric in columns]
    shown: list[list[str]] = [["", *heads]]
    for variant, words in VARIANTS.items():
        cells = [_spread(list(values.get((variant, *column), {}).values())) for column in columns]
        shown.append([words, *cells])
    for variant in (UNTRAINED, TRANSFER):
        cells = []
        for column in columns:
            mine, base = values.get((variant, *column), {}), values.get((WITHOUT, *column), {})
            cells.append(_spread([mine[s] - base[s] for s in mine if s in base], signed=True))
        shown.append([f"gain by {VARIANTS[variant]}", *cells])
    return markdown_lines(shown)


def _spread(values: Sequence[float], signed: bool = False) -> str:
    if not values:
        return "-"
    mean = f"{statistics.fmean(values):{'+' if signed else ''}.3f}"
    return f"{mean} ± {statistics.stdev(values):.3f}" if len(values) > 1 else mean
