"""docs/evidence.md and its forest plots, from the finished folds in docs/evidence alone."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from evidence_folds import CONDITIONS, EVIDENCE, REPOSITORY, Measured, Row, Unit, read_measured, read_rows
from matplotlib.figure import Figure
from scipy import stats

from salt.comparing.comparison import Side, seed_margin, widen
from salt.scoring.bootstrap import LEVEL, bootstrap

INTEREST = 0.005  # smallest difference of interest
PAGE = REPOSITORY / "docs" / "evidence.md"
VERDICTS = {"gain": "use it", "loss": "costs score", "bounded": "worth at most", "open": "not resolved"}


@dataclass(frozen=True)
class Worth:
    """What a row is worth: its mean difference from the base, the interval, and the cost relative to the base."""

    row: Row
    n_folds: int
    seeds: list[int]
    score: float
    base: float
    low: float
    high: float
    over: str  # what the interval covers
    cost: float
    p: float

    @property
    def difference(self) -> float:
        """Mean difference of the scores."""
        return self.score - self.base

    @property
    def verdict(self) -> str:
        """What a practitioner learns from it."""
        if self.low > 0:
            return VERDICTS["gain"]
        if self.high < 0:
            return VERDICTS["loss"]
        if self.high < INTEREST:
            return f"{VERDICTS['bounded']} {self.high:+.4f}"
        return VERDICTS["open"]


def sections() -> pd.Series:
    """Return the section of each tile that has one, by id."""
    table = pd.read_csv(REPOSITORY / "docs" / "mosaic.csv", dtype={"id": str}, keep_default_na=False)
    return table.set_index("id")["mosaic"]


def pairs_of(row: Row, done: Iterable[Measured]) -> list[tuple[Measured, Measured]]:
    """Return a row's finished folds, each with the base's of the same seed, fold and kind of machine."""
    known = {(measured.unit, measured.kind): measured for measured in done}
    found = []
    for (unit, kind), measured in known.items():
        base = known.get((Unit("base", unit.seed, unit.fold), kind))
        if unit.row == row.name and base is not None:
            found.append((measured, base))
    unique = {measured.unit: (measured, base) for measured, base in found}  # one kind of machine is enough
    return [unique[unit] for unit in sorted(unique, key=lambda unit: (unit.seed, unit.fold))]


def weigh(row: Row, done: list[Measured], places: pd.Series) -> Worth | None:
    """Return what a row is worth over the folds that all its seeds have, or None if no fold is finished."""
    pairs = pairs_of(row, done)
    seeds = sorted({mine.unit.seed for mine, _ in pairs})
    while seeds:
        folds = set.intersection(*({m.unit.fold for m, _ in pairs if m.unit.seed == seed} for seed in seeds))
        if len(folds) >= len(row.folds) or len(seeds) == 1:
            break
        seeds.pop()  # a seed that has just begun would leave out most tiles
    if not seeds:
        return None
    used = [(m, b) for m, b in pairs if m.unit.seed in seeds and m.unit.fold in folds]
    mine, base = (side_of([pair[i] for pair in used], seeds) for i in (0, 1))
    where = places.reindex(mine.columns)
    alone = np.arange(len(where)) + 1_000_000
    sections_of_tiles = np.where(where.isna(), alone, where.fillna(0)).astype(np.int64)
    number = {name: m.unit.fold for m, _ in used for name in m.tiles["id"]}
    numbers = np.array([number[name] for name in mine.columns])
    change = mine.to_numpy().mean(axis=0) - base.to_numpy().mean(axis=0)
    ((low, high),) = bootstrap(change[None], numbers, sections_of_tiles)
    over = "sections"
    if len(seeds) > 1:
        margin = seed_margin([Side(side.to_numpy(), numbers) for side in (mine, base)], sections_of_tiles)
        low, high = widen(float(change.mean()), float(low), float(high), margin)
        over = "sections, seeds"
    error = (high - low) / 2 / stats.norm.ppf((1 + LEVEL / 100) / 2)
    p = 2 * stats.norm.sf(abs(change.mean()) / error) if error else 1.0
    cost = sum(m.facts["cpu_seconds"] for m, _ in used) / sum(b.facts["cpu_seconds"] for _, b in used)
    scores = [float(side.to_numpy().mean()) for side in (mine, base)]
    return Worth(row, len(folds), seeds, *scores, float(low), float(high), over, cost, float(p))


def side_of(folds: list[Measured], seeds: list[int]) -> pd.DataFrame:
    """Return the scores of some folds, a line for each seed and a column for each tile."""
    lines = {
        seed: pd.concat([m.tiles.set_index("id")["score"] for m in folds if m.unit.seed == seed]) for seed in seeds
    }
    return pd.DataFrame(lines).sort_index().T


def holm(worths: list[Worth]) -> dict[str, float]:
    """Return each row's p-value, adjusted for their number.

    Reference: Holm 1979, A simple sequentially rejective multiple test procedure.
    """
    ordered = sorted(worths, key=lambda worth: worth.p)
    adjusted, largest = {}, 0.0
    for i, worth in enumerate(ordered):
        largest = max(largest, min(1.0, worth.p * (len(ordered) - i)))
        adjusted[worth.row.name] = largest
    return adjusted


def table_of(worths: list[Worth]) -> str:
    """Return the table of some rows: worth, interval, cost, verdict and published claims."""
    if not worths:
        return "Nothing is measured yet."
    adjusted = holm(worths)
    lines = [
        "| what | settings | worth | 95 % interval | over | p (Holm) | cost | folds x seeds | verdict | published |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for w in worths:
        settings = " ".join(f"`{word}`" for word in w.row.settings)
        cells = [
            w.row.group,
            settings,
            f"{w.difference:+.4f}",
            f"{w.low:+.4f} to {w.high:+.4f}",
            w.over,
            f"{adjusted[w.row.name]:.3f}",
            f"{w.cost:.2f}x",
            f"{w.n_folds} x {len(w.seeds)}",
            w.verdict,
            w.row.claim or "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(worths: list[Worth], file: Path) -> None:
    """Write the forest plot of some rows: worth with its interval, grouped as in the table."""
    figure = Figure(figsize=(7, 1.2 + 0.28 * len(worths)), layout="constrained")
    axes = figure.subplots()
    heights = np.arange(len(worths))[::-1]
    axes.axvspan(-INTEREST, INTEREST, color="0.93", lw=0)
    axes.axvline(0, color="0.4", lw=0.8)
    for height, w in zip(heights, worths, strict=True):
        colour = "tab:green" if w.low > 0 else "tab:red" if w.high < 0 else "0.25"
        axes.plot([w.low, w.high], [height, height], color=colour, lw=1.5)
        axes.plot(w.difference, height, "o", color=colour, ms=4)
    axes.set_yticks(heights, [f"{w.row.group}: {w.row.name}" for w in worths], fontsize=8)
    axes.set_xlabel("difference of map from the base; grey: smaller than is of interest", fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    figure.savefig(file, metadata={"Date": None})


def base_table(done: list[Measured]) -> str:
    """Return the base's score for each seed and kind of machine."""
    found: dict[tuple[tuple[str, ...], int], list[Measured]] = {}
    for measured in done:
        if measured.unit.row == "base":
            found.setdefault((measured.kind, measured.unit.seed), []).append(measured)
    lines = ["| machine | seed | folds | map | minutes of CPU a fold |", "| --- | --- | --- | --- | --- |"]
    for (kind, seed), folds in sorted(found.items()):
        score = np.concatenate([m.tiles["score"] for m in folds]).mean()
        minutes = np.mean([m.facts["cpu_seconds"] for m in folds]) / 60
        lines.append(f"| {', '.join(kind)} | {seed} | {len(folds)} | {score:.4f} | {minutes:.1f} |")
    return "\n".join(lines) if found else "Nothing is measured yet."


