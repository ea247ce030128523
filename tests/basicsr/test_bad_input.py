"""Wrong options, data and checkpoints: one line each, exit code 1, nothing written."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import evaluation_options, student_options, teacher_options, write_options, write_png

from ktdn_plugin import KTDN, cli

Edit = Callable[[dict], object]


@pytest.fixture
def fails(pairs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs a command that must fail; gives the lines it printed as errors."""
    monkeypatch.chdir(pairs)

    def run_command(opt: dict | str, command: str = "train", *flags: str) -> list[str]:
        path = opt if isinstance(opt, str) else str(write_options(pairs, opt, "options.yml"))
        before = {p for p in pairs.rglob("*")}
        assert cli.main([command, "-opt", path, *flags]) == 1
        assert {p for p in pairs.rglob("*")} == before, "something was written"
        lines = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
        lines = [line for line in lines if "Warning" not in line]
        assert all(line.startswith("error: ") for line in lines), lines
        return lines

    return run_command


def teacher_file(folder: Path, encoder: str = "test_convnext") -> Path:
    path = folder / "teacher.pth"
    torch.save({"params": KTDN(encoder).state_dict()}, path)
    return path


def one(lines: list[str]) -> str:
    assert len(lines) == 1, lines
    return lines[0]


# Options files


def test_options_file_missing(fails) -> None:
    assert "nowhere.yml" in one(fails("nowhere.yml"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [1, 2", "bad.yml, line "),
        ("- 1\n- 2\n", "not an options file"),
        ("name: a\nname: b\n", "'name' is given twice"),
        ("", "not an options file"),
    ],
)
def test_options_file_unreadable(fails, pairs: Path, text: str, expected: str) -> None:
    (pairs / "bad.yml").write_text(text)
    assert expected in one(fails("bad.yml"))


def test_options_file_cannot_run_code(fails, pairs: Path) -> None:
    (pairs / "bad.yml").write_text("name: !!python/object/apply:os.system ['touch owned']\n")
    assert "python/object" in one(fails("bad.yml"))
    assert not (pairs / "owned").exists()


def set_in(path: str, value: object) -> Edit:
    def edit(opt: dict) -> None:
        *folders, last = path.split(".")
        for folder in folders:
            opt = opt[folder]
        opt[last] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (set_in("nmae", "x"), "nmae: unknown key; did you mean 'name'?"),
        (set_in("name", "a/b"), "name: 'a/b' must be"),
        (set_in("name", ".."), "name: '..' must be"),
        (set_in("name", "a" * 151), "must be the name of a folder"),
        (set_in("manual_seed", 2**40), "manual_seed: 1099511627776 must be"),
        (set_in("network_g.encoder", 3), "encoder: 3 is not the name of a timm model"),
        (set_in("network_g.pretrained", 3), "network_g.pretrained: 3 must be"),
        (set_in("network_g.reduction", "x"), "network_g: a value is of the wrong kind"),
        (set_in("train.pixel_opt.reduction", "none"), "gives no single number"),
        (set_in("train.pixel_opt.reduction", "avg"), "Unsupported reduction mode: avg"),
        (set_in("train.pixel_opt.loss_weight", "high"), "train.pixel_opt"),
        (set_in("train.optim_g.betas", 3), "train.optim_g, train.scheduler: a value is of the"),
        (set_in("train.optim_g.weight_decay", -1), "Invalid weight_decay value: -1"),
        (set_in("train.optim_g.lr", float("inf")), "train.optim_g.lr: inf must be"),
        (set_in("train.scheduler.eta_min", "x"), "train.optim_g, train.scheduler: a value"),
        (set_in("train.scheduler.restart_weights", 3), "needs one number for each of periods"),
        (set_in("train.pixel_opt", None), "no image loss is switched on"),
        (set_in("logger.wandb", {"project": "x"}), "logger.wandb: needs logger.use_tb_logger"),
        (set_in("val.suffix", "/etc/x"), "val.suffix: '/etc/x' must be"),
        (set_in("datasets.val.name", "../.."), "datasets.val.name: '../..' must be"),
        (set_in("datasets.val.name", "train"), "datasets: two are named 'train'"),
        (set_in("datasets.train.io_backend", {"type": "dsk"}), "did you mean 'disk'?"),
        (set_in("datasets.train.type", "SingleImageDataset"), "has no clear images to learn"),
        (lambda opt: opt.pop("name"), "name: missing"),
        (lambda opt: opt.pop("train"), "train: missing"),
        (set_in("train", 3), "train: 3 must be a section"),
        (lambda opt: opt["train"].pop("optim_g"), "train.optim_g: missing"),
        (set_in("model_type", "KTDNModle"), "no 'KTDNModle'; did you mean 'KTDNModel'?"),
        (set_in("num_gpu", "all"), "num_gpu: 'all' must be auto"),
        (set_in("network_g.type", "KTDM"), "no 'KTDM'; did you mean 'KTDN'?"),
        (set_in("network_g.encodr", "x"), "network_g.encodr: unknown key; did you mean 'encoder'?"),
        (set_in("network_g.encoder", "resnet81"), "'resnet81' is not a timm model; did you mean"),
        (set_in("network_g.encoder", "test_vit"), "needs 4, 8 and 16"),
        (set_in("network_g.std", [1, 1]), "network_g: mean and std are three numbers"),
        (set_in("network_g.pretrained", "weights.pth"), "weights.pth: no such checkpoint file"),
        (set_in("train.total_iter", "many"), "train.total_iter: 'many' must be a whole number"),
        (set_in("train.ema_decay", 1.5), "train.ema_decay: 1.5 must be"),
        (set_in("train.laplace_opt", {}), "did you mean 'laplacian_opt'?"),
        (set_in("train.pixel_opt.type", "L1los"), "no 'L1los'; did you mean 'L1Loss'?"),
        (set_in("train.pixel_opt.reductoin", "sum"), "did you mean 'reduction'?"),
        (set_in("train.laplacian_opt.levels", 0), "levels=0 must be"),
        (set_in("train.laplacian_opt.levels", 9), "allows at most levels="),
        (set_in("train.optim_g.type", "NAdm"), "no optimizer 'NAdm'; did you mean 'NAdam'?"),
        (set_in("train.optim_g.lrr", 1), "train.optim_g.lrr: unknown key; did you mean 'lr'?"),
        (set_in("train.optim_g.lr", "fast"), "train.optim_g.lr: 'fast' must be a number"),
        (set_in("train.scheduler.type", "Cosine"), "there is no 'Cosine'"),
        (set_in("train.scheduler.periods", [2]), "they end after 2 iterations"),
        (set_in("path.modles", "x"), "path.modles: unknown key"),
        (set_in("path.pretrain_network_g", "no.pth"), "no.pth: no such checkpoint file"),
        (set_in("path.resume_state", "no.state"), "no.state: no such checkpoint file"),
        (set_in("val.val_frq", 1), "did you mean 'val_freq'?"),
        (set_in("val.metrics.psnr.type", "calculate_pnsr"), "did you mean 'calculate_psnr'?"),
        (lambda opt: opt["val"]["metrics"]["psnr"].pop("crop_border"), "crop_border: missing"),
        (set_in("logger.print_freq", 0), "logger.print_freq: 0 must be"),
        (set_in("datasets.trian", {"type": "X"}), "unknown phase; did you mean 'train'?"),
        (set_in("datasets.train.type", "ClearDataset"), "there is no 'ClearDataset'"),
        (set_in("datasets.train.gt_sise", 1), "did you mean 'gt_size'?"),
        (
            set_in("datasets.train.gt_size", 65),
            "80 x 64 pixels are less than the crop, gt_size: 65",
        ),
        (set_in("datasets.train.batch_size_per_gpu", 7), "dataset_enlarge_ratio: 2"),
        (set_in("datasets.train.prefetch_mode", "cpu"), "waits for ever"),
        (set_in("datasets.train.prefetch_mode", "cuda"), "cuda needs a GPU"),
        (set_in("datasets.train.dataroot_gt", "nowhere"), "no such folder: nowhere"),
        (set_in("datasets.train.meta_info_file", "no.txt"), "no.txt: not a readable meta file"),
    ],
)
def test_wrong_option(fails, edit: Edit, expected: str) -> None:
    opt = teacher_options()
    if expected.startswith("no image loss"):
        del opt["train"]["laplacian_opt"]
    edit(opt)
    lines = fails(opt)
    assert expected in " ".join(lines)


