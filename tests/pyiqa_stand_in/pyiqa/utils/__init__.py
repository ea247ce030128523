from __future__ import annotations

import logging


def get_root_logger(log_level: int = logging.INFO) -> logging.Logger:
    logger = logging.getLogger("pyiqa")
    logger.setLevel(log_level)
    return logger
