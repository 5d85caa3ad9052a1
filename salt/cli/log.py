"""Where a run's log lines go: the terminal, and train.log in its folder."""

import logging
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hydra.core.hydra_config import HydraConfig

from salt.machine import distributed
from salt.overrides import typed_words
from salt.paths import as_text

log = logging.getLogger("salt")


class RunLog(logging.FileHandler):
    """Write train.log; keep records in memory until the run directory exists, so that a refused run makes none."""

    def __init__(self, file: Path):
        super().__init__(file, delay=True, encoding="utf-8", errors="backslashreplace")
        self.waiting: list[logging.LogRecord] = []

    def format(self, record: logging.LogRecord) -> str:
        """Return a line with its paths in UTF-8, as in the run's other files."""
        return as_text(super().format(record))

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, after those that waited for the directory."""
        self.waiting.append(record)
        while self.waiting and Path(self.baseFilename).parent.is_dir():
            super().emit(self.waiting.pop(0))


@contextmanager
def log_to(file: Path | None, prefix: str = "") -> Iterator[None]:
    """Within this context, log to `file`, and above the progress bars, where each line starts with `prefix`."""
    from tqdm.contrib.logging import logging_redirect_tqdm

    if not distributed.is_main():
        log.setLevel(logging.ERROR)
        yield
        return
    handlers: dict[logging.Handler, str] = {logging.StreamHandler(sys.stdout): prefix.replace("%", "%%")}
    if file is not None:
        handlers[RunLog(file)] = ""
    for handler, start in handlers.items():
        handler.setFormatter(logging.Formatter(f"%(asctime)s {start}%(message)s", "%H:%M:%S"))
        log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        with logging_redirect_tqdm([log]):
            yield
    finally:
        for handler in handlers:
            log.removeHandler(handler)
            handler.close()


def log_choices() -> None:
    """Log each group's chosen option, the other settings that were typed, and what recipes lost and kept."""
    hydra = HydraConfig.get()
    choices = {g: o for g, o in hydra.runtime.choices.items() if o not in (None, "null") and not g.startswith("hydra/")}
    log.info("options: %s", " ".join(f"{group}={option}" for group, option in choices.items()))
    words = [word for word in typed_words(hydra) if word.partition("=")[0].lstrip("+~") not in choices]
    if words:
        log.info("settings: %s", shlex.join(words))
    for change in hydra.callbacks["sweep"].changes:
        log.info(change)
