"""Images for training: haze made over clear photographs, and the demo dataset built with it."""

from ktdn_plugin.data.demo_photos import make_demo_dataset
from ktdn_plugin.data.haze import Haze, synthesize_haze

__all__ = ["Haze", "make_demo_dataset", "synthesize_haze"]