def test_all_problems_at_once(fails) -> None:
    opt = teacher_options()
    opt["nmae"] = 1
    opt["train"]["total_iter"] = -1
    opt["val"]["val_frq"] = 1
    assert len(fails(opt)) == 3
    opt = teacher_options()
    opt["network_g"]["encoder"] = "resnet81"
    opt["datasets"]["train"]["dataroot_gt"] = "nowhere"
    opt["datasets"]["val"]["dataroot_gt"] = "nowhere_else"
    assert len(fails(opt)) == 3


def test_a_number_in_the_way_yaml_1_1_takes_for_a_text(pairs: Path) -> None:
    from ktdn_plugin.basicsr.options import load_options

    (pairs / "a.yml").write_text("a: 1e-4\nb: 1E3\nc: -2.5e+3\nd: e4\n")
    assert load_options(pairs / "a.yml") == {"a": 1e-4, "b": 1e3, "c": -2500.0, "d": "e4"}


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("train:total_iter", "write it as key:key=value"),
        ("trian:total_iter=3", "no section 'trian'; did you mean 'train'?"),
        ("train:total_itre=3", "did you mean 'total_iter'?"),
        ("train:total_iter=__import__('os').system('touch owned')", "must be a whole number"),
    ],
)
def test_wrong_force_yml(fails, pairs: Path, entry: str, expected: str) -> None:
    assert expected in one(fails(teacher_options(), "train", "--force_yml", entry))
    assert not (pairs / "owned").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_gpu_asked_for_where_there_is_none(fails) -> None:
    opt = teacher_options()
    opt["num_gpu"] = 1
    assert "num_gpu: 1 asked for, but torch sees 0 here" in one(fails(opt))


