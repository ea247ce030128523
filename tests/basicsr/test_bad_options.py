"""Wrong options: one line for each problem, exit code 1, nothing written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import (
    in_one_and_two,
    one,
    teacher_options,
)

Edit = Callable[[dict], object]


@in_one_and_two
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
        (set_in("network_g.encoder", 3), "encoder: 3 is not a timm model"),
        (set_in("network_g.pretrained", 3), "network_g.pretrained: 3 must be"),
        (set_in("network_g.reduction", "x"), "network_g: a value has the wrong type"),
        (set_in("network_g.haed", "tanh"), "network_g.haed: unknown key; did you mean 'head'?"),
        (set_in("network_g.head", "tahn"), "network_g: KTDN has no head 'tahn'; did you mean 'ta"),
        (set_in("network_g.widths", [64, 32, 37]), "network_g: widths [64, 32, 37]: 37 channels"),
        (set_in("network_g.head", "affine"), "network_g.head: a teacher with an affine head"),
        (set_in("train.pixel_opt.reduction", "none"), "does not return a scalar"),
        (set_in("train.pixel_opt.reduction", "avg"), "Unsupported reduction mode: avg"),
        (set_in("train.pixel_opt.loss_weight", "high"), "train.pixel_opt"),
        (set_in("train.optim_g.betas", 3), "train.optim_g, train.scheduler: a value has the wrong"),
        (set_in("train.optim_g.weight_decay", -1), "Invalid weight_decay value: -1"),
        (set_in("train.optim_g.lr", float("inf")), "train.optim_g.lr: inf must be"),
        (set_in("train.scheduler.eta_min", "x"), "train.optim_g, train.scheduler: a value"),
        (
            set_in("train.scheduler.restart_weights", 3),
            "3 must be a list, each a number",
        ),
        (set_in("train.pixel_opt", None), "no image loss is enabled"),
        (set_in("logger.wandb", {"project": "x"}), "logger.wandb: needs logger.use_tb_logger"),
        (
            set_in("val.metrics.psnr.crop_border", "a"),
            "psnr.crop_border: 'a' must be a whole",
        ),
        (set_in("datasets.train.gt_size", 10**9), "datasets.train.gt_size: 1000000000 must be"),
        (set_in("val.suffix", "/etc/x"), "val.suffix: '/etc/x' must be"),
        (set_in("datasets.val.name", "../.."), "datasets.val.name: '../..' must be"),
        (set_in("datasets.val.name", "train"), "datasets: two have the name 'train'"),
        (set_in("datasets.train.io_backend", {"type": "dsk"}), "did you mean 'disk'?"),
        (set_in("datasets.train.type", "SingleImageDataset"), "has no clear images to train"),
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
        (set_in("network_g.std", [1, 1]), "network_g: mean and std must be three numbers"),
        (set_in("network_g.pretrained", "weights.pth"), "weights.pth: no such checkpoint file"),
        (set_in("train.total_iter", "many"), "train.total_iter: 'many' must be a whole number"),
        (set_in("train.ema_decay", 1.5), "train.ema_decay: 1.5 must be"),
        (set_in("train.laplace_opt", {}), "did you mean 'laplacian_opt'?"),
        (set_in("train.pixel_opt.type", "L1los"), "no 'L1los'; did you mean 'L1Loss'?"),
        (set_in("train.pixel_opt.reductoin", "sum"), "did you mean 'reduction'?"),
        (set_in("train.sim_opt", {"type": "SSIMLoss"}), "did you mean 'ssim_opt'?"),
        (set_in("train.ssim_opt", {"type": "SIMLoss"}), "'SIMLoss'; did you mean 'SSIMLoss'?"),
        (set_in("train.lab_opt", {"type": "LabLoss", "weight": 1}), "lab_opt.weight: unknown key"),
        (set_in("train.my_opt", 3), "train.my_opt: 3 must be a section"),
        (set_in("train.my_opt", {"type": "KnowledgeTransferLoss"}), "features, not images; name"),
        (set_in("train.clamp_output", 1), "train.clamp_output: 1 must be"),
        (set_in("train.laplacian_opt.levels", 0), "levels=0 must be"),
        (set_in("train.laplacian_opt.levels", 9), "allows at most levels="),
        (set_in("train.optim_g.type", "NAdm"), "an optimizer 'NAdm'; did you mean 'NAdam'?"),
        (set_in("train.optim_g.lrr", 1), "train.optim_g.lrr: unknown key; did you mean 'lr'?"),
        (set_in("train.optim_g.lr", "fast"), "train.optim_g.lr: 'fast' must be a number"),
        (set_in("train.scheduler.type", "Cosine"), "there is no 'Cosine'"),
        (set_in("train.scheduler.periods", [2]), "the periods end after 2 iterations"),
        (set_in("path.modles", "x"), "path.modles: unknown key"),
        (set_in("path.strict_load", False), "did you mean 'strict_load_g'?"),
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
            "80 x 64 pixels, smaller than the crop, gt_size: 65",
        ),
        (set_in("train.amp", "bf61"), "train.amp: 'bf61' must be off, bf16 or fp16"),
        (set_in("train.amp", True), "train.amp: True must be off, bf16 or fp16"),
        (set_in("train.freeze_bn", -1), "train.freeze_bn: -1 must be true, false, or the"),
        (set_in("train.grad_accum_steps", 0), "train.grad_accum_steps: 0 must be"),
        (set_in("train.clip_grad", 0), "train.clip_grad: 0 must be a number above 0"),
        (set_in("train.optim_g.encoder_lr", "x"), "train.optim_g.encoder_lr: 'x' must be a"),
        (set_in("train.optim_g.type", "LBFGS"), "'LBFGS' cannot be used: it calls the network"),
        (set_in("train.optim_g.type", "fusedadam"), "'fusedadam' cannot be used here: CUDA"),
        (set_in("dist_params", {"timeot": 3}), "dist_params.timeot: unknown key; did you mean"),
        (set_in("dist_params", {"timeout": 0}), "dist_params.timeout: 0 must be a number above"),
        (
            set_in("val.best_metric", "pnsr"),
            "'pnsr' is not one of val.metrics; did you mean 'psnr'?",
        ),
        (set_in("logger.keep_checkpoints", 0), "logger.keep_checkpoints: 0 must be"),
        (set_in("train.teacher_min_psnr", 20), "train.teacher_min_psnr: unknown key"),
        (
            set_in("train.optim_g.betas", [0.9]),
            "a value has the wrong type (IndexError",
        ),
        (set_in("model_type", ["x"]), "model_type: ['x'] must be a string"),
        (set_in("datasets.train.type", {"a": 1}), "datasets.train.type: {'a': 1} must be a string"),
        (set_in("network_g.type", ["KTDN"]), "network_g.type: ['KTDN'] must be a string"),
        (set_in("val.best_metric", ["psnr"]), "val.best_metric: ['psnr'] must be a string"),
        (set_in("datasets.train.batch_size_per_gpu", 10**9), "at least 1 and at most 65536"),
        (set_in("datasets.train.num_worker_per_gpu", 10**9), "at least 0 and at most 1024"),
        (set_in("datasets.train.dataroot_gt", "~nobody-at-all/x"), "no such home folder"),
        (set_in("datasets.train.meta_info_file", "/dev/zero"), "/dev/zero: not a file"),
        (set_in("datasets.train.prefetch_mode", "cpu"), "hangs"),
        (set_in("datasets.train.prefetch_mode", "cuda"), "cuda needs a GPU"),
        (set_in("datasets.train.dataroot_gt", "nowhere"), "no such folder: nowhere"),
        (set_in("datasets.train.meta_info_file", "no.txt"), "no.txt: cannot be read (No such file"),
    ],
)
def test_wrong_option(fails, edit: Edit, expected: str) -> None:
    opt = teacher_options()
    if expected.startswith("no image loss"):
        del opt["train"]["laplacian_opt"]
    edit(opt)
    lines = fails(opt)
    assert expected in " ".join(lines)


def test_keys_that_are_no_texts(fails) -> None:
    opt = teacher_options()
    opt["datasets"][3] = {}
    assert "datasets.3: a key must be a string; quote it" in one(fails(opt))


@in_one_and_two
def test_a_network_that_cannot_be_built(fails) -> None:
    opt = teacher_options()
    opt["network_g"] = {"type": "EDSR", "num_in_ch": 3, "num_out_ch": 3, "num_feat": -8}
    opt["network_g"]["upscale"] = 1
    line = one(fails(opt))
    assert line.startswith("error: network_g: EDSR cannot be built from these options (RuntimeErr")


@in_one_and_two
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
    from ktdn_plugin.basicsr.options.loading import load_options

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
    assert "num_gpu: 1 requested, but torch sees 0 here" in one(fails(opt))
