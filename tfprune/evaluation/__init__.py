"""Standardised evaluation: one protocol for all methods (Blalock et al. 2020, arXiv 2003.03033)."""
