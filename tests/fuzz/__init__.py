"""Hostile payloads, made from a seed, and what has to become of each, judged without Heed's code."""
