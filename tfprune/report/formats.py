"""Numbers and text of a record as people read them; what is missing or not finite is a dash."""

import math

DASH = "–"
MINUS = "−"
_BYTES = ("B", "kB", "MB", "GB", "TB")
_COUNTS = ("", "k", "M", "G", "T")


def number(value: object) -> int | float | None:
    """Returns `value` if it is a finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:  # an integer beyond any float
        return None


def plain(value: object) -> str:
    """Returns `value` on one line, without characters that could hide or reorder the others.

    A layer's name is the user's: it may hold control characters, which are no valid XML, or marks
    that turn the direction of writing.
    """
    text = " ".join(str(value).split())
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def setting(value: object) -> str:
    """Returns the value of a flag or of the environment: lists with commas, no value as a dash."""
    if isinstance(value, list | tuple):
        return ", ".join(setting(part) for part in value) or DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}" if math.isfinite(value) else DASH
    return DASH if value is None or value == "" else plain(value)


def elide(text: str, length: int) -> str:
    """Returns `text` with its middle left out if it is longer than `length`.

    Layers of one net mostly differ at the end of their names, so the end gets the larger part.
    """
    if len(text) <= length:
        return text
    head = (length - 1) // 3
    return f"{text[:head]}…{text[len(text) - (length - 1 - head) :]}"


def count(value: object) -> str:
    """Returns an integer with thousands separated: "269,722"."""
    value = number(value)
    return DASH if value is None else f"{value:,.0f}" if isinstance(value, float) else f"{value:,}"


def short_count(value: object) -> str:
    """Returns a count to three digits: "270 k"."""
    return _scaled(value, _COUNTS)


def size(value: object) -> str:
    """Returns bytes to three digits, with kB = 1000 bytes: "12.3 kB"."""
    return _scaled(value, _BYTES)


def milliseconds(value: object, *, unit: str = "") -> str:
    """Returns a time in milliseconds to three digits: "0.423", with the unit if given."""
    value = number(value)
    if value is None:
        return DASH
    return (f"{value:,.0f}" if abs(value) >= 999.5 else _three(value)) + unit


def decimal(value: object) -> str:
    """Returns a number with four decimals, such as a loss: "0.2987"."""
    value = number(value)
    return DASH if value is None else f"{value:.4f}"


def seconds(value: object) -> str:
    """Returns a duration in seconds: "48 s", "12 min 31 s", "3 h 05 min"."""
    value = number(value)
    if value is None:
        return DASH
    whole = round(value)
    if whole < 60:
        return f"{value:.1f} s" if value < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def percent(value: object, *, digits: int = 2) -> str:
    """Returns a fraction in percent: "92.32 %"."""
    value = number(value)
    return DASH if value is None else f"{100 * value:.{digits}f} %".replace("-", MINUS)


def points(value: object, reference: object, *, digits: int = 2) -> str:
    """Returns the difference of two fractions in percentage points: "−0.31"."""
    value, reference = number(value), number(reference)
    if value is None or reference is None:
        return DASH
    text = f"{100 * (value - reference):+.{digits}f}"
    # What rounds to nothing has no direction.
    return text.replace("-", MINUS) if float(text) else text.lstrip("+-")


def error(value: object) -> str:
    """Returns a difference of outputs to two digits: "0.00012" as "1.2e-04"."""
    value = number(value)
    return DASH if value is None else "0" if value == 0 else f"{value:.1e}"


def ratio(value: object, *, digits: int = 1) -> str:
    """Returns a factor: "5.1 ×"; of a large one, no digits after the point."""
    value = number(value)
    if value is None:
        return DASH
    return f"{value:,.{digits if abs(value) < 99.5 else 0}f} ×"


def shape(value: object) -> str:
    """Returns the shape of a kernel: "3 × 3 × 16 × 32"."""
    return " × ".join(map(count, value)) if isinstance(value, list | tuple) else DASH


def _three(value: float) -> str:
    return f"{value:#.3g}".rstrip(".")


def _scaled(value: object, units: tuple[str, ...]) -> str:
    value = number(value)
    if value is None:
        return DASH
    if abs(value) < 999.5:
        return f"{value:.0f} {units[0]}".rstrip()
    scaled = float(f"{value:.3g}")  # rounded first, so that 999,999 is 1.00 M and not 1000 k
    power = min(int(math.log10(abs(scaled)) + 1e-9) // 3, len(units) - 1)
    return f"{_three(scaled / 1000**power)} {units[power]}"
