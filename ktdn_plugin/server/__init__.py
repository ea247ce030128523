"""``ktdn serve``: a page and a REST call that dehaze photographs."""

from ktdn_plugin.server.limits import Limits

__all__ = ["Limits"]
