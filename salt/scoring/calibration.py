"""How often pixels of a given probability are salt."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

N_BINS = 10


def reliability(probabilities: NDArray[Any], masks: NDArray[Any], n_bins: int = N_BINS) -> pd.DataFrame:
    """Pixels in bins of equal width by their probability: `probability` and `salt` (means of the bin), and `share`.

    Probabilities, as float16, and masks are arrays (N H W), or N arrays of several sizes. Bins without a pixel are
    left out. A pixel at the border of two bins counts for the lower one.

    Reference: Guo, Pleiss, Sun, Weinberger 2017, "On Calibration of Modern Neural Networks", arXiv:1706.04599.
    """
    of_all, of_salt = (np.zeros(2**16, dtype=np.int64) for _ in range(2))  # pixels by the 16 bits of their probability
    for probability, mask in zip(probabilities, masks, strict=True):
        bits = np.ascontiguousarray(probability, dtype=np.float16).view(np.uint16)
        of_all += np.bincount(bits.ravel(), minlength=2**16)
        of_salt += np.bincount(bits[mask != 0], minlength=2**16)
    there = np.flatnonzero(of_all)
    values = there.astype(np.uint16).view(np.float16).astype(np.float64)
    frame = pd.DataFrame({"pixels": of_all[there], "salt": of_salt[there], "sum": values * of_all[there]})
    bins = frame.groupby(np.maximum(np.ceil(values * n_bins) - 1, 0)).sum()
    return pd.DataFrame(
        {
            "probability": bins["sum"] / bins["pixels"],
            "salt": bins["salt"] / bins["pixels"],
            "share": bins["pixels"] / bins["pixels"].sum(),
        }
    )


def calibration_error(bins: pd.DataFrame) -> float:
    """Mean difference between probability and share of salt over pixels, from the bins of `reliability`."""
    return float((bins["share"] * (bins["probability"] - bins["salt"]).abs()).sum())


def bias(bins: pd.DataFrame, low: float, high: float) -> float | None:
    """Mean of probability less share of salt over the pixels in the bins within two limits; None if there is none."""
    inner = bins[(bins["probability"] > low) & (bins["probability"] < high)]
    if inner.empty:
        return None
    return float(np.average(inner["probability"] - inner["salt"], weights=inner["share"]))
