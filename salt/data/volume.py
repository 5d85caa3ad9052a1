"""A made-up 3-D survey with salt: the model of the earth, from which the samples of any block of traces follow.

Nothing in the model is as large as the survey. Waves, faults and bodies are formulas of inline I, crossline X and
sample S; noise and texture repeat from tables. So a block of traces needs memory for itself only, and its samples are
the same however the survey is cut into blocks: each is computed from its own numbers, in the same order.
"""

import numpy as np
from numpy.typing import NDArray

from salt.data.geology import (
    BODIES,
    COARSE,
    FINE,
    Samples,
    Size3,
    Waves,
    convolve,
    draw_bodies,
    draw_faults,
    draw_layers,
    draw_noise,
    draw_texture,
    lobes,
    wavelet,
)

FULL = 300  # lines of a survey whose structures have their usual size; a smaller survey has smaller ones
MOST = 150  # bodies; those of a larger survey are larger
AMPLITUDE = 1000.0  # typical amplitude of the layers at the top
NOISE = 0.17  # relative to the layers, as all below
NOISE_LENGTH = 1 << 20  # samples of noise, of which each trace takes a part
TEXTURE, TEXTURE_OUTSIDE = 0.4, 0.1  # chaos inside and outside salt
SALT_IMPEDANCE = 2.5
SHADOW, SHADOW_SAMPLES = 0.5, 90  # amplitudes below so much salt lose this share
DECAY = 0.8  # amplitudes at the bottom are lower by exp(-DECAY)


class Earth:
    """Layers, faults and salt of a survey of I inlines, X crosslines and S samples."""

    def __init__(self, size: Size3, seed: int):
        n_inlines, n_crosslines, self.n_samples = size
        self.seed = seed
        self.width = n_crosslines
        least = (n_inlines * n_crosslines * BODIES / MOST) ** 0.5
        self.scale = scale = max(min(n_inlines, n_crosslines, FULL), least) / FULL
        self.bend = 45 * scale  # lines around salt within which layers bend upwards
        self.tall = self.n_samples / 400
        rng = np.random.default_rng((seed, 0))
        self.folds = Waves.draw(rng, (4, 6), (90 * scale, 500 * scale))
        self.dips = Waves.draw(rng, (1, 3), (700 * scale, 1500 * scale))
        self.strata = Waves.draw(rng, (1, 5), (60 * scale, 250 * scale))
        self.bumps = Waves.draw(rng, (1, 10), (14 * scale, 70 * scale))
        self.faults = draw_faults(rng, size, scale)
        self.bodies = draw_bodies(rng, size, scale)
        self.layers = np.stack([draw_layers(rng, self.n_samples) for _ in range(2)])
        self.texture = draw_texture(rng)
        self.noise = NOISE * draw_noise(rng, NOISE_LENGTH + self.n_samples)
        self.wavelet = wavelet()
        self.samples = np.arange(self.n_samples, dtype=np.float32)
        self.hats = hats(self.n_samples, len(self.folds.height))
        self.gain = (AMPLITUDE * np.exp(-DECAY * self.samples / self.n_samples)).astype(np.float32)

    def line(self, inline: int) -> "EarthLine":
        """Return what the traces of an inline, counted from 0, have in common."""
        return EarthLine(self, inline)


