"""Benchmarks of training, data loading and dehazing: their time and memory on this machine."""
