"""How well one tile's border continues in another's: a score learned from cuts inside tiles, without labels.

A cosine transform along a border gives nearly independent parts. For each frequency, canonical correlation finds the
columns' combination on one side of a cut that agrees best with one on the other side. The score compares how much two
borders differ with how much unrelated borders would; contrast drops out.

Reference: Hotelling 1936, "Relations between two sets of variates", Biometrika 28; Gallagher 2012, "Jigsaw Puzzles with
Pieces of Unknown Orientation", CVPR, for scores that know how neighbouring lines differ.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct

DEPTH = 6  # columns beside a border that are compared
STRIP = 8  # columns that a border's contrast is taken from
LEAST_SPREAD = 3.0  # grey values: less variation counts as noise
CUTS = (0.2, 0.35, 0.5, 0.65, 0.8)  # of the width: where tiles are cut to learn from
LEARNED_FROM = 6000  # tiles
CLOSEST = 0.9995  # the highest correlation

Index = NDArray[np.int64]
Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Seam:
    """What cuts teach, for each frequency: weights of the columns on either side (F D), and their correlation (F)."""

    before: Scores
    after: Scores
    correlation: Scores


def transform_columns(images: NDArray[np.uint8], at: int, before: bool) -> Scores:
    """Return the transformed columns (N H D) of images (N H W) beside the cut before column `at`, nearest first."""
    columns = images[:, :, at - STRIP : at][:, :, ::-1] if before else images[:, :, at : at + STRIP]
    strip = columns.astype(np.float32)
    strip -= strip.mean(axis=(1, 2), keepdims=True)
    spread = np.sqrt((strip**2).mean(axis=(1, 2), keepdims=True))
    return dct(strip / np.maximum(spread, LEAST_SPREAD), axis=1, norm="ortho")[:, :, :DEPTH]


def learn(images: NDArray[np.uint8]) -> Seam:
    """Learn from cuts inside some of the images (N H W)."""
    some = images[np.random.default_rng(0).permutation(len(images))[:LEARNED_FROM]]
    width = images.shape[2]
    cuts = np.clip(np.multiply(CUTS, width).round().astype(int), STRIP, width - STRIP)
    x, y = (
        np.concatenate([transform_columns(some, cut, before) for cut in cuts]).transpose(1, 0, 2)
        for before in (True, False)
    )
    n = x.shape[1]
    roots = [inverse_root(side.transpose(0, 2, 1) @ side / n) for side in (x, y)]
    left, correlation, right = np.linalg.svd(roots[0] @ (x.transpose(0, 2, 1) @ y / n) @ roots[1])
    return Seam(
        (roots[0] @ left[:, :, :1])[..., 0].astype(np.float32),
        (roots[1] @ right.transpose(0, 2, 1)[:, :, :1])[..., 0].astype(np.float32),
        np.minimum(correlation[:, 0], CLOSEST).astype(np.float32),
    )


def inverse_root(covariance: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the inverse square roots of covariances (F D D) with a little noise added to each."""
    size = covariance.shape[-1]
    noise = (1e-9 + 1e-4 * np.trace(covariance, axis1=1, axis2=2)[:, None, None] / size) * np.eye(size)
    values, vectors = np.linalg.eigh(covariance + noise)
    return vectors @ (values[:, :, None] ** -0.5 * vectors.transpose(0, 2, 1))


@dataclass(frozen=True)
class Borders:
    """The borders of N tiles in one direction (N F): those before a seam (right or lower) and those after it."""

    before: Scores
    after: Scores
    correlation: Scores
    blank: NDArray[np.bool_]  # (2 N) which borders before and after the seam show too little to be compared

    @classmethod
    def of(cls, seam: Seam, images: NDArray[np.uint8], upside_down: bool = False) -> "Borders":
        """Return the right and left borders of images (N H W); left ones upside down if no border shall continue."""
        width, turned = images.shape[2], images[:, ::-1] if upside_down else images
        before = np.einsum("nfd,fd->nf", transform_columns(images, width, True), seam.before)
        after = np.einsum("nfd,fd->nf", transform_columns(turned, 0, False), seam.after)
        strips = images[:, :, width - STRIP :], images[:, :, :STRIP]
        blank = np.stack([strip.std(axis=(1, 2)) < LEAST_SPREAD for strip in strips])
        return cls(before, after, seam.correlation, blank)

    def scores(self, first: Index | slice) -> Scores:
        """Score some tiles' borders (M) before the seam with all borders (N) after it.

        A score is the log-likelihood ratio of neighbours against strangers. It is -inf for a tile with itself and for
        a border that shows too little.
        """
        r = self.correlation
        u, v = self.before[first], self.after
        alone = (u**2).sum(axis=1)[:, None] + (v**2).sum(axis=1)
        weight = 1 / (1 - r**2)
        joint = (u**2 @ weight)[:, None] + v**2 @ weight - 2 * (u * (r * weight)) @ v.T
        result = log_ratio(joint, alone, len(r))
        index = np.arange(len(self.before))[first]
        result[np.arange(len(index)), index] = -np.inf
        result[self.blank[0, index]] = -np.inf
        result[:, self.blank[1]] = -np.inf
        return result

    def pair(self, first: Index, second: Index) -> Scores:
        r, u, v = self.correlation, self.before[first], self.after[second]
        joint = (u**2 + v**2 - 2 * r * u * v) @ (1 / (1 - r**2))
        return log_ratio(joint, (u**2).sum(axis=1) + (v**2).sum(axis=1), len(r))


def log_ratio(joint: NDArray[np.floating], alone: NDArray[np.floating], n: int) -> Scores:
    """Return the log-likelihood ratio of borders with `n` frequencies from their joint and separate sums of squares."""
    return np.asarray(-n * np.log(np.maximum(joint, 1e-6) / np.maximum(alone, 1e-6)), dtype=np.float32)
