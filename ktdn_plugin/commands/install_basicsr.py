"""``ktdn install-basicsr``: BasicSR, where installing this package has not brought it."""

from __future__ import annotations


def install_basicsr() -> None:
    """Install BasicSR, for train and test.

    On Python 3.13 and later, where its published source does not install by
    itself. Builds it with pip from that source, whose checksum is checked;
    torch stays as it is.
    """
    from ktdn_plugin.basicsr.installation import install_basicsr as run

    run()
