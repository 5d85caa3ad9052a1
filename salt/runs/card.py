"""The card of a shared run: what it was trained on, how well it scores, and what it is not for."""

from typing import Any

from salt.config import RunConfig


def make_card(config: RunConfig, score: dict[str, Any], environment: dict[str, Any]) -> str:
    """Return a model card in Markdown, from a run's settings, its score.json and its environment.json."""
    height, width = config.data.size
    amplitudes = config.data.amplitudes
    scaling = (
        f"from {amplitudes.limits[0]:g} (black) to {amplitudes.limits[1]:g} (white)"
        if amplitudes.limits
        else f"of each image by its percentiles {amplitudes.pair[0]:g} and {amplitudes.pair[1]:g}"
    )
    return f"""# {config.name}

Networks that mark salt in seismic images. Trained with Salt {environment["salt"]}.

    salt-predict FILE.zip IMAGES --out predictions

| what | value |
| --- | --- |
| network | {config.encoder.name or "own encoder"}, {target(config.decoder)} |
| trained on | {score["n"] or "all"} tiles of {height}x{width} pixels, {target(config.data)} |
| threshold | {score["threshold"]:g} |
| amplitudes | 8 bits as they are; others {scaling} |
{score_rows(score)}

**Intended use.** Mark salt in images like those of the training data. A geoscientist should check each result.

**Limits.** The score holds for tiles of the same survey. Expect less on other surveys, frequencies or processing. The
interval does not cover how training varies from seed to seed.

**Licences.** Salt is MIT-licensed; that does not cover these weights, whose licence the person who shares them chooses.
The terms of the training data and of the encoder's first weights may restrict it. TGS data: the rules of the Kaggle
competition. ImageNet: research only.
"""


def score_rows(score: dict[str, Any]) -> str:
    """Return the rows about the score, and the table of the folds."""
    if score["map"] is None:
        return "| out-of-fold `map` | not measured: all tiles were used for training |"
    low, high = score["interval"]
    rows = "\n".join(f"| {row['fold']} | {row['n']} | {row['map']:.4f} |" for row in score["folds"])
    partial = f" The folds {score['missing_folds']} were not trained." if score["missing_folds"] else ""
    interval = f"95 % interval {low:.4f} to {high:.4f} over {score['interval_over']}"
    return f"""| out-of-fold `map` | {score["map"]:.4f}, {interval} |
| predicting no salt at all | {score["map_all_empty"]:.4f} |

| fold | tiles | `map` |
| --- | --- | --- |
{rows}

`map` is the metric of the TGS Salt Identification Challenge, on tiles that the network did not train on.{partial}"""


def target(section: Any) -> str:
    """Return the class that a section of the settings names, without its module."""
    return str(section.model_dump(by_alias=True).get("_target_", "")).rpartition(".")[2]
