"""Builds a run's parts to throw them away: what is wrong shows before anything is written."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from mmengine import registry as root
from mmengine.config import Config
from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_dist_info
from mmengine.evaluator import Evaluator
from mmengine.hooks import CheckpointHook, EMAHook, Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import EpochBasedTrainLoop, Runner
from mmengine.utils.dl_utils import set_multi_processing
from mmengine.visualization import Visualizer
from torch import nn
from torch.optim import Optimizer

from ktdn_plugin.errors import KTDNError, did_you_mean
from ktdn_plugin.mmengine.build_errors import BUILDING, arguments, explain, find, suggest_type
from ktdn_plugin.mmengine.samplers import SeededSampler
from ktdn_plugin.mmengine.stand_ins import (
    PLAIN,
    Idle,
    Unread,
    as_list,
    as_mapping,
    check_backend,
    quiet,
)

NAME = "ktdn_dry_run"
MAKERS = ("mmengine", "ktdn_plugin", "torch")
"""Whose parts are built; those of others may do more when they are built than be there."""

DEFAULT_HOOKS = (
    "runtime_info", "timer", "sampler_seed", "logger", "param_scheduler", "checkpoint",
)  # fmt: skip

MOST = {"batch_size": 1_000_000, "num_workers": 1000}
"""More of these nobody has the memory, or the processes, for: the run would never begin."""


class DryRun(Runner):
    """A Runner that has a run's parts, but neither logs nor writes.

    Its parts are built by mmengine's own methods, each by itself, so that one problem does not hide
    the next. Data, model and weights of others than mmengine, torch and this package are not built.

    Args:
        cfg: The config; it is not changed.
        training: Whether it is to be trained by; tested if not.
        reads_files: Whether datasets and models, which need files, are built as well.

    Attributes:
        problems: One line for each part that cannot be built, with its key.
        hooks: The hooks.
        loaders: ``train_dataloader`` and the like, as far as they can be built.
        evaluators: ``val_evaluator`` and the like to their metrics.
    """

    def __init__(self, cfg: Config, *, training: bool, reads_files: bool = True) -> None:
        self.cfg = copy.deepcopy(cfg)
        self.problems: list[str] = []
        self.loaders: dict[str, Any] = {}
        self.evaluators: dict[str, list[Any]] = {}
        self.reads_files = reads_files
        self._work_dir, self._log_dir, self._experiment_name = "", "", NAME
        self._rank, self._world_size = get_dist_info()
        self._distributed = cfg.get("launcher", "none") != "none"
        self._seed = 0
        self._randomness_cfg: dict[str, Any] = {}
        self._hooks: list[Hook] = []
        self.logger: Any = logging.Logger(NAME, logging.CRITICAL)
        self.visualizer: Any = SimpleNamespace()
        self.model: Any = None
        self.optim_wrapper: Any = None
        self.param_schedulers: Any = None
        self._train_loop: Any = None
        with quiet():
            self._build_environment()
            self._build_hooks()
            phases = ("train", "val") if training else ("test",)
            for phase in phases:
                if self.cfg.get(f"{phase}_dataloader") is not None:
                    self._build_loader(f"{phase}_dataloader")
            for phase in ("val", "test"):
                self._build_metrics(f"{phase}_evaluator")
                self._build_loop(phase, f"{phase}_cfg" if phase in phases else "")
            if training:
                self._build_loop("train", "train_cfg")
        # One that needs the model's own parameters waits for the model.
        wrapper = self.cfg.get("optim_wrapper")
        if training and not (isinstance(wrapper, Mapping) and "constructor" in wrapper):
            self.build_training(nn.Linear(1, 1))

    @contextmanager
    def part(self, where: str, section: Any = None) -> Iterator[None]:
        """Notes what is raised in it as a problem of a part of the config."""
        try:
            yield
        except BUILDING as error:
            problems = explain(error, section, where)
            self.problems += [line for line in problems if line not in self.problems]

    def build_training(self, model: nn.Module) -> None:
        """Builds what a training needs beside a model, and steps the schedules once.

        Args:
            model: The model, which is not changed.
        """
        self.model = model
        with quiet():
            self._build_optimizer()
            if isinstance(self.optim_wrapper, OptimWrapper) and self.loaders.get(
                "train_dataloader"
            ):
                self._build_schedules()
            for hook, where, section in self._built_hooks:
                if type(hook) is EMAHook:
                    with self.part(where, section):
                        hook.before_run(self)

    def _build_environment(self) -> None:
        cfg = self.cfg
        randomness = cfg.get("randomness", {"seed": None})
        with self.part("randomness", randomness):
            randomness = as_mapping(randomness)
            # A seed that is drawn would be drawn together with other processes.
            given = {key: value for key, value in randomness.items() if value is not None}
            self.set_randomness(**{**dict.fromkeys(randomness, 0), **given})
            self._seed = 0
        environment = cfg.get("env_cfg", {})
        with self.part("env_cfg", environment):
            processes = as_mapping(environment).get("mp_cfg", {})
            max(environment.get("resource_limit", 0), 0)
            with self.part("env_cfg.mp_cfg", processes):
                set_multi_processing(**processes, distributed=self._distributed)
        with self.part("log_level"):
            logging.Logger(NAME).setLevel(cfg.get("log_level", "INFO"))
        with self.part("log_processor", cfg.get("log_processor")):
            processor = self.build_log_processor(cfg.get("log_processor") or {})
            [0.0][-processor.window_size :]
        if "compile" in cfg and not isinstance(cfg.compile, (bool, Mapping, type(None))):
            self.problems.append(f"compile: {cfg.compile!r} must be True, False or a dict")
        visualizer = copy.deepcopy(cfg.get("visualizer"))
        with self.part("visualizer", visualizer):
            before = dict(Visualizer._instance_dict)
            try:
                if self._is_built_here(visualizer or {"type": "Visualizer"}, root.VISUALIZERS):
                    self.build_visualizer(visualizer)
            finally:
                # The run's own, which may have the same name, writes to another folder.
                Visualizer._instance_dict.clear()
                Visualizer._instance_dict.update(before)

    def _build_hooks(self) -> None:
        self._built_hooks: list[tuple[Hook, str, Any]] = []
        hooks = self.cfg.get("default_hooks") or {}
        with self.part("default_hooks", hooks):
            for name, section in as_mapping(hooks).items():
                before = len(self.problems)
                if section is not None:
                    self._build_hook(f"default_hooks.{name}", section)
                if len(self.problems) > before and name not in DEFAULT_HOOKS:
                    self.problems[-1] += did_you_mean(name, DEFAULT_HOOKS)
        hooks = self.cfg.get("custom_hooks") or ()
        with self.part("custom_hooks", hooks):
            for number, section in enumerate(as_list(hooks)):
                self._build_hook(f"custom_hooks.{number}", section)

    def _build_hook(self, where: str, section: Any) -> None:
        with self.part(where, section):
            if not self._is_built_here(section, root.HOOKS):
                return
            before = {id(hook) for hook in self._hooks}
            self.register_hook(copy.deepcopy(section))
            (hook,) = (one for one in self._hooks if id(one) not in before)
            self._built_hooks.append((hook, where, section))
            if isinstance(hook, CheckpointHook):
                # It hands on what it does not know, when it saves for the first time.
                known = [*arguments(Runner.save_checkpoint), *arguments(CheckpointHook)]
                for key in hook.args:
                    if key not in known:
                        taker = type(hook).__name__
                        self.problems.append(
                            f"{where}.{key}: {taker} takes no '{key}'{did_you_mean(key, known)}"
                        )
            if getattr(hook, "backend_args", None):
                check_backend(hook.backend_args)
            if "interval" in vars(hook):
                with self.part(f"{where}.interval"):
                    hook.every_n_train_iters(SimpleNamespace(iter=0), hook.interval)

    def _is_built_here(self, section: Any, registry: root.Registry) -> bool:
        """Checks that a part names a type that there is.

        Raises:
            KTDNError: If it does not.
        """
        if not isinstance(section, Mapping):
            if isinstance(section, PLAIN):
                raise KTDNError(f"{section!r} must be a dict(type=...)")
            return False  # made by the config itself
        if "type" not in section or not isinstance(section["type"], str):
            return True
        item = find(section["type"], registry)
        module = str(getattr(item, "__module__", ""))
        return item is None or module.partition(".")[0] in MAKERS

    def _build_loader(self, key: str) -> None:
        section = self.cfg[key]
        with self.part(key, section):
            section = dict(copy.deepcopy(as_mapping(section)))
            for name, most in MOST.items():
                if isinstance(section.get(name), int) and section[name] > most:
                    raise KTDNError(f"{name}: {section[name]} is more than {most:,}")
            for name in ("sampler", "batch_sampler"):
                if isinstance(section.get(name), (str, int, float)):
                    self.problems.append(
                        f"{key}.{name}: {section[name]!r} must be a dict(type=...)"
                    )
                    return
            if section.get("dataset") is None:
                self.problems.append(f"{key}.dataset: missing")
                return
            if not self.reads_files or not self._is_built_here(section["dataset"], root.DATASETS):
                self.check_type(section["dataset"], root.DATASETS, f"{key}.dataset")
                section["dataset"] = Unread()
            self.loaders[key] = self.build_dataloader(section, seed=0)

    def check_type(self, section: Any, registry: root.Registry, where: str) -> None:
        """Notes a section whose type is missing or unknown as a problem."""
        if not isinstance(section, Mapping):
            if isinstance(section, PLAIN):
                self.problems.append(f"{where}: {section!r} must be a dict(type=...)")
        elif "type" not in section:
            self.problems.append(f"{where}.type: missing")
        elif find(section["type"], registry) is None:
            hint = suggest_type(section["type"], registry)
            self.problems.append(f"{where}.type: there is no '{section['type']}'{hint}")

    def _build_metrics(self, key: str) -> None:
        section = self.cfg.get(key)
        if section is None:
            return
        self.evaluators[key] = []
        with self.part(key, section):
            if isinstance(section, Mapping) and "metrics" in section:
                if self._is_built_here({"type": "Evaluator", **section}, root.EVALUATOR):
                    metrics = self.build_evaluator(copy.deepcopy(section)).metrics
                    self.evaluators[key] = list(metrics)
                return
            several = isinstance(section, (list, tuple))
            for number, one in enumerate([section] if not several else section):
                where = f"{key}.{number}" if several else key
                with self.part(where, one):
                    if not isinstance(one, (Mapping, *PLAIN)):
                        continue
                    if not several and not isinstance(one, Mapping):
                        raise KTDNError(f"{one!r} must be a list of dict(type=...)")
                    if self._is_built_here(one, root.METRICS):
                        self.evaluators[key].append(root.METRICS.build(one))

    def _build_loop(self, phase: str, key: str) -> None:
        loader = self.loaders.get(f"{phase}_dataloader")
        section = self.cfg.get(key) if key else None
        if section is None or loader is None:
            return
        setattr(self, f"_{phase}_dataloader", Idle(loader))
        setattr(self, f"_{phase}_evaluator", Evaluator([]))
        with self.part(key, section):
            if not self._is_built_here(
                {"type": "IterBasedTrainLoop", **as_mapping(section)}, root.LOOPS
            ):
                return
            loop = getattr(self, f"build_{phase}_loop")(section)
            endless = isinstance(loader.sampler, (SeededSampler, InfiniteSampler))
            if phase == "train":
                self._train_loop = loop
                if endless and isinstance(loop, EpochBasedTrainLoop):
                    raise KTDNError(
                        f"the first epoch of {type(loop).__name__} would never come to an end with "
                        f"{type(loader.sampler).__name__}; take train_cfg = dict(type="
                        "'SeededTrainLoop', max_iters=...), or the sampler dict(type="
                        "'DefaultSampler', shuffle=True)"
                    )
                return
            if endless:
                raise KTDNError(
                    f"{phase}_dataloader.sampler: {type(loader.sampler).__name__} never comes to "
                    "an end; take dict(type='DefaultSampler', shuffle=False)"
                )
            with torch.autocast("cpu", enabled=loop.fp16):
                pass

    def _build_optimizer(self) -> None:
        section = copy.deepcopy(self.cfg.get("optim_wrapper"))
        with self.part("optim_wrapper", section):
            wrapped = {"optimizer", "constructor"} & set(as_mapping(section))
            if not wrapped and any(not isinstance(one, OptimWrapper) for one in section.values()):
                self.problems.append("optim_wrapper.optimizer: missing")
                return
            if "constructor" not in section and not isinstance(section["optimizer"], Optimizer):
                before = len(self.problems)
                self.check_type(section["optimizer"], root.OPTIMIZERS, "optim_wrapper.optimizer")
                if len(self.problems) > before:
                    return
            self.optim_wrapper = self.build_optim_wrapper(section)
            wrapper = self.optim_wrapper
            if isinstance(wrapper, OptimWrapper) and getattr(wrapper, "clip_grad_kwargs", None):
                parameter = nn.Parameter(torch.zeros(1))
                parameter.grad = torch.ones(1)
                wrapper.clip_func([parameter], **wrapper.clip_grad_kwargs)
            with self.part("auto_scale_lr", self.cfg.get("auto_scale_lr")):
                self._train_dataloader = self.loaders.get("train_dataloader")
                if self._train_dataloader is not None:
                    self.scale_lr(wrapper, self.cfg.get("auto_scale_lr"))

    def _build_schedules(self) -> None:
        section = self.cfg.get("param_scheduler")
        if section is None:
            return
        if not isinstance(section, (Mapping, list, tuple)):
            self.problems.append(f"param_scheduler: {section!r} must be a list of dict(type=...)")
            return
        several = isinstance(self.optim_wrapper, Mapping)
        with self.part("param_scheduler", section):
            if isinstance(section, Mapping) and "type" not in section and not several:
                raise KeyError("type")
            self._check_scheduler_cfg(section)
            listed = [("", section)]
            if isinstance(section, (list, tuple)):
                listed = [(f".{number}", one) for number, one in enumerate(section)]
            for place, one in listed:
                with self.part(f"param_scheduler{place}", one):
                    built = self.build_param_scheduler(one)
                    for scheduler in built if isinstance(built, list) else ():
                        scheduler.step()

    @property
    def train_dataloader(self) -> Any:
        """The training data; mmengine's own builds the loop first."""
        return self.loaders["train_dataloader"]
