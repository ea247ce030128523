"""Images: files, stores, public datasets, and datasets for training."""

from ktdn_plugin.data.demo_photos import make_demo_dataset

__all__ = ["make_demo_dataset"]
