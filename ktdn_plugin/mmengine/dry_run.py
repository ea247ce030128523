"""Builds and discards a run's parts, to find errors before anything is written."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from mmengine import registry as root
from mmengine.config import Config
from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_dist_info
from mmengine.evaluator import Evaluator
from mmengine.fileio.backends import backends
from mmengine.hooks import CheckpointHook, EMAHook, Hook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop, Runner
from mmengine.utils.dl_utils import set_multi_processing
from mmengine.visualization import Visualizer
from torch import nn

from ktdn_plugin.errors import KTDNError, did_you_mean
from ktdn_plugin.mmengine.build_errors import BUILDING, arguments, explain, find, parts_of
from ktdn_plugin.mmengine.loops import Idle
from ktdn_plugin.mmengine.restorer import Restorer, without_pretrained
from ktdn_plugin.mmengine.samplers import SeededSampler

NAME = "ktdn_dry_run"
MAKERS = ("mmengine", "ktdn_plugin", "torch")
"""Packages whose parts are built; building those of others may have side effects."""

TYPES = ("type", "ema_type", "constructor")
"""Keys that name what to build."""

REGISTRIES = [item for item in vars(root).values() if isinstance(item, root.Registry)]
MOST_WORKERS, MOST_IMAGES = 1000, 1_000_000  # with more, a run would never start or finish
DEFAULT_HOOKS = (
    "runtime_info", "timer", "sampler_seed", "logger", "param_scheduler", "checkpoint",
)  # fmt: skip


class DryRun(Runner):
    """A Runner that has a run's parts, but neither logs nor writes.

    Its parts are built separately by mmengine's own methods, so that one problem does not hide the
    next. Parts from packages other than mmengine, torch and this one, or built from such parts,
    are not built, except for the networks in our models.

    Args:
        cfg: The config; it is not changed.
        training: Whether to train with it, or to test.

    Attributes:
        problems: One line for each part that cannot be built, with its key.
        foreign: The keys of the parts that are not built.
        parts: What is built, by key: hooks, loaders, metrics, loops.
    """

    def __init__(self, cfg: Config, *, training: bool) -> None:
        self.cfg = copy.deepcopy(cfg)
        self.problems: list[str] = []
        self.foreign: list[str] = []
        self.parts: dict[str, Any] = {}
        self._foreign_types: dict[str, bool] = {}
        self._work_dir, self._log_dir, self._experiment_name = "", "", NAME
        self._rank, self._world_size = get_dist_info()
        self._distributed = cfg.get("launcher", "none") != "none"
        self._seed = 0
        self._hooks: list[Hook] = [Hook()]  # the priorities of others are compared with its
        self.logger: Any = logging.Logger(NAME, logging.CRITICAL)
        self.visualizer: Any = SimpleNamespace()
        self.model: Any = None
        self.optim_wrapper: Any = None
        self.param_schedulers: Any = None
        self._train_loop: Any = None
        with quiet():
            self._build_environment()
            self._build_hooks()
            for phase in ("train", "val") if training else ("test",):
                self._build_phase(phase)
            self._build_model()
            if training:
                self._build_training()
            if self.model is not None:
                self._build_averages()

    def of(self, kind: type[Any]) -> dict[str, Any]:
        """Returns the parts of a given kind, by key."""
        return {where: part for where, part in self.parts.items() if isinstance(part, kind)}

    def attempt(self, where: str, section: Any, build: Callable[[Any], Any]) -> Any:
        """Builds a part, recording errors as problems.

        Args:
            where: The part's key.
            section: The part's section of the config.
            build: Called with a copy of the section.

        Returns:
            What was built; None if that failed, or if it is another library's.
        """
        if self._is_foreign(section):
            self.foreign.append(where)
            return None
        with self.part(where, section):
            self.parts[where] = build(copy.deepcopy(section))
            return self.parts[where]
        return None

    def _is_foreign(self, section: Any) -> bool:
        """Returns whether a part, or a part it is built from, is another library's."""
        for _, one in parts_of(section):
            for key in TYPES if isinstance(one, Mapping) else ():
                if key not in one:
                    continue
                # The same types are in many parts, and some thirty registries are searched.
                name = repr((one.get("_scope_"), one[key]))
                if name not in self._foreign_types:
                    self._foreign_types[name] = _is_foreign_type(one, key)
                if self._foreign_types[name]:
                    return True
        return False

    @contextmanager
    def part(self, where: str, section: Any) -> Iterator[None]:
        """Records errors raised in its context as problems of a part of the config."""
        try:
            yield
        except BUILDING as error:
            lines = explain(error, section, where)
            self.problems += [line for line in lines if line not in self.problems]

    def _build_environment(self) -> None:
        cfg = self.cfg
        with self.part("", {}):
            str(cfg.pretty_text)  # a run's log starts with it
        self.attempt("randomness", cfg.get("randomness", {"seed": None}), self._seed_generators)
        self.attempt("env_cfg", cfg.get("env_cfg", {}), self._set_up)
        level = cfg.get("log_level", "INFO")
        with self.part("log_level", {}):
            logging.Logger(NAME).setLevel(level)
        self.attempt("log_processor", self._section("log_processor", {}), self.build_log_processor)
        self.attempt("visualizer", self._section("visualizer", {"type": "Visualizer"}), self._show)
        if not isinstance(cfg.get("compile"), (bool, Mapping, type(None))):
            self.problems.append(f"compile: {cfg.compile!r} must be True, False or a dict")

    def _section(self, key: str, default: Any) -> Any:
        """Returns a section, its default where it is missing or None: 0 and '' are mistakes."""
        section = self.cfg.get(key)
        return default if section is None else section

    def _seed_generators(self, section: Any) -> None:
        # Drawing a seed would involve communicating with other processes.
        self.set_randomness(**{key: 0 if one is None else one for key, one in section.items()})
        self._seed = 0

    def _set_up(self, section: Any) -> None:
        max(section.get("resource_limit", 0), 0)
        processes = section.get("mp_cfg", {})
        with self.part("env_cfg.mp_cfg", processes):
            set_multi_processing(**processes, distributed=self._distributed)

    def _show(self, section: Any) -> None:
        # The run's own, which may have the same name, must write to its own folder.
        before = dict(Visualizer._instance_dict)
        try:
            self.build_visualizer(section)
        finally:
            Visualizer._instance_dict.clear()
            Visualizer._instance_dict.update(before)

    def _build_hooks(self) -> None:
        hooks = self._section("default_hooks", {})
        with self.part("default_hooks", hooks):
            for name, section in hooks.items():
                before = len(self.problems)
                if section is not None or name not in DEFAULT_HOOKS:
                    self._build_hook(f"default_hooks.{name}", section)
                if len(self.problems) > before and name not in DEFAULT_HOOKS:
                    self.problems[-1] += did_you_mean(name, DEFAULT_HOOKS)
        hooks = self.cfg.get("custom_hooks")
        with self.part("custom_hooks", {}):
            for number, section in enumerate(() if hooks is None else hooks):
                self._build_hook(f"custom_hooks.{number}", section)

    def _build_hook(self, where: str, section: Any) -> None:
        hook = self.attempt(where, section, self._register)
        if isinstance(hook, CheckpointHook):
            # The hook would notice errors in these only on its first save.
            known = [*arguments(Runner.save_checkpoint), *arguments(CheckpointHook)]
            self.problems += [
                f"{where}.{key}: CheckpointHook takes no '{key}'{did_you_mean(key, known)}"
                for key in hook.args
                if key not in known
            ]
            with self.part(f"{where}.backend_args", hook.backend_args):
                name = (hook.backend_args or {}).get("backend", "local")
                if name not in backends:
                    raise KTDNError(f"there is no backend '{name}'{did_you_mean(name, backends)}")
        if "interval" in vars(hook or self):
            with self.part(f"{where}.interval", {}):
                hook.every_n_train_iters(self, hook.interval)

    def _register(self, section: Any) -> Hook:
        before = {id(hook) for hook in self._hooks}
        self.register_hook(section)
        (hook,) = (one for one in self._hooks if id(one) not in before)
        return hook

    def _build_phase(self, phase: str) -> None:
        """Builds the loader, metrics and loop."""
        key, evaluator = f"{phase}_dataloader", f"{phase}_evaluator"
        loader = None
        if self.cfg.get(key) is not None and self._has_sections(key):
            loader = self.attempt(key, self.cfg[key], lambda one: self.build_dataloader(one, 0))
        self._build_metrics(evaluator)
        section = self.cfg.get(f"{phase}_cfg")
        if section is None or loader is None:
            return
        setattr(self, f"_{phase}_dataloader", Idle(loader))
        setattr(self, f"_{phase}_evaluator", Evaluator([]))
        build = getattr(self, f"build_{phase}_loop")
        loop = self.attempt(f"{phase}_cfg", section, build)
        endless = isinstance(loader.sampler, (SeededSampler, InfiniteSampler))
        if loader.num_workers > MOST_WORKERS:
            self.problems.append(f"{key}.num_workers: {loader.num_workers} are too many")
        if endless and (loader.batch_size or 1) > MOST_IMAGES:
            self.problems.append(f"{key}.batch_size: {loader.batch_size} fit into no memory")
        if phase == "train":
            self._train_loop = loop
            if endless and isinstance(loop, EpochBasedTrainLoop):
                self.problems.append(
                    f"train_cfg: the first epoch of {type(loop).__name__} would never come to an "
                    f"end with {type(loader.sampler).__name__}; take train_cfg = dict(type="
                    "'SeededTrainLoop', max_iters=...), or the sampler dict(type="
                    "'DefaultSampler', shuffle=True)"
                )
        elif endless and loop is not None:
            self.problems.append(
                f"{key}.sampler: {type(loader.sampler).__name__} never comes to an end; take "
                "dict(type='DefaultSampler', shuffle=False)"
            )
        elif loop is not None:
            with self.part(f"{phase}_cfg", section), torch.autocast("cpu", enabled=loop.fp16):
                pass

    def _has_sections(self, where: str) -> bool:
        """Finds what mmengine would accept now, but fail on later."""
        section = self.cfg[where]
        if not isinstance(section, Mapping):
            return True
        problems = [
            f"{where}.{name}: {section[name]!r} must be a dict(type=...)"
            for name in ("dataset", "sampler", "batch_sampler", "optimizer")
            if isinstance(section.get(name), (str, int, float))
        ]
        if where.endswith("dataloader"):
            needed = "dataset"
        else:
            needed = "optimizer" if "type" in section and "constructor" not in section else ""
        if needed and section.get(needed) is None:
            problems.append(f"{where}.{needed}: missing")
        self.problems += problems
        return not problems

    def _build_metrics(self, key: str) -> None:
        section = self.cfg.get(key)
        if isinstance(section, (list, tuple)):
            for number, one in enumerate(section):
                self.attempt(f"{key}.{number}", one, _build_metric)
        elif section is not None:
            self.attempt(key, section, self.build_evaluator)

    def _build_model(self) -> None:
        """Builds one of our models, left on the CPU."""
        section = self.cfg.get("model")
        if section is None:
            return
        item = find(section, root.MODELS) if isinstance(section, dict) else None
        if item is not None and not is_ours(item):
            self.foreign.append("model")
            return
        with self.part("model", section):
            if isinstance(section, dict):
                if self.cfg.get("data_preprocessor") is not None:
                    section.setdefault("data_preprocessor", self.cfg.data_preprocessor)
                # Synchronising would move it to this process's GPU, without its teacher.
                off = {"sync_bn": False} if item is not None else {}
                section = {**without_pretrained(section, files=False), **off}
            self.model = self.build_model(section)

    def _build_training(self) -> None:
        """Builds what training needs besides a model, and steps the schedules once."""
        section = self.cfg.get("optim_wrapper")
        if self.model is None:
            if isinstance(section, Mapping) and "constructor" in section:
                return  # it may depend on the model's own parameters
            self.model = nn.Linear(1, 1, bias=False)
        if section is not None and self._has_sections("optim_wrapper"):
            self.optim_wrapper = self.attempt("optim_wrapper", section, self._build_optimizer)
        if isinstance(self.optim_wrapper, OptimWrapper):
            if "train_dataloader" in self.parts:
                self._train_dataloader = self.parts["train_dataloader"]
                scale = self.cfg.get("auto_scale_lr")
                self.attempt(
                    "auto_scale_lr", scale, lambda one: self.scale_lr(self.optim_wrapper, one)
                )
            if self._train_loop is not None:
                self._build_schedules()

    def _build_averages(self) -> None:
        for where, hook in self.of(EMAHook).items():
            if type(hook) is EMAHook and not self._is_foreign(hook.ema_cfg):
                with self.part(where, dict(parts_of(self.cfg._cfg_dict))[where]):
                    hook.before_run(self)

    def _build_optimizer(self, section: Any) -> Any:
        optimizer = section.get("optimizer") if isinstance(section, Mapping) else None
        if isinstance(optimizer, Mapping) and find(optimizer, root.OPTIMIZERS) is None:
            root.OPTIMIZERS.build(optimizer)  # clearer errors than the wrapper builder
        wrapper = self.build_optim_wrapper(section)
        if getattr(wrapper, "clip_grad_kwargs", None):
            parameter = nn.Parameter(torch.zeros(1))
            parameter.grad = torch.ones(1)
            wrapper.clip_func([parameter], **wrapper.clip_grad_kwargs)
        return wrapper

    def _build_schedules(self) -> None:
        section = self.cfg.get("param_scheduler")
        with self.part("param_scheduler", section):
            if isinstance(section, Mapping) and not isinstance(
                self.optim_wrapper, OptimWrapperDict
            ):
                section["type"]
            self._check_scheduler_cfg(section)
            several = isinstance(section, (list, tuple))
            for number, one in enumerate(section if several else [section]):
                where = f"param_scheduler.{number}" if several else "param_scheduler"
                if one is not None:
                    self.attempt(where, one, self._schedule)

    def _schedule(self, section: Any) -> Any:
        built = self.build_param_scheduler(section)
        for scheduler in built if isinstance(built, list) else ():
            scheduler.step()
        return built

    @property
    def train_dataloader(self) -> Any:
        """The training data loader; mmengine's own property builds the loop first."""
        return self.parts["train_dataloader"]


def is_ours(item: Any) -> bool:
    """Returns whether something is one of our models, not a subclass from elsewhere."""
    is_model = isinstance(item, type) and issubclass(item, Restorer)
    return is_model and maker_of(item) in MAKERS


def maker_of(item: Any) -> str:
    """Returns the package that a class or function comes from."""
    return str(getattr(item, "__module__", "")).partition(".")[0]


def _build_metric(section: Any) -> Any:
    (metric,) = Evaluator([section]).metrics
    if not hasattr(metric, "evaluate"):  # mmengine takes what is no dict for a metric
        raise KTDNError(f"{section!r} must be a dict(type=...)")
    return metric


def _is_foreign_type(section: Mapping[str, Any], key: str) -> bool:
    found = (find(section, registry, key) for registry in REGISTRIES)
    return any(item is not None and maker_of(item) not in MAKERS for item in found)


@contextmanager
def quiet() -> Iterator[None]:
    """Suppresses output that will appear when the run starts."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    silence = io.StringIO()
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(silence),
            contextlib.redirect_stderr(silence),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