# Data


def test_empty_folder(fails, pairs: Path) -> None:
    (pairs / "empty").mkdir()
    opt = teacher_options()
    opt["datasets"]["train"]["dataroot_gt"] = "empty"
    assert "empty: holds no image" in one(fails(opt))


def student(pairs: Path) -> dict:
    opt = student_options()
    opt["path"]["pretrain_network_t"] = str(teacher_file(pairs))
    return opt


def test_pairs_that_do_not_match_are_named(fails, pairs: Path) -> None:
    (pairs / "train/hazy/02.png").rename(pairs / "train/hazy/02_hazy.png")
    line = one(fails(student(pairs)))
    assert "no hazy 02.png (for 02.png)" in line
    assert "no clear partner of 02_hazy.png" in line


def test_template_that_is_none(fails, pairs: Path) -> None:
    opt = student(pairs)
    opt["datasets"]["train"]["filename_tmpl"] = "{name}_hazy"
    assert "'{name}_hazy' is no template" in one(fails(opt))


def test_pair_of_different_size(fails, pairs: Path) -> None:
    write_png(pairs / "train/hazy/00.png", 1, (60, 80))
    line = one(fails(student(pairs)))
    assert "00.png differ in size (80 x 60 and 80 x 64)" in line


def test_later_pair_of_different_size(fails, pairs: Path) -> None:
    write_png(pairs / "val/hazy/01.png", 1, (60, 80))
    line = one(fails(student(pairs)))
    assert "datasets.val: val/hazy/01.png and val/clear/01.png differ in size" in line


@pytest.mark.parametrize("text", ["00.png\n\n01.png\n", "00.png\t(64,80,3)\n", "\ufeff00.png\n"])
def test_meta_file_that_basicsr_would_misread(fails, pairs: Path, text: str) -> None:
    (pairs / "meta.txt").write_text(text, encoding="utf-8")
    opt = teacher_options()
    opt["datasets"]["train"]["meta_info_file"] = "meta.txt"
    assert "meta.txt, line " in one(fails(opt))


def test_results_that_would_overwrite_each_other(fails, pairs: Path) -> None:
    write_png(pairs / "val/clear/more/00.png", 1)
    line = one(fails(teacher_options()))
    assert "would both be saved as 00.png" in line


def test_a_folder_that_is_no_run_is_left_alone(fails, pairs: Path) -> None:
    opt = teacher_options()
    opt["path"]["experiments_root"] = "train"
    assert "exists and is no run's folder" in one(fails(opt))


def test_data_in_the_runs_own_folder(fails, pairs: Path) -> None:
    write_png(pairs / "experiments/teacher/models/a.png", 1)
    opt = teacher_options()
    opt["datasets"]["val"]["dataroot_gt"] = "experiments/teacher/models"
    assert "lies in the folder of this very run" in one(fails(opt))


@pytest.mark.parametrize("launcher", ["pytorch", "slurm"])
def test_launcher_that_has_not_launched(fails, launcher: str) -> None:
    line = one(fails(teacher_options(), "train", "--launcher", launcher))
    assert f"--launcher {launcher}: this process was not started by" in line


def test_weights_that_cannot_be_downloaded(pairs: Path, run) -> None:
    opt = teacher_options()
    opt["network_g"] = {"type": "KTDN", "encoder": "resnet18", "pretrained": True}
    done = run("train", "-opt", write_options(pairs, opt), env={"HF_HUB_OFFLINE": "1"})
    assert done.returncode == 1
    assert "its ImageNet weights cannot be downloaded" in done.stderr.splitlines()[-1]
    assert not (pairs / "experiments").exists()


def test_encoder_weights_of_another_network(fails, pairs: Path) -> None:
    opt = teacher_options()
    opt["network_g"]["pretrained"] = str(teacher_file(pairs, "test_resnet"))
    assert "does not hold the weights of timm's 'test_convnext'" in one(fails(opt))


