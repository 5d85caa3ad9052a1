"""Made-up seismic images with salt bodies: layers, faults, domes, reflections and noise."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from tqdm.auto import tqdm

from salt.data.image import TILE_SIZE
from salt.runs.stacks import Size

SHARE_EMPTY = 0.39  # share of tiles without salt, as in Kaggle's train set
SHARE_CONSTANT = 0.02  # share of tiles with one grey value, likewise
GREY, CONTRAST = 128, 40  # grey value of zero amplitude, grey values per unit of amplitude
ZERO, UNIT = 32768, 4000  # the same of a 16-bit line
SALT_AMPLITUDE = 0.55  # inside salt, relative to the layers outside

Field = NDArray[np.float64]
TILE: Size = (TILE_SIZE, TILE_SIZE)


def make_tiles(rng: np.random.Generator, n: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return n images (N H W, grey 0-255) and masks (N H W, 0 or 1), shuffled."""
    n_constant = round(n * SHARE_CONSTANT)
    n_empty = max(round(n * SHARE_EMPTY), n_constant)
    kinds = rng.permutation(["constant"] * n_constant + ["layers"] * (n_empty - n_constant) + ["salt"] * (n - n_empty))
    tiles = [make_tile(rng, kind) for kind in tqdm(kinds, "generate", unit="tile", disable=None, leave=False)]
    return np.stack([image for image, _ in tiles]), np.stack([mask for _, mask in tiles])


def make_tile(rng: np.random.Generator, kind: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return one image and mask (H W) of kind "constant", "layers" or "salt"."""
    nothing = np.zeros(TILE, dtype=np.uint8)
    if kind == "constant":
        return nothing + np.uint8(rng.integers(0, 200)), nothing
    outside = layers(rng, TILE)
    mask = salt_body(rng) if kind == "salt" else nothing.astype(bool)
    amplitude = with_salt(rng, outside, mask)
    image = np.clip(GREY + CONTRAST * rng.uniform(0.7, 1.3) * amplitude, 0, 255).astype(np.uint8)
    return image, mask.astype(np.uint8)


def make_line(rng: np.random.Generator, size: Size, n_bodies: int) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """Return a line of 16-bit amplitudes and its mask (H W), with salt bodies much larger than a tile."""
    outside = layers(rng, size, faults=int(rng.integers(2, 8)))
    mask = np.zeros(size, dtype=bool)
    for _ in range(n_bodies):
        mask |= large_body(rng, size)
    amplitude = with_salt(rng, outside, mask)
    return np.clip(ZERO + UNIT * amplitude, 0, 65535).astype(np.uint16), mask.astype(np.uint8)


def with_salt(rng: np.random.Generator, outside: Field, mask: NDArray[np.bool_]) -> Field:
    """Return amplitudes (H W) of layers, salt inside the mask, the reflection of its top, and noise."""
    amplitude = outside
    if mask.any():
        amplitude = np.where(mask, SALT_AMPLITUDE * noise(rng, rng.uniform(0.9, 1.6), mask.shape), amplitude)
        amplitude += top_reflector(rng, mask)
    return amplitude + rng.uniform(0.1, 0.35) * noise(rng, 0.7, mask.shape)


def ricker(t: Field, period: float) -> Field:
    """Return a Ricker wavelet (Ricker 1953): second derivative of a Gaussian, 1 at t = 0, main frequency 1 / period."""
    a = (np.pi * t / period) ** 2
    return (1 - 2 * a) * np.exp(-a)


def layers(rng: np.random.Generator, size: Size, faults: int | None = None) -> Field:
    """Return layered reflectivity convolved with a wavelet, then dipped, folded and faulted; unit spread."""
    z, x = grid(size)
    reach = max(size)
    depth = np.arange(-2.0 * reach, 3.0 * reach)
    reflectivity = rng.normal(size=depth.size) * (rng.random(depth.size) < 0.25)
    trace = np.convolve(reflectivity, ricker(np.arange(-15.0, 16.0), rng.uniform(6, 13)), mode="same")
    dip, bend = rng.normal(0, 0.25), rng.uniform(0, 6)
    position = z + dip * x + bend * np.sin(2 * np.pi * (x / rng.uniform(60, 200) + rng.random()))
    for _ in range(rng.integers(0, 3) if faults is None else faults):
        fault = x + rng.normal(0, 0.5) * z > rng.uniform(0, size[1])
        position = position + fault * rng.normal(0, 8)
    return np.interp(position, depth, trace / trace.std())


def grid(size: Size) -> tuple[Field, Field]:
    """Return pixels down and pixels to the right (each H W)."""
    z, x = np.mgrid[: size[0], : size[1]].astype(np.float64)
    return z, x


def wave(rng: np.random.Generator, x: Field, height: float, period: float) -> Field:
    """Return a random wave along x, in pixels, that bends the boundary of a body."""
    parts = (rng.normal(0, height / k) * np.sin(2 * np.pi * k * x / period + rng.uniform(0, 6.3)) for k in (1, 2, 3))
    return sum(parts, np.zeros(()))


def salt_body(rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return a dome that rises from below in a tile, or a closed body; never empty."""
    z, x = grid(TILE)
    bend = wave(rng, x, 5, TILE_SIZE)
    if rng.random() < 0.6:
        center, width = rng.uniform(0, TILE_SIZE), rng.uniform(15, 60)
        top = rng.uniform(5, 75) + 70 * (1 - np.exp(-(((x - center) / width) ** 2)))
        body = top + bend < z
    else:
        depth, place, radius = rng.uniform(20, 80), rng.uniform(15, 85), rng.uniform(10, 35)
        body = np.hypot((z - depth) * rng.uniform(0.8, 1.8), x - place) + bend < radius
    return body if body.any() else salt_body(rng)


def large_body(rng: np.random.Generator, size: Size) -> NDArray[np.bool_]:
    """Return a closed body in a line, of up to a quarter of its height."""
    z, x = grid(size)
    bend = wave(rng, x, 12, 400)
    depth, place = rng.uniform(0.1, 0.9, 2) * size
    radius = rng.uniform(0.08, 0.25) * min(size)
    return np.asarray(np.hypot((z - depth) * rng.uniform(0.8, 1.8), x - place) + bend < radius)


def top_reflector(rng: np.random.Generator, mask: NDArray[np.bool_]) -> Field:
    """Return a strong reflection along the upper boundary of the salt."""
    distance = ndimage.distance_transform_edt(~mask) - ndimage.distance_transform_edt(mask)
    upper = np.cumsum(mask, axis=0) < 8  # the flanks and the base reflect little
    return np.asarray(rng.uniform(1.5, 3) * ricker(distance, rng.uniform(6, 10)) * upper)


def noise(rng: np.random.Generator, blur: float, size: Size) -> Field:
    """Return noise without direction, blurred by so many pixels; unit spread."""
    field = ndimage.gaussian_filter(rng.normal(size=size), blur)
    return np.asarray(field / field.std())
