"""Options of other plugins' models, datasets and losses: their keys pass, mistyped ones do not."""

from __future__ import annotations

import copy

import pytest
from helpers import student_options, teacher_options

from ktdn_plugin import register
from ktdn_plugin.basicsr.options.checking import check
from ktdn_plugin.basicsr.options.loading import check_and_complete

DEGRADATION = {
    "gt_usm": True,
    "l1_gt_usm": True,
    "percep_gt_usm": True,
    "gan_gt_usm": False,
    "high_order_degradation": True,
    "resize_prob": [0.3, 0.5, 0.2],
    "resize_range": [0.2, 1.4],
    "gaussian_noise_prob": 0.4,
    "noise_range": [1, 20],
    "poisson_scale_range": [0.1, 2],
    "gray_noise_prob": 0.3,
    "jpeg_range": [40, 90],
    "second_blur_prob": 0.7,
    "resize_prob2": [0.3, 0.4, 0.3],
    "noise_range2": [1, 15],
    "gt_size": 128,
    "queue_size": 90,
}


def degrading() -> dict:
    """Options such as Real-ESRGAN's and LDL's."""
    opt = teacher_options()
    opt |= {"model_type": "RealESRGANModel", **DEGRADATION}
    opt |= {"network_d": {"type": "UNetDiscriminatorSN", "num_in_ch": 3}}
    opt["datasets"]["train"] |= {"type": "RealESRGANDataset", "meta_info": "a.txt"}
    opt["datasets"]["train"] |= {"blur_kernel_size": 21, "kernel_list": ["iso"], "sinc_prob": 0.1}
    opt["datasets"]["val"] = {"type": "SingleImageDataset", "dataroot_lq": "x"}
    opt["train"] |= {"optim_d": {"type": "Adam", "lr": 1e-4}, "net_d_iters": 1}
    opt["train"] |= {"artifacts_opt": {"type": "L1Loss"}, "gan_opt": {"type": "GANLoss"}}
    return opt


def recurrent() -> dict:
    """Options such as BasicVSR's: a video's frames, and keys of their own below ``val``."""
    opt = teacher_options()
    opt["model_type"] = "VideoRecurrentModel"
    opt["datasets"]["train"] = {"type": "REDSRecurrentDataset", "num_frame": 15}
    opt["datasets"]["train"] |= {"batch_size_per_gpu": 1, "val_partition": "REDS4"}
    opt["datasets"]["val"] = {"type": "VideoTestVimeo90KDataset", "cache_data": False}
    opt["val"] |= {"flip_seq": True, "center_frame_only": True, "num_val_samples": 3}
    opt["train"] |= {"fix_flow": 5000, "flow_lr_mul": 0.125}
    return opt


def problems(opt: dict) -> list[str]:
    return check(copy.deepcopy(opt), is_train=True)[1]


@pytest.mark.parametrize("options", [degrading, recurrent])
def test_keys_of_other_plugins_pass(options) -> None:
    assert problems(options()) == []


@pytest.mark.parametrize("options", [degrading, recurrent])
@pytest.mark.parametrize(
    ("section", "key", "meant"),
    [
        ("", "manual_sed", "manual_seed"),
        ("val", "val_frq", "val_freq"),
        ("val", "metric", "metrics"),
        ("logger", "print_frq", "print_freq"),
        ("path", "resume_stat", "resume_state"),
        ("dist_params", "bakend", "backend"),
    ],
)
def test_their_mistyped_keys_are_found(options, section: str, key: str, meant: str) -> None:
    opt = options()
    (opt.setdefault(section, {}) if section else opt)[key] = 1
    where = f"{section}." if section else ""
    assert problems(opt) == [f"{where}{key}: unknown key; did you mean '{meant}'?"]


@pytest.mark.parametrize("options", [teacher_options, degrading])
def test_a_checkpoint_by_the_key_of_old_versions(options) -> None:
    opt = options()
    opt["path"]["pretrain_model_g"] = "x.pth"
    assert problems(opt) == [
        "path.pretrain_model_g: BasicSR ignores this key, which only its first versions read; did "
        "you mean "
        "'pretrain_network_g'?"
    ]


def test_a_key_that_continues_from_a_known_one_is_theirs() -> None:
    assert problems({**degrading(), "scale2": 3, "names": []}) == []


@pytest.mark.parametrize("options", [teacher_options, student_options])
def test_ours_take_no_other_keys(options) -> None:
    for key in DEGRADATION:
        assert [line.split(":")[0] for line in problems({**options(), key: 1})] == [key]
    for key in ("flip_seq", "center_frame_only"):
        opt = options()
        opt["val"][key] = True
        assert problems(opt)[0].startswith(f"val.{key}: unknown key")


def test_what_others_read_stays_without_a_value() -> None:
    opt = recurrent()
    opt["train"]["fix_flow"] = None
    opt["train"]["optim_g"]["betas"] = None
    opt["val"]["metrics"] = None
    opt["datasets"]["train"] |= {"dataroot_flow": None, "io_backend": None}
    check_and_complete(opt, "a.yml", is_train=True)
    assert opt["train"]["fix_flow"] is opt["val"]["metrics"] is None
    assert opt["datasets"]["train"]["dataroot_flow"] is None
    assert opt["datasets"]["train"]["io_backend"] == {"type": "disk"}  # its default


def test_what_ours_read_is_as_if_it_were_not_there() -> None:
    opt = teacher_options()
    opt["train"]["clip_grad"] = opt["val"]["suffix"] = opt["datasets"]["train"][
        "meta_info_file"
    ] = None
    check_and_complete(opt, "a.yml", is_train=True)
    assert "clip_grad" not in opt["train"]
    assert "meta_info_file" not in opt["datasets"]["train"]


def test_names_that_basicsr_shares_with_real_esrgan_are_known() -> None:
    register()
    from basicsr.utils.registry import ARCH_REGISTRY, MODEL_REGISTRY

    from ktdn_plugin.basicsr.dry_run import find_registered

    model = find_registered("RealESRGANModel", MODEL_REGISTRY)
    assert model is MODEL_REGISTRY.get("RealESRGANModel")
    assert find_registered("UNetDiscriminatorSN", ARCH_REGISTRY) is not None
    assert find_registered("RealESRGANModle", MODEL_REGISTRY) is None
