"""What the commands say of mistyped words, of missing packages, and of their version."""

from __future__ import annotations

import importlib
import sys

import numpy as np
import pytest
import torch

import ktdn_plugin
from ktdn_plugin import cli
from ktdn_plugin.checkpoints import info


def said(capsys: pytest.CaptureFixture, *words: str, entry=cli.main) -> str:
    """Gives the one line that standard error has of a command line that is refused."""
    assert entry(list(words)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    return line


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            "dehaze photo.png --chekpoint net.pth",
            "dehaze: there is no flag --chekpoint; did you mean '--checkpoint'?",
        ),
        # Also where an input is missing.
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
            "bench dehaze --steps 3 --warmups 3",
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
            "comfyui: unexpected argument 'b'; 'ktdn comfyui --help' shows the usage",
        ),
        ("dehaze", "dehaze: INPUT is missing; 'ktdn dehaze --help' explains it"),
        ("train --opt", "train: --opt needs a value; 'ktdn train --help' shows which"),
        ("haze x --veil 1", "haze: --veil needs 2 values; 'ktdn haze --help' shows which"),
        ("bench train --seed x", "bench train: --seed: 'x' is not a whole number"),
    ],
)
def test_a_mistyped_word_gets_one_line(
    capsys: pytest.CaptureFixture, words: str, line: str
) -> None:
    assert said(capsys, *words.split()).startswith(f"error: {line}")


def test_a_mistyped_command(capsys: pytest.CaptureFixture) -> None:
    line = said(capsys, "dehase", "x", "--any", "flag")
    assert line == "error: there is no command 'dehase'; did you mean 'dehaze'?"
    assert said(capsys, "mmengine", "tran", "x") == (
        "error: mmengine: there is no command 'tran'; did you mean 'train'?"
    )
    line = said(capsys, "xyzzy", entry=cli.basicsr)
    assert line == "error: there is no command 'xyzzy'; there are train, test"
    line = said(capsys, "train", "-opt", "x", "--autoresume", entry=cli.basicsr)
    assert line == "error: train: there is no flag --autoresume; did you mean '--auto_resume'?"


@pytest.mark.parametrize("words", [(), ("bench",), ("bench", "--debug")], ids=str)
def test_without_a_command_there_is_help(
    capsys: pytest.CaptureFixture, words: tuple[str, ...]
) -> None:
    assert cli.main([*words]) == 2
    out, err = capsys.readouterr()
    assert out.startswith(f"Usage: {' '.join(('ktdn', *words[:1]))} COMMAND")
    assert err == ""


@pytest.mark.parametrize(
    ("words", "code"),
    [("--version", 0), ("--help", 0), ("dehaze --help", 0), ("dehase", 2), ("dehaze --gd", 2)],
)
def test_what_needs_no_work_loads_nothing_heavy(run, words: str, code: int) -> None:
    heavy = ["torch", "numpy", "cv2", "basicsr", "mmengine", "timm"]
    if "--help" not in words:
        heavy.append("rich")  # help alone is drawn by it
    for entry in ("main", "basicsr"):
        script = (
            "import sys\n"
            f"from ktdn_plugin.cli import {entry} as entry\n"
            f"code = entry({words.split()!r})\n"
            f"print(code, [name for name in {heavy} if name in sys.modules])"
        )
        done = run(program=("-c", script))
        assert done.returncode == 0, done.stderr
        if entry == "main":
            assert done.stdout.splitlines()[-1] == f"{code} []"
        if words == "--version":
            assert done.stdout.splitlines() == [f"ktdn-plugin {ktdn_plugin.__version__}", "0 []"]


@pytest.mark.parametrize(
    ("module", "package"), [("cv2", "opencv-python"), ("PIL", "pillow"), ("lmdb", "lmdb")]
)
def test_a_missing_package_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, module: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(info, "print_checkpoints", lambda *_, **__: __import__(module))
    assert cli.main(["info", "net.pth"]) == 1
    assert capsys.readouterr().err == (
        f"error: the module '{module}' is missing; install it: pip install {package}\n"
    )
    with pytest.raises(ModuleNotFoundError):
        cli.main(["info", "net.pth", "--debug"])


@pytest.mark.parametrize("module", ["ktdn_plugin.gone", "json.gone"])
def test_a_missing_part_is_a_defect(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setattr(info, "print_checkpoints", lambda *_, **__: __import__(module))
    with pytest.raises(ModuleNotFoundError):
        cli.main(["info", "net.pth"])


@pytest.mark.parametrize(
    ("work", "words", "lower"),
    [
        ("basicsr.train.train_pipeline", "train -opt x.yml", "batch_size_per_gpu or gt_size"),
        ("basicsr.test.test_pipeline", "test -opt x.yml", "the images' size"),
        (
            "mmengine.run.train_pipeline",
            "mmengine train x.py",
            "batch_size or gt_size of train_dataloader",
        ),
        ("bench.train.run_bench", "bench train", "--batch-size or --crop-size"),
        ("evaluation.evaluate", "evaluate --gt a b", "the images' size"),
    ],
)
@pytest.mark.parametrize("library", ["torch", "numpy"])
def test_memory_that_does_not_suffice(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    library: str,
    work: str,
    words: str,
    lower: str,
) -> None:
    take = {"torch": torch.empty, "numpy": np.empty}[library]
    module, _, name = work.rpartition(".")
    place = importlib.import_module(f"ktdn_plugin.{module}")
    monkeypatch.setattr(place, name, lambda *_, **__: take(2**58))
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