def trace(done: list[Measured]) -> str:
    """Return which commits and kinds of machines the folds come from."""
    columns = ("commit", *CONDITIONS, "torch")
    counts = pd.DataFrame([{key: m.facts[key] for key in columns} for m in done]).value_counts()
    return "\n".join(f"- {n} folds: {', '.join(map(str, key))}" for key, n in counts.items())


def write_page() -> None:
    """Write docs/evidence.md, its plots, and nothing else."""
    rows, done, places = read_rows(), read_measured(), sections()
    parts = {}
    for part in ("article", "screening"):
        worths = [weigh(row, done, places) for row in rows.values() if row.part == part]
        parts[part] = [worth for worth in worths if worth is not None]
        if parts[part]:
            draw(parts[part], EVIDENCE / f"{part}.svg")
    measured = {worth.row.name for worths in parts.values() for worth in worths}
    left = [f"`{name}`" for name in rows if name not in measured | {"base"}]
    text = (EVIDENCE / "protocol.md").read_text(encoding="utf-8")
    text += f"\n## The base\n\n{base_table(done)}\n\n## The article's mechanisms\n\n{table_of(parts['article'])}\n"
    text += "\n![Forest plot of the article's mechanisms](evidence/article.svg)\n" if parts["article"] else ""
    text += f"\n## Screening\n\n{table_of(parts['screening'])}\n"
    text += "\n![Forest plot of the screening](evidence/screening.svg)\n" if parts["screening"] else ""
    text += f"\n## Not measured yet\n\n{', '.join(left) or 'Nothing.'}\n"
    text += f"\n## Where the numbers come from\n\n{trace(done) if done else 'No fold is finished.'}\n"
    PAGE.write_text(text, encoding="utf-8")
