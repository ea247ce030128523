"""Benchmarks: what a training step costs in time and memory on this machine."""
