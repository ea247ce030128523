"""Configs and the flags that change them."""

from __future__ import annotations

from pathlib import Path

from configs import student_config, write_config

from ktdn_plugin.mmengine.config import load_config


def test_options_change_what_is_there_and_add_what_is_not(tmp_path: Path) -> None:
    path = write_config(tmp_path, student_config())
    cfg = load_config(
        path,
        [
            "train_cfg.max_iters=7",
            "optim_wrapper.optimizer.lr=2e-4",
            "optim_wrapper.clip_grad.max_norm=1",
            "model_wrapper_cfg.find_unused_parameters=True",
            "custom_hooks.2.images=3",
            "train_dataloader.dataset.use_scale=[0.5,1.0]",
            "load_from=a=b.pth",
        ],
    )
    assert cfg.train_cfg.max_iters == 7
    assert cfg.optim_wrapper.optimizer == {"type": "Adam", "lr": 0.0002}
    assert cfg.optim_wrapper.clip_grad.max_norm == 1
    assert cfg.model_wrapper_cfg.find_unused_parameters is True
    assert cfg.custom_hooks[2].images == 3
    assert len(cfg.custom_hooks) == 3
    assert list(cfg.train_dataloader.dataset.use_scale) == [0.5, 1.0]
    assert cfg.load_from == "a=b.pth"
    assert cfg.train_dataloader.dataset.gt_size == 48
