"""How predictions err: the kind of error of a mask, and how often pixels of a given probability are salt."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from salt.scoring.metrics import score_counts

ERROR_KINDS = {
    "perfect": "full score: the mask overlaps the truth by more than 95 %, or both are empty",
    "boundary": "most wrong pixels lie near the outline of the true salt",
    "missed salt": "most wrong pixels far from the outline are salt that was not found, or none was found at all",
    "invented salt": "most wrong pixels far from the outline are salt that is not there",
}
NEAR = 0.05  # of the tile's side (the root of its area): pixels this near to the true outline are boundary
N_BINS = 10


@dataclass(frozen=True)
class Errors:
    """The kind of error (of `ERROR_KINDS`), and the missed and invented salt in pixels."""

    kind: str
    missed: int
    invented: int


def classify(truth: NDArray[Any], prediction: NDArray[Any]) -> Errors:
    """Compare a predicted mask (H W) with the true one."""
    truth, prediction = truth != 0, prediction != 0
    missed, invented = truth & ~prediction, prediction & ~truth
    far = distance_to_outline(truth) > NEAR * truth.size**0.5
    far_missed, far_invented = np.count_nonzero(missed & far), np.count_nonzero(invented & far)
    counts = int(np.count_nonzero(missed)), int(np.count_nonzero(invented))
    sizes = (np.array([np.count_nonzero(mask)]) for mask in (truth & prediction, truth, prediction))
    if score_counts(*sizes)[0] == 1:
        kind = "perfect"
    elif truth.any() and prediction.any() and 2 * (far_missed + far_invented) < sum(counts):
        kind = "boundary"
    else:
        kind = "missed salt" if truth.any() and far_missed >= far_invented else "invented salt"
    return Errors(kind, *counts)


def distance_to_outline(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the distance of each pixel (H W) to the nearest one of the other class; large if the mask has only one."""
    inside, outside = (
        cv2.distanceTransform(side.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE) for side in (mask, ~mask)
    )
    return inside + outside


def reliability(probabilities: NDArray[Any], masks: NDArray[Any], known: NDArray[Any] | None = None) -> pd.DataFrame:
    """Return bins of pixels by probability: mean `probability`, share of `salt`, and `share` of all pixels.

    Probabilities (cast to float16) and masks are arrays (N H W), or N arrays of several sizes. With `known` (as masks,
    bool) only these pixels count. Empty bins are left out. A pixel on the border of two bins counts for the lower one.

    Reference: Guo, Pleiss, Sun, Weinberger 2017, "On Calibration of Modern Neural Networks", arXiv:1706.04599.
    """
    of_all, of_salt = (np.zeros(2**16, dtype=np.int64) for _ in range(2))  # pixels by the 16 bits of their probability
    for i, (probability, mask) in enumerate(zip(probabilities, masks, strict=True)):
        if known is not None:
            probability, mask = probability[known[i]], mask[known[i]]
        bits = np.ascontiguousarray(probability, dtype=np.float16).view(np.uint16)
        of_all += np.bincount(bits.ravel(), minlength=2**16)
        of_salt += np.bincount(bits[mask != 0], minlength=2**16)
    there = np.flatnonzero(of_all)
    values = there.astype(np.uint16).view(np.float16).astype(np.float64)
    frame = pd.DataFrame({"share": of_all[there], "salt": of_salt[there], "probability": values * of_all[there]})
    sums = frame.groupby(np.maximum(np.ceil(values * N_BINS) - 1, 0)).sum()
    bins = sums[["probability", "salt"]].div(sums["share"], axis=0)
    return bins.assign(share=sums["share"] / sums["share"].sum())


def calibration_error(bins: pd.DataFrame) -> float:
    """Return the mean difference between probability and share of salt over pixels, from the bins of `reliability`."""
    return float((bins["share"] * (bins["probability"] - bins["salt"]).abs()).sum())


def bias(bins: pd.DataFrame, low: float, high: float) -> float | None:
    """Return the mean of probability minus share of salt over the bins between two limits, or None if all are empty."""
    inner = bins[(bins["probability"] > low) & (bins["probability"] < high)]
    return None if inner.empty else float(np.average(inner["probability"] - inner["salt"], weights=inner["share"]))
