"""The results of a survey from the files of all its blocks: SEG-Y, bodies and horizons."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from salt.inference.predict import Prediction
from salt.inference.survey_blocks import BLOCK_STEPS, BlockReader, LineBlock, Scratch, blocks_of
from salt.inference.survey_bodies import Bodies, horizons_of
from salt.inference.survey_options import SurveyOptions
from salt.machine.lanes import in_lanes
from salt.runs.files import sync_folder, temporary_beside, write_text
from salt.scoring.metrics import is_salt
from salt.survey.geometry import Survey
from salt.survey.write import SurveyWriter, required_bytes

Volume = NDArray[np.float32]  # (inlines, crosslines, samples)
LONGEST_ROW = 80  # bytes of a row of the horizons, about


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
    """Return the bytes of the results: exactly those of SEG-Y, at most those of horizons, without bodies."""
    n_traces = int((survey.trace_of >= 0).sum())
    return (1 + options.spread) * required_bytes(survey, options.as_int8) + n_traces * LONGEST_ROW


def write_survey_results(
    survey: Survey,
    options: SurveyOptions,
    scratch: Scratch,
    blocks: Sequence[Sequence[LineBlock]],
    results: dict[str, Path],
    threshold: float,
) -> None:
    """Write all results, in the folder of the blocks until they are complete; `blocks` are those of each direction.

    Raises:
        OSError: a file cannot be written.
    """
    parts = {kind: temporary_beside(scratch.folder / path.name) for kind, path in results.items()}
    inlines, bodies = blocks_of(survey, "inline"), Bodies(options.smallest_body)

    def salt_of(block: LineBlock, mean: NDArray[np.float32]) -> NDArray[np.bool_]:
        salt = is_salt(mean, threshold)
        salt &= survey.trace_of[block.first : block.last, :, None] >= 0
        return salt

    try:
        with ExitStack() as stack:
            kinds = [kind for kind in ("probability", "spread") if kind in results]
            segy = [stack.enter_context(SurveyWriter(survey, parts[kind], options.as_int8)) for kind in kinds]
            table = stack.enter_context(Horizons(survey, parts["horizons"]))
            bar = stack.enter_context(tqdm(total=len(survey.inlines), desc="results", unit="line", disable=None))
            for block, prediction in read_all(scratch, blocks, inlines, options):
                for writer, values in zip(segy, prediction, strict=False):  # without spread its place is None
                    assert values is not None
                    writer.write_block(block.first, values)
                salt = salt_of(block, prediction.mean)
                bodies.add(salt)
                if options.smallest_body == 1:  # else it takes all blocks to know how large a body is
                    table.add(block, salt)
                bar.update(block.n_lines)
            if options.smallest_body > 1:
                for number, (block, prediction) in enumerate(read_all(scratch, blocks, inlines, options)):
                    table.add(block, bodies.large(number, salt_of(block, prediction.mean)))
        write_text(parts["bodies"], bodies.table(survey).to_csv(index=False, lineterminator="\n"))
        for kind, path in results.items():
            os.replace(parts[kind], path)
        sync_folder(results["probability"].parent)
    finally:
        for path in parts.values():
            path.unlink(missing_ok=True)


def read_all(
    scratch: Scratch, blocks: Sequence[Sequence[LineBlock]], inlines: Sequence[LineBlock], options: SurveyOptions
) -> Iterator[tuple[LineBlock, Prediction]]:
    """Yield the mean of the directions for one block of inlines after the other; meanwhile the next one is read."""
    with ExitStack() as stack:
        readers = [stack.enter_context(BlockReader(scratch, of_direction)) for of_direction in blocks]

        def read(block: LineBlock) -> tuple[LineBlock, Prediction]:
            return block, combine_directions([reader.read(block) for reader in readers], options)

        yield from in_lanes(read, inlines, n_lanes=1, waiting=1)


class Horizons:
    """The file of horizons: the names of the columns, and a row for each trace with salt."""

    def __init__(self, survey: Survey, path: Path) -> None:
        self.survey, self.file = survey, path.open("w", encoding="utf-8", newline="")

    def add(self, block: LineBlock, salt: NDArray[np.bool_]) -> None:
        """Write the rows of some inlines (I X S); the first ones come first."""
        rows = horizons_of(salt, self.survey, block.first)
        rows.to_csv(self.file, header=block.first == 0, index=False, lineterminator="\n")

    def __enter__(self) -> "Horizons":
        return self

    def __exit__(self, *error: object) -> None:
        """Close the file when all of it is on the disk."""
        with self.file:
            self.file.flush()
            os.fsync(self.file.fileno())


def combine_directions(parts: Sequence[Volume], options: SurveyOptions) -> Prediction:
    """Return mean and, with `spread`, deviation of the predictions (C I X S) in each direction.

    The deviation is that over networks and directions, around the arithmetic mean.
    """
    if len(parts) == 1:
        return Prediction(parts[0][0], parts[0][1] if options.spread else None)
    means = np.stack([part[0] for part in parts])
    mean = means.mean(axis=0)
    spread = None
    if options.spread:
        spread = np.sqrt(np.mean([part[1] ** 2 for part in parts], axis=0) + means.var(axis=0))
    if options.mean == "geometric":
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
