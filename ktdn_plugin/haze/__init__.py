"""Haze and camera effects on clear photographs, for training data that generalizes."""
