"""Scenes: hazy and clear images that belong together, judged by their names and folders alone."""
