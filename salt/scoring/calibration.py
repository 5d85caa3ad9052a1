"""How often pixels of a given probability are salt."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

N_BINS = 10


def reliability(probabilities: NDArray[Any], masks: NDArray[Any]) -> pd.DataFrame:
    """Return bins of pixels by probability: mean `probability`, share of `salt`, and `share` of all pixels.

    Probabilities (cast to float16) and masks are arrays (N H W), or N arrays of several sizes. Empty bins are left out.
    A pixel on the border of two bins counts for the lower one.

    Reference: Guo, Pleiss, Sun, Weinberger 2017, "On Calibration of Modern Neural Networks", arXiv:1706.04599.
    """
    of_all, of_salt = (np.zeros(2**16, dtype=np.int64) for _ in range(2))  # pixels by the 16 bits of their probability
    for probability, mask in zip(probabilities, masks, strict=True):
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
