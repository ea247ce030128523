"""Finds and loads the state to resume training from."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

from ktdn_plugin.basicsr.options import Options
from ktdn_plugin.checkpoints import Checkpoint
from ktdn_plugin.console import print_lines
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.training import distributed
from ktdn_plugin.training.precision import match_state
from ktdn_plugin.training.resuming import (
    compare_progress,
    compare_rates,
    schedule_changes,
    schedule_plan,
)

State = dict[str, Any]
_logger = logging.getLogger("basicsr")
_MISFITS = (KeyError, ValueError, AssertionError, TypeError, AttributeError, IndexError)
"""What torch raises for a state of another optimiser or scheduler."""


def find_resume_state(opt: Options) -> State | None:
    """Loads the state to resume from and points the options at its networks, in place.

    With ``--auto_resume`` that is the run's newest intact state, including its networks. Without
    it, or if the run has none yet, it is ``path.resume_state``. The frozen teacher keeps its own
    checkpoint.

    Returns:
        The state, or None if training starts from the beginning.

    Raises:
        KTDNError: If the requested state, or a network saved with it, cannot be read.
    """
    found = None
    if opt["auto_resume"]:
        found = _newest(opt, Path(opt["path"]["training_states"]))
    if found is None and opt["path"].get("resume_state"):
        file = Path(opt["path"]["resume_state"])
        found = file, _read(opt, file)
    if found is None:
        return None
    file, state = found
    opt["path"]["resume_state"] = str(file)
    _point_at_networks(opt, file, state["iter"])
    return state


def _newest(opt: Options, folder: Path) -> tuple[Path, State] | None:
    files = [file for file in folder.glob("*.state") if file.stem.isdigit()]
    for file in sorted(files, key=lambda file: int(file.stem), reverse=True):
        try:
            return file, _read(opt, file)
        except KTDNError as error:
            print_lines(f"Skipped while looking for a state to resume from: {error}")
    return None


def _read(opt: Options, file: Path) -> State:
    checkpoint = Checkpoint.read(file)
    state: State = checkpoint.content
    if not checkpoint.is_training_state or not all(
        isinstance(state.get(key), list) and all(isinstance(one, dict) for one in state[key])
        for key in ("optimizers", "schedulers")
    ):
        raise KTDNError(f"{file}: not a training state")
    for network, saved in _networks(opt, file, state["iter"]).items():
        if not saved.is_file():
            raise KTDNError(
                f"{file}: its network {saved} is missing; resume from another state, or list "
                f"{network} in path.ignore_resume_networks"
            )
        Checkpoint.read(saved)
    return state


def _networks(opt: Options, file: Path, iteration: int) -> dict[str, Path]:
    # A state is in RUN/training_states, its networks in RUN/models.
    models = file.parent.parent / "models"
    kept = {"network_t", *(opt["path"].get("ignore_resume_networks") or [])}
    return {
        key: models / f"net_{key.removeprefix('network_')}_{iteration}.pth"
        for key in opt
        if key.startswith("network_") and key not in kept
    }


def _point_at_networks(opt: Options, file: Path, iteration: int) -> None:
    path = opt["path"]
    for network, saved in _networks(opt, file, iteration).items():
        path[f"pretrain_{network}"] = str(saved)
        # The averaged network has its own key; the trained one must continue unaveraged.
        path[f"param_key_{network.removeprefix('network_')}"] = "params"
        path[f"strict_load_{network.removeprefix('network_')}"] = True
    adapters = file.parent.parent / "models" / f"net_adapters_{iteration}.pth"
    if adapters.is_file():
        path["pretrain_network_adapters"] = str(adapters)


def agree(opt: Options, state: State | None) -> None:
    """Checks that all processes resume from the same state, and settles the seed.

    Raises:
        KTDNError: If they found different ones: their hosts do not share the run's folder.
    """
    found = distributed.gather(None if state is None else state["iter"])
    if len(set(found)) > 1:
        said = ", ".join(
            f"process {rank}: {'none' if one is None else f'iteration {one}'}"
            for rank, one in enumerate(found)
        )
        raise KTDNError(
            f"{opt['path']['training_states']}: the processes found different states to resume "
            f"from ({said}); all hosts must share this folder (path.experiments_root)"
        )
    earlier = (state or {}).get("progress", {})
    if "manual_seed" not in opt:
        # A random seed must be the same for all processes, and throughout a training.
        opt["manual_seed"] = earlier.get("seed", None) or distributed.common_seed()


def restore(model: Any, opt: Options, state: State, terms: State) -> int:
    """Restores a state, and logs what is not exactly as before.

    Args:
        model: The model; its networks are already loaded.
        opt: The options.
        state: The state.
        terms: The run's current :meth:`terms`: seed, samples per iteration, processes, images.

    Returns:
        The number of samples already taken by all processes together.

    Raises:
        KTDNError: If the state is of another optimiser or scheduler.
    """
    file = opt["path"]["resume_state"]
    try:
        for optimizer, saved in zip(model.optimizers, state["optimizers"], strict=False):
            # torch accepts another optimizer's settings, but then lacks its own at the first step.
            missing = set(optimizer.param_groups[0]) - set(saved["param_groups"][0])
            if missing:
                raise KeyError(", ".join(sorted(missing)))
        schedules = [schedule_plan(schedule.state_dict()) for schedule in model.schedulers]
        rates = [list(schedule.base_lrs) for schedule in model.schedulers]
        for plan, saved in zip(schedules, state["schedulers"], strict=True):
            if plan.keys() != schedule_plan(saved).keys():
                raise KeyError("train.scheduler")
        model.resume_training(state)
        for optimizer in model.optimizers:
            match_state(optimizer)
    except (KTDNError, *_MISFITS) as error:
        raise KTDNError(
            f"{file}: the state of a run with a different optimizer or scheduler ({error}); "
            "change them back, or start from its network with path.pretrain_network_g"
        ) from error
    _follow(model.schedulers, schedules, state["schedulers"])
    before = [list(saved["base_lrs"]) for saved in state["schedulers"]]
    compare_rates(rates, before, _logger.warning)
    if state.get("best_metric_results"):
        model.best_metric_results = state["best_metric_results"]
    total = opt["train"]["total_iter"]
    _logger.info(f"Resuming from {file}: {state['iter']} of {total} done.")
    return _compare(state, terms)


def _follow(schedules: Any, plans: list[dict[str, Any]], states: list[dict[str, Any]]) -> None:
    """Continues with the options' schedule, as the state's own may end too early."""
    for schedule, plan, saved in zip(schedules, plans, states, strict=True):
        for key, change in schedule_changes(plan, saved):
            if key != "cumulative_period":
                _logger.warning(f"Resuming with a different train.scheduler.{key}: {change}")
        vars(schedule).update(plan)


def _compare(state: State, terms: State) -> int:
    earlier = state.get("progress", {})
    if not earlier:
        _logger.warning(
            "The state says nothing of the data's order: it starts over, and the result will not "
            "be exactly that of a run that was never interrupted."
        )
        return 0
    return compare_progress(earlier, terms, _logger.warning, "manual_seed")


def bring_best(opt: Options) -> None:
    """Copies the best network so far when training continues in another folder."""
    source = Path(opt["path"]["resume_state"]).parent.parent / "models" / "net_g_best.pth"
    target = Path(opt["path"]["models"]) / source.name
    if opt["rank"] == 0 and source.is_file() and not target.exists():
        shutil.copyfile(source, target)
