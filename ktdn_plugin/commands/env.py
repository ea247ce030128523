"""``ktdn env``: versions and devices."""

from __future__ import annotations


def env() -> None:
    """Print versions and devices, for bug reports."""
    from ktdn_plugin.environment import print_environment

    print_environment()
