"""Judging: ask an engine every case of a split, count with intervals, compare with honest controls."""

ARMS = ("base", "base-free", "base-few-shot", "grpo")
"""What can be asked of an engine: the base with the same instructions, without any, with three worked examples, the adapter."""
