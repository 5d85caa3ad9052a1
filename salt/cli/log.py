"""Where a run's log lines go: the terminal, and train.log in its folder."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from salt.machine import distributed
from salt.paths import as_text

log = logging.getLogger("salt")


class RunLog(logging.FileHandler):
    """Writes train.log. Records are kept in memory until the run directory exists, so that a refused run makes none."""

    def __init__(self, file: Path):
        super().__init__(file, delay=True, encoding="utf-8", errors="backslashreplace")
        self.waiting: list[logging.LogRecord] = []

    def format(self, record: logging.LogRecord) -> str:
        """Return a line with its paths in UTF-8, as the other files have them."""
        return as_text(super().format(record))

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, and those kept before it, if the directory exists."""
        self.waiting.append(record)
        while self.waiting and Path(self.baseFilename).parent.is_dir():
            super().emit(self.waiting.pop(0))


@contextmanager
def log_to(file: Path | None, prefix: str = "") -> Iterator[None]:
    """Within this context, log above the progress bars, each line with a prefix, and to the run's train.log."""
    from tqdm.contrib.logging import logging_redirect_tqdm

    if not distributed.is_main():  # only rank 0 logs
        log.setLevel(logging.ERROR)
        yield
        return
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stdout)]
    handlers[0].setFormatter(logging.Formatter(f"%(asctime)s {prefix.replace('%', '%%')}%(message)s", "%H:%M:%S"))
    if file is not None:
        handlers.append(RunLog(file))
        handlers[1].setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    for handler in handlers:
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
