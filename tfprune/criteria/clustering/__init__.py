"""Clustering: what says the same as something else is redundant."""