class EarthLine:
    """One inline: numbers for each of its traces."""

    def __init__(self, earth: Earth, inline: int):
        self.earth, self.inline = earth, inline
        x = np.arange(earth.width, dtype=np.float64)
        folds = np.cumsum(earth.folds.at(inline, x), axis=0) * 8 + earth.dips.at(inline, x) * 12
        self.folds = (folds * earth.tall).astype(np.float32)
        self.strata = np.clip(0.5 + 0.5 * earth.strata.at(inline, x)[0], 0, 1).astype(np.float32)
        self.bumps = (earth.bumps.at(inline, x)[0] * 3 * earth.tall).astype(np.float32)
        self.faults = [(fault, *fault.at(inline, x, earth.n_samples)) for fault in earth.faults]
        near = [body for body in earth.bodies if abs(inline - body.centre[0]) < body.reach + earth.bend]
        self.bodies = [(body, *lobes(body, inline, x)) for body in near]
        rng = np.random.default_rng((earth.seed, 1, inline))
        self.noise_from = rng.integers(0, len(earth.noise) - earth.n_samples, earth.width)

    def salt(self, columns: slice) -> tuple[Samples, Samples]:
        """Return the depth inside salt, in lines, and that of the smoothed bodies that bend the layers (each X S)."""
        earth = self.earth
        x = np.arange(earth.width, dtype=np.float32)[columns, None]
        depth = np.full((len(x), earth.n_samples), -earth.bend, np.float32)
        drag = depth.copy()
        index = ((earth.samples - self.bumps[columns, None]) * np.float32(COARSE)).astype(np.intp)
        for body, even, odd in self.bodies:
            away = np.hypot(self.inline - body.centre[0], x[:, 0] - body.centre[1])
            near = np.flatnonzero(away < body.reach + earth.bend)
            if not len(near):
                continue
            part = slice(near[0], near[-1] + 1)
            distance = np.sqrt((self.inline - body.inline) ** 2 + (x[part] - body.crossline) ** 2)
            wobble = even[columns][part, None] * body.twist[0] + odd[columns][part, None] * body.twist[1]
            wobble += 1
            for field, table in ((depth, body.radius), (drag, body.drag)):
                surface = table.take(index[part], mode="clip")
                surface *= wobble
                surface -= distance
                np.maximum(field[part], surface, out=field[part])
        return depth, drag

    def age(self, columns: slice, drag: Samples) -> Samples:
        """Return the sample at which each layer was laid down, before folds, faults and salt moved it (X S)."""
        earth = self.earth
        age = np.repeat(earth.samples[None], len(drag), axis=0)
        for fold, hat in zip(self.folds, earth.hats, strict=True):
            age -= fold[columns, None] * hat
        for fault, across, slip in self.faults:
            near = np.flatnonzero(slip[columns])
            if not len(near):
                continue
            part = slice(near[0], near[-1] + 1)
            across, slip = across[columns][part], slip[columns][part]
            rows = fault.rows(across, earth.n_samples)
            samples = earth.samples[rows]
            place = (across / fault.reach)[:, None] - samples * np.float32(fault.dip / fault.reach)
            moved = 1 - np.clip(place, 0, 1)
            moved *= moved
            moved *= place > 0
            moved *= np.clip((samples - fault.tip) / (60 * earth.tall), 0, 1).astype(np.float32)
            moved *= slip[:, None]
            age[part, rows] -= moved
        lift = np.clip(1 + drag / np.float32(earth.bend), 0, 1)
        lift *= lift
        lift *= np.float32(36 * earth.tall)
        age += lift
        return age

    def block(self, columns: slice) -> tuple[Samples, NDArray[np.bool_]]:
        """Return the amplitudes and the salt of some traces (each X S)."""
        earth = self.earth
        depth, drag = self.salt(columns)
        inside = depth > 0
        index = ((self.age(columns, drag) + earth.n_samples) * FINE).astype(np.intp)
        share = self.strata[columns, None]
        impedance = earth.layers[0].take(index, mode="clip") * share
        impedance += earth.layers[1].take(index, mode="clip") * (1 - share)
        soft = soften(depth)
        impedance += soft * (np.float32(SALT_IMPEDANCE) - impedance)
        soft *= np.float32(TEXTURE - TEXTURE_OUTSIDE)
        soft += np.float32(TEXTURE_OUTSIDE)
        soft *= self.texture(columns)
        impedance += soft
        amplitude = convolve(impedance, earth.wavelet)
        if inside.any():
            below = np.cumsum(inside, axis=1, dtype=np.int16).astype(np.float32)
            amplitude *= 1 - np.float32(SHADOW) * np.clip(below / np.float32(SHADOW_SAMPLES * earth.tall), 0, 1)
        amplitude += self.noise(columns)
        amplitude *= earth.gain
        return amplitude, inside

    def texture(self, columns: slice) -> Samples:
        """Return the chaotic texture of some traces (X S), a part of the table that repeats."""
        table = self.earth.texture
        rows = np.arange(self.earth.width)[columns] % table.shape[1]
        return table[self.inline % len(table)][np.ix_(rows, np.arange(self.earth.n_samples) % table.shape[2])]

    def noise(self, columns: slice) -> Samples:
        """Return the noise of some traces (X S): each a random part of one long table."""
        windows = np.lib.stride_tricks.sliding_window_view(self.earth.noise, self.earth.n_samples)
        return windows[self.noise_from[columns]]


def soften(depth: Samples) -> Samples:
    """Return the share of each sample that is salt (X S): its boundary lies between samples."""
    slope = np.empty_like(depth)
    np.abs(depth[:, 1:] - depth[:, :-1], out=slope[:, 1:])
    slope[:, 0] = slope[:, 1]
    return np.clip(depth / np.maximum(slope, np.float32(1)) + np.float32(0.5), 0, 1)


def hats(n_samples: int, n: int) -> Samples:
    """Return the weights of n levels in each sample (n S): 1 at the level, 0 at its neighbours, linear between."""
    place = np.linspace(0, n - 1, n_samples)
    return np.clip(1 - np.abs(place - np.arange(n)[:, None]), 0, 1).astype(np.float32)
