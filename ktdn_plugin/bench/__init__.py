"""Benchmarks: what training, data and dehazing cost in time and memory on this machine."""
