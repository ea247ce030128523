"""Finds and loads the state that a training goes on from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ktdn_plugin.basicsr.options import Options
from ktdn_plugin.checkpoints import read_checkpoint
from ktdn_plugin.errors import KTDNError

State = dict[str, Any]


def find_resume_state(opt: Options) -> State | None:
    """Loads the state to resume from and points the options at its networks, in place.

    With ``--auto_resume`` that is the newest one of the run that is whole, else
    ``path.resume_state``. The frozen teacher keeps its own checkpoint.

    Returns:
        The state, or None where training starts from the beginning.

    Raises:
        KTDNError: If the state, or a network saved with it, cannot be read.
    """
    if opt["auto_resume"]:
        found = _newest(Path(opt["path"]["training_states"]))
    elif opt["path"].get("resume_state"):
        file = Path(opt["path"]["resume_state"])
        found = file, _read(file)
    else:
        return None
    if found is None:
        return None
    file, state = found
    opt["path"]["resume_state"] = str(file)
    _point_at_networks(opt, file, state["iter"])
    return state


def _newest(folder: Path) -> tuple[Path, State] | None:
    files = [file for file in folder.glob("*.state") if file.stem.isdigit()]
    for file in sorted(files, key=lambda file: int(file.stem), reverse=True):
        try:
            return file, _read(file)
        except KTDNError as error:
            print(f"Passed over while looking for a state to resume from: {error}", flush=True)
    return None


def _read(file: Path) -> State:
    state = read_checkpoint(file)
    if not isinstance(state, dict) or not {"iter", "epoch", "optimizers"} <= state.keys():
        raise KTDNError(f"{file}: not a training state")
    return state


def _point_at_networks(opt: Options, file: Path, iteration: int) -> None:
    path = opt["path"]
    # A state lies in RUN/training_states, its networks in RUN/models.
    models = file.parent.parent / "models"
    kept = {"network_t", *(path.get("ignore_resume_networks") or [])}
    networks = [key for key in opt if key.startswith("network_") and key not in kept]
    for network in networks:
        saved = models / f"net_{network.removeprefix('network_')}_{iteration}.pth"
        if not saved.is_file():
            raise KTDNError(
                f"{file}: its network {saved} is missing; resume from another state, or name "
                f"{network} in path.ignore_resume_networks"
            )
        path[f"pretrain_{network}"] = str(saved)
        # The averaged network has a key of its own; the trained one must go on unaveraged.
        path[f"param_key_{network.removeprefix('network_')}"] = "params"
        path[f"strict_load_{network.removeprefix('network_')}"] = True
    adapters = models / f"net_adapters_{iteration}.pth"
    if adapters.is_file():
        path["pretrain_network_adapters"] = str(adapters)
