"""A 3-D survey predicted from file to file: blocks of lines by any number of processes, then the results of all."""

import hashlib
import json
import logging
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from salt.data import likeness
from salt.data.amplitudes import Range, Scaling
from salt.data.tiles import Tiles
from salt.data.windows import Windows
from salt.inference.claims import claim_results, facts_of, record_results
from salt.inference.files import check_result_names
from salt.inference.model import Model
from salt.inference.predict import Prediction
from salt.inference.settings import PredictionSettings
from salt.inference.survey_blocks import LineBlock, Scratch, SurveySample, blocks_of, read_tiles, sample_survey
from salt.inference.survey_options import SurveyOptions, trained_bytes
from salt.inference.survey_results import results_of, results_size, write_survey_results
from salt.machine.lanes import in_lanes
from salt.paths import printable
from salt.runs.ensemble import Ensemble
from salt.runs.files import locked, remove_left, sha256
from salt.survey.geometry import Survey, cut_survey, open_survey
from salt.words import plural

log = logging.getLogger("salt")

N_FIRST = 16  # windows on which an engine is tried
N_COMPARED = 8  # inlines that are compared with the training data
SPARE = 1 << 20  # bytes of tables and records
GB = 1e9
LONGEST = 24 * 3600.0  # seconds for which another process may write the results

Load = Callable[[NDArray[np.uint8], int], Model]


@dataclass(frozen=True)
class SurveyJob:
    """One survey, what is predicted of it, and where the results go."""

    ensemble: Ensemble
    settings: PredictionSettings
    options: SurveyOptions
    survey: Survey  # as much of it as is predicted
    out: Path
    limits: Range  # of the amplitudes
    facts: dict[str, Any]

    @property
    def name(self) -> str:
        """Return what the names of all results begin with."""
        return self.survey.path.stem

    @property
    def record(self) -> Path:
        """Return the file of what the results depend on."""
        return self.out / f"{self.name}_survey.json"

    @property
    def results(self) -> dict[str, Path]:
        """Return the files of the results."""
        return results_of(self.survey.path, self.out, self.options.spread)

    @property
    def scratch(self) -> Scratch:
        """Return where blocks are kept until all are done; those of this record count."""
        key = sha256(self.record)[:12] if self.record.exists() else ""
        return Scratch(self.out / f"{self.name}_blocks", self.survey, self.options.spread, key)

    @property
    def blocks(self) -> list[list[LineBlock]]:
        """Return all blocks, by direction."""
        return [blocks_of(self.survey, direction) for direction in self.options.directions]

    @property
    def is_done(self) -> bool:
        """Return whether the results are complete."""
        return self.record.exists() and all(path.exists() for path in self.results.values())

    def todo(self, part: Sequence[int] = (1, 1)) -> list[LineBlock]:
        """Return the blocks of a part (K of N) that are not done."""
        scratch = self.scratch
        return [block for block in list(chain(*self.blocks))[part[0] - 1 :: part[1]] if not scratch.has(block)]


def open_job(
    ensemble: Ensemble, settings: PredictionSettings, path: Path, out: Path, options: SurveyOptions
) -> SurveyJob:
    """Check a survey and its options, and return the job.

    Raises:
        ValueError: the survey cannot be read, the options do not fit it or the networks, or the folder holds results
            that were made in another way.
    """
    if options.depth is None and ensemble.sees_depth:
        raise ValueError("this network sees the survey depth: give depth=..., in feet")
    data = ensemble.first.config.data
    whole = open_survey(path, options.inline_byte, options.crossline_byte, trained_bytes(data))
    sample = sample_survey(whole, data, data.nodata if options.nodata is None else options.nodata)
    survey = cut_survey(whole, {direction: (first, last) for direction, (first, last) in options.lines.items()})
    described = {"survey": identify(whole, sample), "range": list(sample.limits)}
    facts = json.loads(json.dumps(facts_of(ensemble, settings, options.facts() | described)))
    out.mkdir(parents=True, exist_ok=True)
    try:
        check_result_names(path, out)
    except ValueError as error:
        raise ValueError(f"{printable(path)}: {error}") from None
    job = SurveyJob(ensemble, settings, options, survey, out, sample.limits, facts)
    taken = [place for place in job.results.values() if place.exists()]
    if taken and not job.record.exists():
        raise ValueError(f"{taken[0]} is not of this survey; choose another --out")
    if not job.record.exists():
        scaling = Scaling(data.amplitudes, data.nodata if options.nodata is None else options.nodata).by(sample.limits)
        for line in [*sample.remarks, *compare_looks(ensemble, whole, scaling)]:
            tqdm.write(f"{printable(path)}: {line}", file=sys.stderr)
    settings = claim_results(job.record, facts, settings)
    return SurveyJob(ensemble, settings, options, survey, out, sample.limits, facts)


