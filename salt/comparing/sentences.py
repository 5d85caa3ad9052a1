"""What a comparison says about its numbers."""

from collections.abc import Sequence

import pandas as pd

from salt.comparing.comparison import TILES_ONLY, Row, draws_sections, folds_differ, varying_settings
from salt.scoring.bootstrap import LEVEL, RESAMPLES


def runs_differ_in(rows: Sequence[Row]) -> str | None:
    """Return the settings that vary between the rows of a comparison; None if there is one row alone."""
    if len(rows) == 1:
        return None
    return "The runs differ in: " + (", ".join(varying_settings(list(rows))) or "nothing")


def about_comparison(rows: Sequence[Row], results: pd.DataFrame) -> str:
    """Return what the intervals of a comparison cover, and what its verdicts mean."""
    sections, covered = draws_sections(rows), results["interval_over"].str.endswith("seeds")
    compared = results["resolved"] != ""
    drawn = "whole sections of tiles" if sections else f"the tiles{'' if folds_differ(list(rows)) else ' of each fold'}"
    said = [f"The {LEVEL} % interval covers which tiles were drawn (paired bootstrap of {drawn}, {RESAMPLES:,} times)"]
    if covered[compared].all():
        said[0] += " and how training varies from seed to seed (docs/trust.md)."
    elif covered.any():
        said[0] += ", and how training varies from seed to seed where both rows have several seeds (docs/trust.md)."
    else:
        said[0] += ", not how training varies from seed to seed."
    said.append("resolved: yes if it excludes 0, else no.")
    if not covered[compared].all():
        said.append(
            f'It is "{TILES_ONLY}" if it excludes 0, but of one row a single seed takes part: then training may be the '
            "reason. Runs of one setting differed by up to 0.007 (docs/recipes.md); smaller effects need several seeds."
        )
    if not sections:
        said.append("It does not cover that neighbouring tiles are alike.")
    if (results["seeds"] > 1).any():
        said.append(
            "In brackets behind several seeds: the standard deviation of their scores. A score is the mean of all "
            "seeds, a difference that over the seeds that both rows have, or over all if they share none."
        )
    chance = "about one" if covered[compared].all() else "more than one"
    said.append(f"Of 20 rows that do not truly differ {chance} excludes 0 by chance.")
    said.append("A lucky baseline shifts all rows at once.")
    return " ".join(said)
