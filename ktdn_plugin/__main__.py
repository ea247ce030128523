"""``python -m ktdn_plugin``: the command ``ktdn``, also for ``torchrun -m ktdn_plugin``.

The commands begin here, and not in ``cli``: loading that takes long enough to be interrupted.
"""

from __future__ import annotations

import sys

INTERRUPTED = 130


def ktdn(program: str = "ktdn") -> int:
    """Runs the command ``ktdn``."""
    try:
        from ktdn_plugin.cli import main

        return main(program=program)
    except KeyboardInterrupt:
        return _say_interrupted()


def basicsr() -> int:
    """Runs the command ``basicsr``."""
    try:
        from ktdn_plugin.cli import basicsr as main

        return main()
    except KeyboardInterrupt:
        return _say_interrupted()


def _say_interrupted() -> int:
    sys.stderr.write("Interrupted.\n")
    return INTERRUPTED


if __name__ == "__main__":
    sys.exit(ktdn("python -m ktdn_plugin"))
