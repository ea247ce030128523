"""Scenes: hazy and clear images that belong together, told by their names and folders alone."""
