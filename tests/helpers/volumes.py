"""Made-up surveys: traces at places of a grid, in any order, as the bytes of a SEG-Y file."""

from dataclasses import dataclass, field

import numpy as np

from helpers.segy import segy


@dataclass
class Volume:
    """A survey as written: `places` (N 2) has the inline and crossline of each trace, `traces` (N samples) its samples.

    `headers` has further words of each trace (N), by the byte where they begin, `words` the bytes of the line numbers.
    """

    places: np.ndarray
    traces: np.ndarray
    headers: dict = field(default_factory=dict)
    words: tuple = (189, 193)

    def content(self, code=5, order=">", **settings):
        """The bytes of the file."""
        columns = dict(zip(self.words, self.places.T, strict=True)) | self.headers
        headers = {byte: lambda i, column=column: int(column[i]) for byte, column in columns.items()}
        return segy(self.traces.T, code, order, headers=headers, **settings)

    def cube(self):
        """Line numbers and samples (I X S) as they should be read: NaN without a trace, the first one of a place."""
        inlines, crosslines = (sorted(set(column.tolist())) for column in self.places.T)
        cube = np.full((len(inlines), len(crosslines), self.traces.shape[1]), np.nan)
        for (inline, crossline), trace in reversed(list(zip(self.places.tolist(), self.traces, strict=True))):
            cube[inlines.index(inline), crosslines.index(crossline)] = trace
        return inlines, crosslines, cube


def volume(inlines=range(10, 17), crosslines=range(20, 29), n_samples=12, **settings):
    """A full grid, sorted by inlines, of different numbers from 1 to 120."""
    places = np.array([(i, x) for i in inlines for x in crosslines])
    traces = np.random.default_rng(0).integers(1, 121, (len(places), n_samples))
    return Volume(places, traces, **settings)


def chosen(made, rows):
    """The volume of these traces alone, in this order."""
    headers = {byte: column[rows] for byte, column in made.headers.items()}
    return Volume(made.places[rows], made.traces[rows], headers, made.words)


def by_crosslines(made):
    return chosen(made, np.argsort(made.places[:, 1], kind="stable"))


def shuffled(made):
    return chosen(made, np.random.default_rng(1).permutation(len(made.places)))


def with_holes(made):
    """Without a corner that an irregular edge cuts off, and without three places inside."""
    corner = (made.places - made.places.min(axis=0)).sum(axis=1) < 4
    inside = np.isin(np.arange(len(made.places)), (30, 31, 45))
    return chosen(made, np.flatnonzero(~corner & ~inside))


def with_duplicates(made):
    """Traces 3 and 40 again at the end, and trace 41 in between, with samples of their own."""
    n = len(made.places)
    rows = np.r_[0:43, 41, 43:n, 3, 40]
    doubled = chosen(made, rows)
    doubled.traces[[43, -2, -1]] += 1
    return doubled


MADE = {
    "full": volume(),
    "by crosslines": by_crosslines(volume()),
    "shuffled": shuffled(volume()),
    "holes and an irregular edge": with_holes(volume()),
    "holes, by crosslines": by_crosslines(with_holes(volume())),
    "reversed": volume(range(16, 9, -1), range(28, 19, -1)),
    "inlines reversed": volume(range(16, 9, -1)),
    "negative": volume(range(-3, 4), range(-40, -31)),
    "steps": volume(range(100, 114, 2), range(1000, 1045, 5)),
    "uneven steps": volume((1, 2, 5, 6, 20), (7, 8, 9, 12, 14, 15)),
    "duplicates": with_duplicates(volume()),
    "duplicates and holes, by crosslines": by_crosslines(with_duplicates(with_holes(volume()))),
    "two inlines": volume((4, 5)),
    "one sample": volume(n_samples=1),
    "before revision 1": volume(words=(9, 21)),
    "bytes 5 and 21": volume(words=(5, 21)),
    "bytes 17 and 13": with_holes(volume(words=(17, 13))),
    "bytes 221 and 21": volume(words=(221, 21)),
    "records and channels of one offset": volume(words=(9, 13)),
    "offsets of a stack": volume(headers={37: np.arange(63) * 25}),
}
