"""The commands' flags, a file each; what they do is loaded when they run."""
