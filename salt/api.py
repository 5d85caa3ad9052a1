"""Runs from Python: train one, read its results, compare it with others, load its networks."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from salt.runs.files import read_json
from salt.runs.results import COLUMNS, SECTION
from salt.runs.rundir import SCORE_KEYS

if TYPE_CHECKING:
    from salt.config import RunConfig
    from salt.inference.model import Model

TEXT = ("id", "rle_mask")  # columns of text in every table: an id may look like a number, and no salt is an empty text


def fit(settings: Sequence[str] = ()) -> "Run":
    """Train, score and write a run as `salt-train SETTINGS` does, and return it; the same call resumes or skips it.

    Interrupting saves a checkpoint and raises KeyboardInterrupt. A dry run prints its plan and has no results.

    Raises:
        ValueError: a setting is wrong, or the run cannot start; the message is that of the command.
    """
    from salt.cli.fit import train  # loads Hydra, and torch when training starts

    return Run(train(list(settings)))


class Run:
    """A run directory, a blend, or a bundle of `salt-export RUN --to bundle`."""

    def __init__(self, path: str | Path):
        from salt.runs.bundle import open_run

        self.path = Path(path).expanduser()
        self._folder = open_run(self.path)

    def __repr__(self) -> str:
        return f"salt.Run({str(self.path)!r})"

    @property
    def config(self) -> "RunConfig":
        """The settings, such as `run.config.trainer.epochs`."""
        from salt.runs.ensemble import first_run

        return first_run(self._folder).read_config()

    @property
    def map(self) -> float:
        """The out-of-fold score of the run; NaN if data.n_folds=1 held no tile out."""
        score = self._score()["map"]
        return float("nan") if score is None else float(score)

    @property
    def score(self) -> pd.DataFrame:
        """The scores, with map, iou, n and more, in a row for each fold, and in a row `all` for all tiles."""
        score = self._score()
        rows = {str(row["fold"]): row for row in score["folds"]} | {"all": score}
        frame = pd.DataFrame.from_dict(rows, orient="index")
        columns = [*(c for c in score["folds"][0] if c != "fold"), "map_all_empty", "threshold"]
        frame = frame[[c for c in columns if c in frame]].rename_axis("fold")
        return frame.apply(pd.to_numeric)

    def oof(self) -> pd.DataFrame:
        """The out-of-fold result of each tile: id, fold, coverage, iou, score, threshold, and section if known."""
        return self._table("oof.csv", COLUMNS | SECTION)

    def submission(self) -> pd.DataFrame:
        """The submission: id and rle_mask, which is an empty text for a tile without salt."""
        return self._table("submission.csv", {})

    def compare(self, *others: "Run | str | Path", across_folds: bool = False) -> pd.DataFrame:
        """Compare other runs with this one, tile by tile, as `salt-compare` does; differences are to this run.

        Columns: run, score, difference, low and high (95 % interval), resolved, interval_over, seeds, seed_spread.

        Raises:
            ValueError: a run is not finished, or scored other tiles or folds.
        """
        from salt.comparing.comparison import Comparison, read_entries

        paths = [other._folder if isinstance(other, Run) else Run(other)._folder for other in others]
        entries = read_entries([self._folder, *paths], across_folds)
        return Comparison(entries, entries[0], "this run", []).results

    def load(self, **settings: Any) -> "Model":
        """Return the networks, to predict images; the arguments are those of `salt.load`."""
        import salt

        return salt.load(self._folder, **settings)

    def _score(self) -> dict[str, Any]:
        """Return the content of score.json.

        Raises:
            ValueError: the run is not finished.
        """
        file = self._folder / "score.json"
        if not file.is_file():
            raise ValueError(f"{self.path} has no score.json yet: finish the run with the same settings")
        return read_json(file, *SCORE_KEYS)

    def _table(self, name: str, types: dict[str, str]) -> pd.DataFrame:
        """Return a table of the run with the right types.

        Raises:
            ValueError: it is not there.
        """
        file = self._folder / name
        if not file.is_file():
            raise ValueError(f"{self.path} has no {name}")
        return pd.read_csv(
            file, dtype=dict.fromkeys(TEXT, "str") | types, keep_default_na=False, na_values={"iou": [""]}
        )
