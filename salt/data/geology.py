"""What a made-up survey consists of: waves, faults, salt bodies, layers and textures, drawn from a seed.

Lines are counted from 0, inlines and crosslines alike; depths are samples. `scale` is 1 for 300 lines.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from salt.data.synthetic import ricker

PERIOD = 11.0  # of the wavelet, in samples
FINE, COARSE = 16, 4  # entries of a table for each sample: layers; bodies
CANDIDATES = 20  # places tried for each body: it goes to the one that is farthest from the others
BODIES, FAULTS = 8.0, 9.0  # for 300 by 300 lines
SALT_SHARE = 0.155  # of the volume, before bodies overlap and leave it
Field = NDArray[np.float64]
Samples = NDArray[np.float32]
Size3 = tuple[int, int, int]  # inlines, crosslines, samples


@dataclass(frozen=True)
class Waves:
    """Fields over the survey, each a sum of cosines: smooth, without a grid, with unit spread."""

    height: Field  # of each cosine (fields, cosines)
    by_inline: Field  # radians per inline
    by_crossline: Field
    phase: Field

    @classmethod
    def draw(cls, rng: np.random.Generator, size: tuple[int, int], periods: tuple[float, float]) -> "Waves":
        """Draw fields of so many cosines, whose periods (in lines) lie between two numbers."""
        period = np.exp(rng.uniform(np.log(periods[0]), np.log(periods[1]), size))
        angle = rng.uniform(0, 2 * np.pi, size)
        height = rng.uniform(0.5, 1, size) * period
        height *= np.sqrt(2 / (height**2).sum(axis=1, keepdims=True))
        turn = 2 * np.pi / period
        return cls(height, turn * np.cos(angle), turn * np.sin(angle), rng.uniform(0, 2 * np.pi, size))

    def at(self, inline: float, crosslines: Field) -> Field:
        """Return the fields along an inline (fields, X)."""
        angle = self.by_inline * inline + self.phase
        return (self.height[..., None] * np.cos(angle[..., None] + self.by_crossline[..., None] * crosslines)).sum(1)


@dataclass(frozen=True)
class Fault:
    """An inclined plane beside which the layers have slipped down, less so away from its centre."""

    inline: float
    crossline: float
    strike: float  # radians
    dip: float  # lines per sample, by which the plane moves towards the side that slipped
    throw: float  # samples
    length: float  # half of it, in lines
    reach: float  # lines beside the plane over which the slip ends
    tip: float  # sample at which it begins

    def at(self, inline: float, crosslines: Field, n_samples: int) -> tuple[Samples, Samples]:
        """Return the distance from the plane at sample 0, and the slip at the plane (each X); 0 if no sample slips."""
        di, dx = inline - self.inline, crosslines - self.crossline
        along = (di * np.cos(self.strike) - dx * np.sin(self.strike)) / self.length
        across = di * np.sin(self.strike) + dx * np.cos(self.strike) + 8 * np.cos(3 * along) * self.length / 150
        across += self.dip * self.tip
        slip = (
            self.throw * np.clip(1 - along**2, 0, None) * ((across > 0) & (across - self.dip * n_samples < self.reach))
        )
        return across.astype(np.float32), slip.astype(np.float32)

    def rows(self, across: Samples, n_samples: int) -> slice:
        """Return the samples of traces at a distance from the plane at which any may have slipped."""
        first = max(self.tip, (float(across.min()) - self.reach) / self.dip)
        return slice(max(0, int(first)), max(0, min(n_samples, int(float(across.max()) / self.dip) + 2)))


@dataclass(frozen=True)
class Body:
    """A salt body around an axis: a cap on a stem, with a radius for every sample."""

    centre: tuple[float, float]  # inline and crossline of the axis, on average
    inline: Samples  # of the axis (S)
    crossline: Samples
    radius: Samples  # in lines, COARSE entries for each sample; negative above the top
    drag: Samples  # the same smoothed: how far the layers are bent upwards
    twist: tuple[Samples, Samples]  # cosine and sine of the angle by which the lobes turn with depth (each S)
    phases: Field  # of the lobes
    lobes: Field  # their heights, relative to the radius
    reach: float  # lines from the centre beyond which there is none of it


def draw_faults(rng: np.random.Generator, size: Size3, scale: float) -> list[Fault]:
    """Draw faults at any place; most of them have one of two directions."""
    n_inlines, n_crosslines, n_samples = size
    main, tall = rng.uniform(0, np.pi), n_samples / 400
    faults = []
    for _ in range(max(4, round(FAULTS * n_inlines * n_crosslines / (300 * scale) ** 2))):
        faults.append(
            Fault(
                inline=rng.uniform(0, n_inlines),
                crossline=rng.uniform(0, n_crosslines),
                strike=main + rng.normal(0, 0.25) + (np.pi if rng.random() < 0.4 else 0),
                dip=rng.uniform(0.2, 0.5) * scale / tall,
                throw=rng.uniform(6, 20) * tall,
                length=rng.uniform(90, 220) * scale,
                reach=rng.uniform(80, 200) * scale,
                tip=rng.uniform(-0.1, 0.4) * n_samples,
            )
        )
    return faults


def draw_bodies(rng: np.random.Generator, size: Size3, scale: float) -> list[Body]:
    """Draw salt bodies whose axes keep away from each other."""
    area = np.array(size[:2], dtype=np.float64)
    places = np.empty((0, 2))
    for _ in range(max(3, round(BODIES * area.prod() / (300 * scale) ** 2))):
        candidates = rng.uniform(0.08, 0.92, (CANDIDATES, 2)) * area
        apart = np.hypot(*(candidates[:, None] - places).T).min(axis=0, initial=np.inf)
        places = np.vstack([places, candidates[apart.argmax()]])
    bodies = [draw_body(rng, place, size[2], scale) for place in places]
    share = sum(np.pi * np.mean(np.maximum(body.radius, 0) ** 2) for body in bodies) / area.prod()
    return [grown(body, np.sqrt(SALT_SHARE / share)) for body in bodies]


def grown(body: Body, factor: float) -> Body:
    """Return a body that is wider by a factor."""
    radius, drag = (table * np.float32(factor) for table in (body.radius, body.drag))
    return replace(body, radius=radius, drag=drag, reach=body.reach * factor)


def draw_body(rng: np.random.Generator, place: Field, n_samples: int, scale: float) -> Body:
    """Draw one body: a mushroom on a stem that reaches the bottom, or, one in four, one that has lost its stem."""
    z = np.arange(n_samples * COARSE) / (n_samples * COARSE)  # depth; 1 is the bottom
    top, height = rng.uniform(0.12, 0.42), rng.uniform(0.16, 0.28)
    widest = top + 0.4 * height
    cap, stem = rng.uniform(32, 54), rng.uniform(15, 26)
    neck = stem * (1 + 0.2 * np.sin(rng.uniform(0, 6.3) + 9 * z)) + rng.uniform(5, 40) * np.exp((z - 1) / 0.1)
    if rng.random() < 0.25:  # torn off: a drop
        neck = stem * (widest + 1.4 * height - z) / height
    upper = cap * np.sqrt(np.clip(1 - ((z - widest) / (widest - top)) ** 2, 0, None))
    lower = neck + (cap - neck) * (0.5 + 0.5 * np.cos(np.pi * np.clip((z - widest) / (0.6 * height), 0, 1)))
    radius = np.where(z < widest, upper, lower) - 360 * np.clip(top - z, 0, None)
    t = np.arange(n_samples) / n_samples
    lean, way = rng.uniform(0, 25), rng.uniform(0, 2 * np.pi)
    wander = scale * (lean * (t - 0.5) + 3 * np.sin(rng.uniform(0, 6.3) + 7 * t))
    smooth = ndimage.gaussian_filter1d(radius, 0.07 * len(z), mode="nearest")
    turn = rng.uniform(-1.2, 1.2) * t
    lobes = rng.normal(0, 0.12, 5) / np.arange(1, 6) ** 0.5
    return Body(
        centre=(place[0], place[1]),
        inline=(place[0] + wander * np.cos(way)).astype(np.float32),
        crossline=(place[1] + wander * np.sin(way)).astype(np.float32),
        radius=(radius * scale).astype(np.float32),
        drag=(smooth * scale).astype(np.float32),
        twist=(np.cos(turn).astype(np.float32), np.sin(turn).astype(np.float32)),
        phases=rng.uniform(0, 2 * np.pi, 5),
        lobes=lobes,
        reach=(float(radius.max()) * (1 + np.abs(lobes).sum()) + lean) * scale,
    )


def draw_layers(rng: np.random.Generator, n_samples: int) -> Samples:
    """Return the impedance of layers that are older from top to bottom: FINE entries for each of 3 S samples.

    Sequences of weak layers follow sequences of strong ones. Their reflections have unit spread.
    """
    n = 3 * n_samples
    thickness = rng.gamma(1.5, 3.2, n)
    sequence = (np.cumsum(thickness) / 35).astype(np.int64)
    strength = rng.uniform(0.5, 1.3, sequence[-1] + 1)[sequence]
    layer = np.searchsorted(np.cumsum(thickness), np.arange(n * FINE) / FINE)
    table = ndimage.uniform_filter1d((rng.normal(size=n) * strength)[np.minimum(layer, n - 1)], FINE)
    return (table / convolve(table[None, ::FINE], wavelet()).std()).astype(np.float32)


def draw_texture(rng: np.random.Generator) -> Samples:
    """Return chaos without direction that repeats along three axes; its reflections have unit spread."""
    field = ndimage.gaussian_filter(rng.standard_normal((61, 67, 251), dtype=np.float32), (2, 2, 1.3), mode="wrap")
    return field / convolve(field.reshape(-1, 251), wavelet()).std()


def draw_noise(rng: np.random.Generator, n: int) -> Samples:
    """Return noise of unit spread that is as smooth as what instruments record."""
    noise = ndimage.gaussian_filter1d(rng.standard_normal(n, dtype=np.float32), 1.1)
    return noise / noise.std()


def lobes(body: Body, inline: int, crosslines: Field) -> tuple[Samples, Samples]:
    """Return how far a body bulges towards each trace (X): what its twist's cosine multiplies, and its sine."""
    azimuth = np.arctan2(inline - body.centre[0], crosslines - body.centre[1])
    angle = (np.arange(len(body.lobes)) + 2)[:, None] * azimuth + body.phases[:, None]
    even, odd = ((body.lobes[:, None] * wave(angle)).sum(axis=0).astype(np.float32) for wave in (np.cos, np.sin))
    return even, odd


def convolve(values: NDArray[np.floating], half: Samples) -> Samples:
    """Convolve each trace with an odd wavelet, given from its centre; the ends are extended."""
    n, reach = values.shape[1], len(half)
    wide = np.concatenate([values[:, :1].repeat(reach, 1), values, values[:, -1:].repeat(reach, 1)], axis=1)
    total, part = np.zeros_like(values), np.empty_like(values)
    for k, weight in enumerate(half, 1):
        np.subtract(wide[:, reach + k : reach + k + n], wide[:, reach - k : reach - k + n], out=part)
        part *= weight
        total += part
    return total


def wavelet() -> Samples:
    """Return half of the derivative of a Ricker wavelet, which turns impedance into amplitude."""
    reach = round(1.2 * PERIOD)
    slope = np.gradient(ricker(np.arange(-reach - 2.0, reach + 3), PERIOD))
    return -slope[reach + 3 : -2].astype(np.float32)