def identify(survey: Survey, sample: SurveySample) -> str:
    """Return a digest of a survey's geometry, layout and some amplitudes, wherever its file lies."""
    layout = survey.layout
    digest = hashlib.sha256(repr((layout.order, layout.code, layout.start, layout.n_samples)).encode())
    for array in (survey.inlines, survey.crosslines, survey.trace_of, survey.duplicates, sample.amplitudes):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def compare_looks(ensemble: Ensemble, survey: Survey, scaling: Scaling) -> list[str]:
    """Return in what the survey differs strongly from the data that the run was trained on, by a few of its inlines."""
    trained = likeness.read(ensemble.first.directory.path)
    if trained is None:  # a run of an earlier version
        return []
    lines = np.unique(np.linspace(0, len(survey.inlines) - 1, N_COMPARED).round().astype(np.int64)).tolist()
    parts = [read_tiles(survey, LineBlock("inline", line, line + 1), scaling, None) for line in lines]
    levels, missing = (np.concatenate([getattr(part, name) for part in parts]) for name in ("images", "missing"))
    tiles = Tiles(list(map(str, lines)), levels, None, np.full(len(lines), np.nan), missing)
    found = likeness.differences(trained, likeness.glance(tiles, survey.interval))
    return [f"differs from the data that the run was trained on: {line}" for line in found]


def predict_survey(job: SurveyJob, load: Load) -> bool:
    """Predict the blocks of a part, and write the results if no block is left; return whether they are complete.

    `load` returns the networks, given windows (N h w) to try them on and about how many are to be predicted.

    Raises:
        ValueError: the disk is too small, the networks cannot be used, or others computed the earlier blocks.
        OSError: a file cannot be written.
    """
    if not job.is_done and (todo := job.todo(job.options.part)):
        check_space(job)
        nodata = job.ensemble.first.config.data.nodata if job.options.nodata is None else job.options.nodata
        scaling = Scaling(job.ensemble.first.config.data.amplitudes, nodata).by(job.limits)

        def read(block: LineBlock) -> Tiles:
            return read_tiles(job.survey, block, scaling, job.options.depth)

        windows = windows_of(job, read(todo[0]._replace(last=todo[0].first + 1)))
        n_windows = len(windows) * sum(block.n_lines for blocks in job.blocks for block in blocks)
        model = load(windows.cut(0, min(len(windows), N_FIRST))[0], n_windows)
        with locked(job.out, job.name, LONGEST):
            todo = [] if job.is_done else job.todo(job.options.part)  # others may have ended meanwhile
            if todo:
                record_results(job.record, job.facts, model.made_with)
        predict_blocks(job, model, read, todo)
    return finish(job)


def windows_of(job: SurveyJob, tiles: Tiles) -> Windows:
    """Return the windows over a line."""
    return Windows(tiles.images, np.array([0]), job.ensemble.first.config.data.size)


def predict_blocks(job: SurveyJob, model: Model, read: Callable[[LineBlock], Tiles], todo: Sequence[LineBlock]) -> None:
    """Predict blocks; meanwhile the next one is read and the last one written."""
    predictions = model.predict_blocks(in_lanes(read, todo, n_lanes=1, waiting=1), job.options.spread)
    scratch = job.scratch

    def write(predicted: tuple[LineBlock, Prediction]) -> LineBlock:
        scratch.write(*predicted)
        return predicted[0]

    pairs = zip(todo, predictions, strict=True)
    n_lines = sum(block.n_lines for block in todo)
    with tqdm(total=n_lines, desc="salt-predict", unit="line", disable=None, smoothing=0) as bar:
        for block in in_lanes(write, pairs, n_lanes=1, waiting=1):
            bar.update(block.n_lines)


def check_space(job: SurveyJob) -> None:
    """Raise ValueError if the disk has no room for the blocks that are to come, of all parts, and the results."""
    remove_left(job.scratch.folder)
    blocks = sum(job.scratch.size(block) for block in job.todo())
    needed = blocks + results_size(job.survey, job.options) + SPARE
    free = shutil.disk_usage(job.out).free
    if needed > free:
        raise ValueError(
            f"{job.out} has {free / GB:.3g} GB free, but the prediction of {job.survey.path} takes {needed / GB:.3g} "
            f"GB: {blocks / GB:.3g} GB for blocks, deleted at the end, and the results"
        )


def finish(job: SurveyJob) -> bool:
    """Write the results if all blocks are there, and delete these; return whether the results are complete."""
    with locked(job.out, job.name, LONGEST):
        if not job.is_done:
            if left := job.todo():
                log.info("%s: %s left for other parts", job.survey.path, plural(len(left), "block"))
                return False
            check_space(job)
            threshold = float(job.ensemble.score["threshold"])
            write_survey_results(job.survey, job.options, job.scratch, job.blocks, job.results, threshold)
        job.scratch.clear()
    return True
