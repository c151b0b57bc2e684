"""What was gained, for people: tables and self-contained pages of a run, and of a benchmark."""


def __getattr__(name: str) -> object:
    # pandas takes a while to import, and a run's own report needs none.
    if name != "load":
        raise AttributeError(f"module 'tfprune.report' has no attribute {name!r}")
    from tfprune.evaluation.records import load

    return load
