"""Checkpoints that are not what is wanted: one line each, exit code 1, no code of theirs run."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch
from helpers import (
    ENCODER,
    evaluation_options,
    in_one_and_two,
    one,
    student_of_a_saved_teacher,
    student_options,
    teacher_file,
    teacher_options,
    write_options,
)

import ktdn_plugin
from ktdn_plugin import KTDN, KTDNError


def test_teacher_not_named(fails) -> None:
    opt = student_options()
    opt["path"] = {}
    assert "path.pretrain_network_t: missing; it names the trained teacher" in one(fails(opt))


def test_teacher_not_there(fails) -> None:
    assert "net_g_latest.pth: no such checkpoint file" in one(fails(student_options()))


@in_one_and_two
@pytest.mark.parametrize("share", [0.5, 0.001])
def test_teacher_truncated(fails, pairs: Path, share: float) -> None:
    opt = student_of_a_saved_teacher(pairs)
    size = (pairs / "teacher.pth").stat().st_size
    os.truncate(pairs / "teacher.pth", int(size * share))
    line = one(fails(opt))
    assert "teacher.pth" in line
    assert "truncated or damaged" in line


def test_teacher_of_another_architecture(fails, pairs: Path) -> None:
    opt = student_of_a_saved_teacher(pairs)
    teacher_file(pairs, "test_resnet")
    line = one(fails(opt))
    assert "checkpoint of a different network than this KTDN with encoder 'test_convnext'" in line
    assert "entries are missing" in line


def test_teacher_of_other_settings(fails, pairs: Path) -> None:
    """The weights fit, and the file says that they are of another network."""
    opt = student_of_a_saved_teacher(pairs)
    content = torch.load(pairs / "teacher.pth")
    told = {"type": "KTDN", "encoder": ENCODER, "mean": [0.5, 0.5, 0.5]}
    torch.save({**content, "ktdn": {"network": told}}, pairs / "teacher.pth")
    opt["network_t"]["std"] = [0.1, 0.1, 0.1]  # of which the file says nothing
    line = one(fails(opt))
    assert "path.pretrain_network_t: " in line
    assert (
        "teacher.pth: of a different network than this KTDN: it says mean [0.5, 0.5, 0.5]" in line
    )


def test_an_affine_teacher(fails, pairs: Path) -> None:
    opt = student_of_a_saved_teacher(pairs)
    opt["network_t"]["head"] = "affine"
    section, path = fails(opt)
    assert "network_t.head: a teacher with an affine head reconstructs any image with a" in section
    assert "use tanh here (the default); the student may still use affine" in section
    assert "the file's has head: tanh, this one head: affine; set head: tanh for the" in path


def test_an_affine_teacher_in_another_loop() -> None:
    ktdn_plugin.register()  # before BasicSR, which today's torchvision lacks a module of
    from ktdn_plugin.basicsr.ktdn_model import KTDNModel
    from ktdn_plugin.basicsr.ktdn_teacher_model import KTDNTeacherModel

    affine = {"type": "KTDN", "encoder": ENCODER, "head": "affine"}
    teacher, student = (kind.__new__(kind) for kind in (KTDNTeacherModel, KTDNModel))
    teacher.net_g = KTDN(ENCODER, head="affine")
    student.device = torch.device("cpu")
    student.opt = {
        "train": {"transfer_opt": {"type": "KnowledgeTransferLoss"}},
        "network_t": affine,
        "path": {"pretrain_network_t": "teacher.pth"},
    }
    with pytest.raises(KTDNError, match=r"^network_g\.head: a teacher with an affine head"):
        teacher.init_training_settings()
    with pytest.raises(KTDNError, match=r"^network_t\.head: a teacher with an affine head"):
        student.build_transfer()


def test_a_checkpoint_of_another_head(fails, pairs: Path) -> None:
    opt = student_of_a_saved_teacher(pairs)
    opt["network_g"] |= {"head": "affine", "widths": [48, 32, 53]}
    opt["path"]["pretrain_network_g"] = opt["path"]["pretrain_network_t"]
    line = one(fails(opt))
    assert "path.pretrain_network_g: " in line
    assert "the file's has head: tanh, this one head: affine; set head: tanh for the net" in line


class Bomb:
    def __reduce__(self) -> tuple:
        return os.system, ("touch owned",)


@pytest.mark.parametrize("how", ["pickle", "torch"])
def test_teacher_with_code_in_it_is_refused(fails, pairs: Path, how: str) -> None:
    opt = student_of_a_saved_teacher(pairs)
    content = {"params": Bomb()}
    with (pairs / "teacher.pth").open("wb") as file:
        pickle.dump(content, file) if how == "pickle" else torch.save(content, file)
    assert "teacher.pth: refused" in one(fails(opt))
    assert not (pairs / "owned").exists()


def test_a_teacher_is_loaded_whole(fails, pairs: Path) -> None:
    opt = student_of_a_saved_teacher(pairs)
    opt["path"]["strict_load_t"] = False
    assert "path.strict_load_t: a partly loaded teacher" in one(fails(opt))


def test_another_network_is_refused_without_strict_loading_too(pairs: Path, run) -> None:
    opt = teacher_options()
    opt["path"] = {"strict_load_g": False}
    opt["path"]["pretrain_network_g"] = str(teacher_file(pairs, "test_resnet"))
    done = run("train", "-opt", write_options(pairs, opt))
    assert done.returncode == 1
    assert "a checkpoint of a different network: only" in done.stderr.splitlines()[-1]
    assert not (pairs / "experiments").exists()


@in_one_and_two
def test_test_without_a_checkpoint(fails) -> None:
    opt = evaluation_options("x.pth")
    opt["path"] = {}
    assert "path.pretrain_network_g: missing" in one(fails(opt, "test"))


def test_folder_that_cannot_be_made(pairs: Path, run) -> None:
    (pairs / "experiments").write_text("in the way")
    done = run("train", "-opt", write_options(pairs, teacher_options()))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "experiments" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("words", [[], ["trian"], ["train"], ["train", "-opt"]])
def test_wrong_words(run, words: list[str]) -> None:
    done = run(*words)
    assert done.returncode == 2
    # What can be done, or what is wrong.
    assert (done.stdout if not words else done.stderr).startswith("error: " if words else "Usage: ")
