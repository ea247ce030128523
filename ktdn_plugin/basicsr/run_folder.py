"""A run's output: its folders, its log, and the copy of its options."""

from __future__ import annotations

import logging
import sys
import time
from logging import FileHandler, StreamHandler
from logging.handlers import MemoryHandler
from pathlib import Path

from ktdn_plugin import __version__
from ktdn_plugin.basicsr.options import Options
from ktdn_plugin.storage.atomic import write_whole
from ktdn_plugin.storage.earlier_runs import archive_run, archived_inputs

LOGGERS = ("basicsr", "ktdn_plugin")


def check_folder(opt: Options) -> list[str]:
    """Checks that a new run can use its folder, whose contents would be moved out of the way.

    Returns:
        One line for each file that the run needs but that would be moved away too, and one if the
        folder holds something other than a run.
    """
    base = Path(opt["path"]["log"])
    problems = []
    marks = ("models", "training_states", "visualization", "*.log")
    if base.is_dir() and any(base.iterdir()) and not any(any(base.glob(mark)) for mark in marks):
        problems.append(f"{base}: exists and is not a run folder; rename the run")
    needed = {f"path.{key}": value for key, value in opt["path"].items() if "pretrain_" in key}
    for phase, dataset in opt["datasets"].items():
        for key in ("dataroot_gt", "dataroot_lq", "meta_info_file"):
            needed[f"datasets.{phase}.{key}"] = dataset.get(key)
    remedy = "give the run another name, or use --auto_resume"
    return [*problems, *archived_inputs(base, needed, remedy)]


def make_folders(opt: Options, resumed: bool = False) -> None:
    """Makes the run's folders, renaming those of an earlier run of the same name.

    Args:
        opt: The options.
        resumed: Whether the run is resumed and keeps the contents of its folders.
    """
    keys = ("experiments_root", "results_root", "models", "training_states", "visualization")
    if opt["rank"] == 0:
        if not resumed:
            _set_aside(Path(opt["path"]["log"]))
            if opt["is_train"] and opt["logger"]["use_tb_logger"]:
                _set_aside(Path(opt["root_path"]) / "tb_logger" / opt["name"])
        for key in keys:
            if key in opt["path"]:
                Path(opt["path"][key]).mkdir(parents=True, exist_ok=True)


def _set_aside(folder: Path) -> None:
    if folder.exists():
        target = archive_run(folder)
        logging.getLogger(LOGGERS[0]).info(f"An earlier run of this name was moved to {target}.")


def copy_options(opt: Options, source: Path, text: str) -> None:
    """Writes the options file's text, with the command line, into the run's folder."""
    if opt["rank"] == 0:
        head = f"# {time.asctime()}\n# {' '.join(sys.argv)}\n\n"
        # A pipe's name is a number; this name lets other code find the run's options.
        is_named = source.suffix in (".yml", ".yaml")
        name = source.name if is_named else f"{opt['name']}.yml"
        copy = Path(opt["path"]["experiments_root"]) / name
        write_whole(
            copy, lambda file: file.write(f"{head}{text}".encode("utf-8", "backslashreplace"))
        )


def start_log(opt: Options) -> logging.Logger:
    """Starts BasicSR's log on the screen, keeping lines until there is a file for them."""
    import basicsr
    import torch
    from basicsr.utils import get_root_logger
    from basicsr.utils.options import dict2str

    logger = get_root_logger()
    kept = MemoryHandler(capacity=100_000, flushLevel=logging.CRITICAL + 1)
    for name in LOGGERS:
        one = logging.getLogger(name)
        one.setLevel(logging.INFO if opt["rank"] == 0 else logging.ERROR)
        # An earlier run in this process, as in a notebook, must not get this run's lines, nor this
        # one those of a run that never had a file.
        for earlier in [h for h in one.handlers if isinstance(h, (MemoryHandler, FileHandler))]:
            one.removeHandler(earlier)
            earlier.close()
        for screen in [h for h in one.handlers if type(h) is StreamHandler]:
            screen.stream = sys.stderr  # the current one: an earlier run's may be closed
        one.addHandler(kept)
    logger.info(
        f"ktdn-plugin {__version__}, BasicSR {basicsr.__version__}, torch {torch.__version__}, "
        f"{opt['world_size']} process(es), {opt['num_gpu'] or 'no'} GPU(s)"
    )
    logger.info(dict2str(opt))
    return logger


def open_log_file(opt: Options, kind: str) -> None:
    """Writes the log to a file from now on, including earlier lines."""
    if opt["rank"] != 0:
        return
    stamp = time.strftime("%Y%m%d_%H%M%S")
    path = Path(opt["path"]["log"]) / f"{kind}_{opt['name']}_{stamp}.log"
    file = FileHandler(path, "a", encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s: %(message)s"))
    for name in LOGGERS:
        logger = logging.getLogger(name)
        for handler in [one for one in logger.handlers if isinstance(one, MemoryHandler)]:
            handler.setTarget(file)
            handler.flush()
            logger.removeHandler(handler)
        logger.addHandler(file)
