"""Scores, allocation and target brought together into masks for one model."""

from tfprune.planning.recipe import WORDS, Plan, Recipe

__all__ = ["WORDS", "Plan", "Recipe"]
