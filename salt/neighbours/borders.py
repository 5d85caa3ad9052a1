"""How well the border of one tile continues in that of another: a score learned from cuts inside tiles, without labels.

Along a border the columns beside it are transformed by a cosine transform, in which a stationary signal has nearly
independent parts. For each frequency, canonical correlation gives the combination of columns on one side that agrees
best with one on the other side of a cut. Two borders are compared by how much smaller their difference is than it would
be for two that have nothing to do with each other; a tile's own contrast drops out.

Reference: Hotelling 1936, "Relations between two sets of variates", Biometrika 28; Gallagher 2012, "Jigsaw Puzzles with
Pieces of Unknown Orientation", CVPR, for scores that know how neighbouring lines differ.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct

DEPTH = 6  # columns beside a border that are looked at
STRIP = 8  # columns that a border's contrast is taken from
LEAST_SPREAD = 3.0  # grey values: what varies less counts as noise
CUTS = (0.2, 0.35, 0.5, 0.65, 0.8)  # of the width: where tiles are cut to learn from
LEARNED_FROM = 6000  # tiles
CLOSEST = 0.9995  # no correlation counts as higher
BLOCK = 1000  # tiles that are compared with all others at once

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Seam:
    """What is known of cuts: for each frequency (F) the weights of columns on either side (F D), their correlation."""

    before: Array
    after: Array
    correlation: Array


def describe(images: NDArray[np.uint8], at: int, before: bool) -> Array:
    """The columns of images (N H W) beside the cut before column `at`, nearest first, transformed (N H D)."""
    some = images[:, :, at - STRIP : at][:, :, ::-1] if before else images[:, :, at : at + STRIP]
    strip = some.astype(np.float32)
    strip -= strip.mean(axis=(1, 2), keepdims=True)
    spread = np.sqrt((strip**2).mean(axis=(1, 2), keepdims=True))
    transformed: Array = dct(strip / np.maximum(spread, LEAST_SPREAD), axis=1, norm="ortho")[:, :, :DEPTH]
    return transformed


def learn(images: NDArray[np.uint8], seed: int = 0) -> Seam:
    """Learn from cuts inside some of the images (N H W)."""
    rng = np.random.default_rng(seed)
    some = images[rng.permutation(len(images))[:LEARNED_FROM]]
    width = images.shape[2]
    cuts = np.clip(np.multiply(CUTS, width).round().astype(int), STRIP, width - STRIP)
    x, y = (
        np.concatenate([describe(some, cut, before) for cut in cuts]).transpose(1, 0, 2) for before in (True, False)
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
    """The inverse square roots of covariances (F D D), of which each has some noise added."""
    size = covariance.shape[-1]
    noise = (1e-9 + 1e-4 * np.trace(covariance, axis1=1, axis2=2)[:, None, None] / size) * np.eye(size)
    values, vectors = np.linalg.eigh(covariance + noise)
    root: NDArray[np.floating] = vectors @ (values[:, :, None] ** -0.5 * vectors.transpose(0, 2, 1))
    return root


@dataclass(frozen=True)
class Borders:
    """The borders of N tiles in one direction (N F): those before a seam (right or lower) and those after it."""

    before: Array
    after: Array
    correlation: Array
    blank: NDArray[np.bool_]  # (2 N) which borders before and after the seam show too little to be compared

    @classmethod
    def of(cls, seam: Seam, images: NDArray[np.uint8], upside_down: bool = False) -> "Borders":
        """The right borders of images (N H W), and their left ones; these upside down, if no border shall continue."""
        width, turned = images.shape[2], images[:, ::-1] if upside_down else images
        before = np.einsum("nfd,fd->nf", describe(images, width, True), seam.before)
        after = np.einsum("nfd,fd->nf", describe(turned, 0, False), seam.after)
        strips = images[:, :, width - STRIP :], images[:, :, :STRIP]
        blank = np.stack([strip.std(axis=(1, 2)) < LEAST_SPREAD for strip in strips])
        return cls(before, after, seam.correlation, blank)

    def scores(self, first: NDArray[np.int64] | slice) -> Array:
        """Scores of some tiles' borders (M) before the seam with all (N) after it.

        A tile with itself, and a border that shows too little, have the lowest, -inf.

        The logarithm of the ratio of likelihoods that the two are neighbours or strangers, whatever their contrast.
        """
        r = self.correlation
        u, v = self.before[first], self.after
        alone = (u**2).sum(axis=1)[:, None] + (v**2).sum(axis=1)
        weight = 1 / (1 - r**2)
        joint = (u**2 @ weight)[:, None] + v**2 @ weight - 2 * (u * (r * weight)) @ v.T
        result = -u.shape[1] * np.log(np.maximum(joint, 1e-6) / np.maximum(alone, 1e-6))
        index = np.arange(len(self.before))[first]
        result[np.arange(len(index)), index] = -np.inf
        result[self.blank[0, index]] = -np.inf
        result[:, self.blank[1]] = -np.inf
        return np.asarray(result, dtype=np.float32)

    def pair(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> Array:
        """Scores of pairs of tiles (M)."""
        r, u, v = self.correlation, self.before[first], self.after[second]
        weight = 1 / (1 - r**2)
        joint = (u**2 + v**2 - 2 * r * u * v) @ weight
        alone = (u**2).sum(axis=1) + (v**2).sum(axis=1)
        return np.asarray(-u.shape[1] * np.log(np.maximum(joint, 1e-6) / np.maximum(alone, 1e-6)), dtype=np.float32)
