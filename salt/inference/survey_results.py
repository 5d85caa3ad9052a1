"""The results of a survey from the files of all its blocks: SEG-Y, bodies and horizons."""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from salt.inference.predict import Prediction
from salt.inference.survey_blocks import BLOCK_STEPS, LineBlock, Scratch, blocks_of
from salt.inference.survey_bodies import Bodies, horizons_of
from salt.inference.survey_options import SurveyOptions
from salt.machine.lanes import in_lanes
from salt.runs.files import sync_folder, write_text
from salt.scoring.metrics import is_salt
from salt.survey.geometry import Survey
from salt.survey.write import SurveyWriter, required_bytes

Volume = NDArray[np.float32]  # (inlines, crosslines, samples)


def results_of(path: Path, out: Path, spread: bool) -> dict[str, Path]:
    """Return the files of the results of a survey; the one that is written last comes last."""
    names = {
        "spread": f"spread{path.suffix.lower()}",
        "bodies": "bodies.csv",
        "horizons": "horizons.txt",
        "probability": f"probability{path.suffix.lower()}",
    }
    return {kind: out / f"{path.stem}_{name}" for kind, name in names.items() if spread or kind != "spread"}


def results_size(survey: Survey, options: SurveyOptions) -> int:
    """Return the bytes of the results, without tables."""
    return (1 + options.spread) * required_bytes(survey, options.as_int8)


def write_survey_results(
    survey: Survey,
    options: SurveyOptions,
    scratch: Scratch,
    blocks: Sequence[Sequence[LineBlock]],
    results: dict[str, Path],
    threshold: float,
) -> None:
    """Write all results, under hidden names until they are complete; `blocks` are those of each direction.

    Raises:
        OSError: a file cannot be written.
    """
    hidden = {kind: path.with_name(f".{path.name}.part") for kind, path in results.items()}
    for path in hidden.values():
        path.unlink(missing_ok=True)  # of a killed process

    def read(block: LineBlock) -> tuple[LineBlock, Prediction]:
        parts = [scratch.read(of_direction, block.first, block.last) for of_direction in blocks]
        return block, combine_directions(parts, options)

    with ExitStack() as stack:
        segy = [
            stack.enter_context(SurveyWriter(survey, hidden[kind], options.as_int8))
            for kind in ("probability", "spread")
            if kind in results
        ]
        table = stack.enter_context(hidden["horizons"].open("w", encoding="utf-8", newline=""))
        bodies, places = Bodies(options.smallest_body), survey.coordinates()
        inlines = blocks_of(survey, "inline")
        bar = stack.enter_context(tqdm(total=len(survey.inlines), desc="results", unit="line", disable=None))
        for block, prediction in in_lanes(read, inlines, n_lanes=1, waiting=1):
            for writer, values in zip(segy, prediction, strict=False):  # without spread its place is None
                assert values is not None
                writer.write_block(block.first, values)
            salt = is_salt(prediction.mean, threshold)
            salt &= survey.trace_of[block.first : block.last, :, None] >= 0
            bodies.add(salt)
            horizons = horizons_of(salt, survey, block.first, places)
            horizons.to_csv(table, header=block.first == 0, index=False, lineterminator="\n")
            bar.update(block.n_lines)
        sync(table)
    write_text(hidden["bodies"], bodies.table(survey).to_csv(index=False, lineterminator="\n"))
    for kind, path in results.items():
        os.replace(hidden[kind], path)
        path.with_name(f".{hidden[kind].name}.lock").unlink(missing_ok=True)
    sync_folder(results["probability"].parent)


def sync(file: TextIO) -> None:
    """Wait until all that was written is on the disk."""
    file.flush()
    os.fsync(file.fileno())


def combine_directions(parts: Sequence[Volume], options: SurveyOptions) -> Prediction:
    """Return mean and, with `spread`, deviation of the predictions (C I X S) in each direction.

    The deviation is that over networks and directions, around the arithmetic mean.
    """
    means = np.stack([part[0] for part in parts])
    mean = means.mean(axis=0)
    spread = None
    if options.spread:
        spread = np.sqrt(np.mean([part[1] ** 2 for part in parts], axis=0) + means.var(axis=0))
    if options.mean == "geometric" and len(parts) > 1:
        mean = geometric_mean(means)
    return Prediction(mean, spread)


def geometric_mean(probabilities: NDArray[np.float32]) -> Volume:
    """Return the geometric mean over the first axis, of salt and of no salt, such that both sum to 1.

    That is the mean of the logits. A probability counts as at least half a step of the files of blocks, and as at most
    1 less as much; but if all are 0, so is the mean.
    """
    least = 0.5 / BLOCK_STEPS
    p = probabilities.clip(least, 1 - least)
    logit = np.log(p / (1 - p)).mean(axis=0)
    mean: Volume = 1 / (1 + np.exp(-logit))
    mean[~probabilities.any(axis=0)] = 0
    return mean.astype(np.float32)
