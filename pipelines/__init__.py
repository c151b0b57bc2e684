"""Command lines: they parse flags, call the library and write files.

In the repository `python -m pipelines.prune`; once installed, anywhere, `tfprune-prune`.
"""
