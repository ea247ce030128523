"""``python -m ktdn_plugin``: the command ``ktdn``, also for ``torchrun -m ktdn_plugin``."""

import sys

from ktdn_plugin.cli import main

if __name__ == "__main__":
    sys.exit(main(program="python -m ktdn_plugin"))
