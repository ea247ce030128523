"""Images: files, stores, public datasets, datasets for training, and haze that is made."""

from ktdn_plugin.data.demo_photos import make_demo_dataset
from ktdn_plugin.data.haze import Haze, synthesize_haze

__all__ = ["Haze", "make_demo_dataset", "synthesize_haze"]
