"""Numbers as text, on the terminal and on pages."""


def duration(seconds: float) -> str:
    """A time in two units at most."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def percent(share: float) -> str:
    """A share in percent."""
    return f"{100 * share:.1f} %"
