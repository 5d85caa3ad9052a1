"""What libraries raise about a damaged file, of many classes and in many lines, as one line."""

from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, UnidentifiedImageError

LARGEST = 178_956_970  # pixels that Pillow decodes, and so do we from a TIFF


@contextmanager
def decoding(kind: str) -> Iterator[None]:
    """Within this context, raise ValueError for whatever a library finds wrong with a file of a `kind`, as "a TIFF"."""
    try:
        yield
    except Image.DecompressionBombError:
        raise ValueError("is too large: more than 178 million pixels; cut it first") from None
    except UnidentifiedImageError:  # its message shows an object of Python
        raise ValueError(f"does not decode as {kind}: its beginning is damaged, or it is something else") from None
    except Exception as error:
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise ValueError(f"does not decode as {kind}: {reason[:150]}") from None
