"""What the commands say of mistyped words, of missing packages, and of their version."""

from __future__ import annotations

import argparse
import sys

import numpy as np
import pytest
import torch

import ktdn_plugin
from ktdn_plugin import cli, commands
from ktdn_plugin.commands import info
from ktdn_plugin.commands.parsing import Parser


def said(capsys: pytest.CaptureFixture, *words: str, entry=cli.main) -> list[str]:
    """Gives what standard error has of a command that is refused."""
    with pytest.raises(SystemExit) as left:
        entry(list(words))
    assert left.value.code == 2
    return capsys.readouterr().err.splitlines()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            "dehaze photo.png --chekpoint net.pth",
            "dehaze: there is no flag --chekpoint; did you mean '--checkpoint'?",
        ),
        # Also where argparse would rather miss something, or take the value for an input.
        (
            "dehaze --chekpoint=net.pth",
            "dehaze: there is no flag --chekpoint; did you mean '--checkpoint'?",
        ),
        ("train --otp x.yml", "train: there is no flag --otp; did you mean '--opt'?"),
        ("train -otp x.yml", "train: there is no flag -otp; did you mean '-opt'?"),
        (
            "mmengine train config.py --workdir x",
            "mmengine train: there is no flag --workdir; did you mean '--work-dir'?",
        ),
        (
            "bench dehaze --step 3 --warmups 3",
            "bench dehaze: there is no flag --warmups; did you mean '--warmup'?",
        ),
        ("--vesion", "there is no flag --vesion; did you mean '--version'?"),
        ("dehaze x --zz", "dehaze: there is no flag --zz; 'ktdn dehaze --help' lists them"),
        ("dehaze x --\x1b[2J", "dehaze: there is no flag --\\x1b[2J; 'ktdn dehaze --help'"),
        (
            "dehaze x --precision fp32",
            "dehaze: --precision: 'fp32' is not one of float32, tf32, bf16, fp16; "
            "did you mean 'float32'?",
        ),
        (
            "comfyui a b",
            "comfyui: unexpected argument 'b'; 'ktdn comfyui --help' says what goes",
        ),
    ],
)
def test_a_mistyped_word_gets_one_line(
    capsys: pytest.CaptureFixture, words: str, line: str
) -> None:
    (only,) = said(capsys, *words.split())
    assert only.startswith(f"error: {line}")


def test_a_mistyped_command(capsys: pytest.CaptureFixture) -> None:
    lines = said(capsys, "dehase", "x", "--any", "flag")
    assert lines[0].startswith("usage: ktdn ")
    assert lines[1:] == ["error: there is no command 'dehase'; did you mean 'dehaze'?"]
    assert said(capsys, "mmengine", "tran", "x")[-1] == (
        "error: mmengine: there is no stage 'tran'; did you mean 'train'?"
    )
    last = said(capsys, "xyzzy", entry=cli.basicsr)[-1]
    assert last == "error: there is no command 'xyzzy'; there are train, test"
    last = said(capsys, "train", "-opt", "x", "--autoresume", entry=cli.basicsr)[-1]
    assert last == "error: train: there is no flag --autoresume; did you mean '--auto_resume'?"


def test_what_argparse_takes_is_taken() -> None:
    parser = Parser(prog="program")
    command = parser.add_subparsers(dest="command").add_parser("do")
    command.add_argument("files", nargs="*")
    command.add_argument("-n", type=int)
    command.add_argument("--ranges", nargs=2, type=float)
    command.add_argument("--memory-limit")
    given = parser.parse_args(
        ["do", "-n3", "--ranges", "-1", "-.5", "--mem=4 GB", "-", "--", "--name"]
    )
    assert given == argparse.Namespace(
        command="do", n=3, ranges=[-1, -0.5], memory_limit="4 GB", files=["-", "--name"]
    )


def test_version_loads_nothing_heavy(run) -> None:
    for entry in ("main", "basicsr"):
        code = (
            "import sys\n"
            f"from ktdn_plugin.cli import {entry} as entry\n"
            "try:\n    entry(['--version'])\n"
            "finally:\n"
            "    print([name for name in ('torch', 'numpy', 'cv2') if name in sys.modules])"
        )
        done = run(program=("-c", code))
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines() == [f"ktdn-plugin {ktdn_plugin.__version__}", "[]"]


@pytest.mark.parametrize(
    ("module", "package"), [("cv2", "opencv-python"), ("PIL", "pillow"), ("lmdb", "lmdb")]
)
def test_a_missing_package_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, module: str, package: str
) -> None:
    def load(arguments: argparse.Namespace) -> None:
        __import__(module)

    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(info, "_run", load)
    assert cli.main(["info", "net.pth"]) == 1
    assert capsys.readouterr().err == (
        f"error: the module '{module}' is missing; install it: pip install {package}\n"
    )
    with pytest.raises(ModuleNotFoundError):
        cli.main(["info", "net.pth", "--debug"])


@pytest.mark.parametrize("module", ["ktdn_plugin.gone", "json.gone"])
def test_a_missing_part_is_a_defect(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setattr(info, "_run", lambda arguments: __import__(module))
    with pytest.raises(ModuleNotFoundError):
        cli.main(["info", "net.pth"])


@pytest.mark.parametrize(
    ("module", "run", "words", "lower"),
    [
        ("toolbox", "_train", "train -opt x.yml", "batch_size_per_gpu or gt_size"),
        ("toolbox", "_test", "test -opt x.yml", "the images' size"),
        ("mmengine", "_train", "mmengine train x.py", "batch_size or gt_size of train_dataloader"),
        ("bench", "_train", "bench train", "--batch_size or --size"),
        ("evaluate", "_run", "evaluate --gt a b", "the images' size"),
    ],
)
@pytest.mark.parametrize("library", ["torch", "numpy"])
def test_memory_that_does_not_suffice(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    library: str,
    module: str,
    run: str,
    words: str,
    lower: str,
) -> None:
    take = {"torch": torch.empty, "numpy": np.empty}[library]
    monkeypatch.setattr(getattr(commands, module), run, lambda arguments: take(2**58))
    assert cli.main(words.split()) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: out of memory: lower {lower}"), line


def test_an_interruption_while_the_command_is_loaded(run) -> None:
    code = (
        "import sys\n"
        "class Interrupted:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name == 'ktdn_plugin.commands':\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupted())\n"
        "from ktdn_plugin import __main__ as commands\n"
        "sys.exit(getattr(commands, sys.argv[1])())"
    )
    for entry in ("ktdn", "basicsr"):
        done = run(entry, program=("-c", code))
        assert (done.returncode, done.stdout, done.stderr) == (130, "", "Interrupted.\n")
