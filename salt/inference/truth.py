"""A run on a survey whose truth is known everywhere: the IoU of lines that nobody interpreted, by their distance."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from salt.config import Labels
from salt.data.image import to_labels
from salt.data.lines import distance_to
from salt.data.load import load_data_of_run
from salt.data.segy import Segy
from salt.data.source import source_of
from salt.data.survey_lines import LineKey, Lines
from salt.inference.model import Model
from salt.scoring.metrics import is_salt
from salt.survey.geometry import Survey, open_survey
from salt.survey.read import read_line_of

MOST = 100  # inlines that are predicted, spread over the survey
DISTANCES = (0, 2, 5, 10, 20, 50, 100, np.inf)  # limits of the classes of distance, in line numbers


def score_truth(model: Model, truth: Path, root: str | None = None, most: int = MOST) -> pd.DataFrame:
    """Predict inlines without a label, and return for each its distance to the nearest interpreted one and its IoU.

    Columns: inline, distance (line numbers), salt, found and common (voxels), iou. Pixels without an amplitude or a
    known truth do not count.

    Raises:
        ValueError: the run was not trained on one survey, or the truth has another geometry.
    """
    config = model.ensemble.first.config
    source = source_of(config.data, root)
    if not isinstance(source, Segy):
        raise ValueError(f"--truth: {model.ensemble.path} was not trained with data=segy, whose lines have distances")
    lines = source.open_files()
    if len(lines.surveys) != 1:
        raise ValueError(f"--truth: {source.root} has {len(lines.surveys)} surveys, expected one")
    name, survey = next(iter(lines.surveys.items()))
    answers = open_truth(truth, survey)
    trained = load_data_of_run(model.ensemble.first.directory, config, root).train.lines or []
    trained = [line for line in trained if line.survey == lines.groups[name]]  # no 2-D line elsewhere
    inlines, crosslines = (
        np.unique(np.array([line.number for line in trained if line.direction == way], dtype=np.int64))
        for way in ("inline", "crossline")
    )
    unseen = np.setdiff1d(survey.inlines, inlines)
    if not len(unseen):
        raise ValueError(f"--truth: every inline of {survey.path} has a label, expected some without")
    columns = ~np.isin(survey.crosslines, crosslines)  # traces of interpreted crosslines were seen
    chosen = unseen[np.unique(np.linspace(0, len(unseen) - 1, min(most, len(unseen))).round().astype(np.int64))]
    apart = distance_to(chosen, inlines)
    counts = [score_line(model, lines, LineKey(name, "inline", number), answers, columns) for number in chosen.tolist()]
    return pd.concat([pd.DataFrame({"inline": chosen, "distance": apart}), pd.DataFrame(counts)], axis=1)


def open_truth(path: Path, survey: Survey) -> Survey:
    """Open the truth of a survey; raise ValueError if it has other lines or samples."""
    answers = open_survey(path, *survey.words)
    same = answers.n_samples == survey.n_samples and np.array_equal(answers.crosslines, survey.crosslines)
    if not same or not np.array_equal(answers.inlines, survey.inlines):
        raise ValueError(f"--truth {path}: has other lines or samples than {survey.path}, expected the same geometry")
    return answers


def score_line(model: Model, lines: Lines, key: LineKey, truth: Survey, columns: NDArray[np.bool_]) -> dict[str, Any]:
    """Return voxels of true, found and common salt, and the IoU, of some traces (X) of an inline."""
    grey = model.scaling(lines.read(key))
    probability: NDArray[np.float32] = model.predict_grey([grey]).mean[0]
    labels = Labels(salt=None, unknown=model.ensemble.first.config.data.labels.unknown)  # salt may have another value
    try:
        right = to_labels(read_line_of(truth, "inline", key.number, keep_zeros=True), labels)
    except ValueError as error:
        reason = f"inline {key.number} {str(error).partition('; ')[0]}"
        marks = "the run's data.labels.unknown and NaN mark unknown voxels"
        raise ValueError(f"--truth {truth.path}: {reason}; {marks}") from None
    known = right.known & ~grey.missing & columns
    salt, found = (right.salt > 0) & known, is_salt(probability, model.threshold) & known
    common, union = int((salt & found).sum()), int((salt | found).sum())
    iou = common / union if union else 1.0
    return {"salt": int(salt.sum()), "found": int(found.sum()), "common": common, "iou": iou}


def by_distance(table: pd.DataFrame) -> pd.DataFrame:
    """Return number of lines, and the IoU of all their voxels together, by classes of distance and for all."""
    classes = pd.cut(table["distance"], list(DISTANCES), right=True)
    groups = [
        (f"{c.left:g} to {c.right:g}" if np.isfinite(c.right) else f"over {c.left:g}", rows)
        for c, rows in table.groupby(classes, observed=True)
    ]
    rows = [{"distance": name, "lines": len(part), "iou": pooled(part)} for name, part in [*groups, ("all", table)]]
    return pd.DataFrame(rows)


def pooled(table: pd.DataFrame) -> float:
    """Return the IoU over the voxels of several lines together; 1 if there is no salt in truth and prediction."""
    common, union = table["common"].sum(), (table["salt"] + table["found"] - table["common"]).sum()
    return float(common / union) if union else 1.0
