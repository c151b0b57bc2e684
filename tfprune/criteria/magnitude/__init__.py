"""Magnitude: what is small matters little."""
