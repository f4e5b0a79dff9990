"""SVG drawings as PNG, by resvg: where a README or a slide takes no SVG."""

from __future__ import annotations

import importlib.util
import re
import struct
import zlib

MARK = b"Software\0scaling-harness"
SIGNATURE = re.compile(rb"\A\x89PNG\r\n.{,64}tEXt" + MARK, re.DOTALL)
"""The beginning of every image: no other PNG file is replaced."""
HEADER_LENGTH = 33
"""Bytes of the signature of PNG and of its first chunk, which comes before all others."""
ZOOM = 2
"""Pixels of the image for one of the drawing, for screens of high density."""
MISSING = "PNG files need resvg-py: run `python -m pip install resvg-py`, or take --svg"


def missing_package() -> str | None:
    """What to do where the package that draws is not installed; ``None`` where it is."""
    return MISSING if importlib.util.find_spec("resvg_py") is None else None


def png(svg: str) -> bytes:
    """The drawing as a PNG image.

    Args:
        svg: The drawing in its light scheme alone: resvg knows no media queries.
    """
    import resvg_py

    image = bytes(resvg_py.svg_to_bytes(svg_string=svg, zoom=ZOOM))
    return image[:HEADER_LENGTH] + _chunk(b"tEXt", MARK) + image[HEADER_LENGTH:]


def _chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG file: its length, kind, content and checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