def test_meta_file_that_names_missing_files(fails, pairs: Path) -> None:
    (pairs / "meta.txt").write_text("00.png (64,80,3)\n77.png (64,80,3)\n")
    opt = student(pairs)
    opt["datasets"]["train"]["meta_info_file"] = "meta.txt"
    assert "names files that are not in train/clear: 77.png" in one(fails(opt))


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"", "empty file (0 bytes)"), (b"\x89PNG\r\n broken", "not a readable image")],
)
def test_first_image_broken(fails, pairs: Path, content: bytes, expected: str) -> None:
    (pairs / "train/clear/00.png").write_bytes(content)
    line = one(fails(teacher_options()))
    assert "train/clear/00.png" in line
    assert expected in line


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("make", [teacher_options, student])
def test_later_image_broken(pairs: Path, run, workers: int, make) -> None:
    opt = make(pairs) if make is student else make()
    broken = pairs / "train/clear/03.png"
    broken.write_bytes(broken.read_bytes()[:60])  # its size can be read, it cannot
    opt["train"]["total_iter"] = 20
    opt["datasets"]["train"]["num_worker_per_gpu"] = workers
    done = run("train", "-opt", write_options(pairs, opt))
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert errors[0].startswith("error: train/clear/03.png: not a readable image")
    assert "Traceback" not in done.stderr


def test_traceback_with_debug(pairs: Path, run) -> None:
    (pairs / "train/clear/00.png").write_bytes(b"")
    done = run("train", "-opt", write_options(pairs, teacher_options()), "--debug")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_lmdb(fails, pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from ktdn_plugin.basicsr import compat

    compat.apply()
    from basicsr.utils.lmdb_util import make_lmdb_from_imgs

    opt = teacher_options()
    opt["datasets"]["train"] |= {"io_backend": {"type": "lmdb"}, "dataroot_gt": "clear.lmdb"}
    assert "clear.lmdb is no LMDB" in one(fails(opt))
    names = sorted(p.name for p in (pairs / "train/clear").iterdir())
    store = pairs / "clear.lmdb"
    make_lmdb_from_imgs(
        str(pairs / "train/clear"), str(store), names, [name[:-4] for name in names]
    )
    data = store / "data.mdb"
    os.truncate(data, data.stat().st_size // 2)
    capsys.readouterr()
    assert "clear.lmdb: truncated" in one(fails(opt))


# Checkpoints


def test_teacher_not_named(fails) -> None:
    opt = student_options()
    opt["path"] = {}
    assert "path.pretrain_network_t: missing; it names the trained teacher" in one(fails(opt))


def test_teacher_not_there(fails) -> None:
    assert "net_g_latest.pth: no such checkpoint file" in one(fails(student_options()))


@pytest.mark.parametrize("share", [0.5, 0.001])
def test_teacher_truncated(fails, pairs: Path, share: float) -> None:
    opt = student(pairs)
    size = (pairs / "teacher.pth").stat().st_size
    os.truncate(pairs / "teacher.pth", int(size * share))
    line = one(fails(opt))
    assert "teacher.pth" in line
    assert "truncated or damaged" in line


def test_teacher_of_another_architecture(fails, pairs: Path) -> None:
    opt = student(pairs)
    teacher_file(pairs, "test_resnet")
    line = one(fails(opt))
    assert "checkpoint of another network than KTDN with encoder 'test_convnext'" in line
    assert "entries are missing" in line


class Bomb:
    def __reduce__(self) -> tuple:
        return os.system, ("touch owned",)


@pytest.mark.parametrize("how", ["pickle", "torch"])
def test_teacher_with_code_in_it_is_refused(fails, pairs: Path, how: str) -> None:
    opt = student(pairs)
    content = {"params": Bomb()}
    with (pairs / "teacher.pth").open("wb") as file:
        pickle.dump(content, file) if how == "pickle" else torch.save(content, file)
    assert "teacher.pth: refused" in one(fails(opt))
    assert not (pairs / "owned").exists()


def test_a_teacher_is_loaded_whole(fails, pairs: Path) -> None:
    opt = student(pairs)
    opt["path"]["strict_load_t"] = False
    assert "path.strict_load_t: a teacher that is loaded in part" in one(fails(opt))


def test_another_network_is_refused_without_strict_loading_too(pairs: Path, run) -> None:
    opt = teacher_options()
    opt["path"] = {"strict_load_g": False}
    opt["path"]["pretrain_network_g"] = str(teacher_file(pairs, "test_resnet"))
    done = run("train", "-opt", write_options(pairs, opt))
    assert done.returncode == 1
    assert "the checkpoint of another network: only" in done.stderr.splitlines()[-1]
    assert not (pairs / "experiments").exists()


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
    assert "usage: " in done.stderr
