"""The node for ComfyUI, in :mod:`node`, and how it is copied to where ComfyUI finds it."""
