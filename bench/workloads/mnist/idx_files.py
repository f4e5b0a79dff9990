"""MNIST's four IDX files in a folder, named and compressed as people have them.

A file's content decides what it is, not its name: a browser may have unpacked it, and a download may have failed into
a web page.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.plugins.workload import DataProblem

GZIP = b"\x1f\x8b"
MAX_BYTES = 2**30
"""The largest array that is read: 20 times MNIST's training images."""
TYPES = {0x08: "bytes", 0x09: "signed bytes", 0x0B: "int16", 0x0C: "int32", 0x0D: "float32", 0x0E: "float64"}
"""Codes of the IDX format, as MNIST's authors describe it."""
FETCH = "fetch the file again"
# How files begin that are found in place of the data, and what to do.
STAND_INS = (
    (b"version https://git-lfs.", "is a pointer of Git LFS, not the data; run `git lfs pull` in its repository"),
    (b"/annex/objects/", "is a pointer of git-annex, not the data; run `git annex get` on it"),
    (b"<", "is a web page, not the data: its download failed; fetch the file again"),
    (b"{", "is a server's message, not the data: its download failed; fetch the file again"),
    (GZIP, "is compressed twice; unpack it (`gunzip`)"),
    (b"PK\x03\x04", "is a zip archive; unpack it and name the folder of its files"),
    (b"\xfd7zXZ", "is compressed by xz; unpack it (`unxz`)"),
    (b"BZh", "is compressed by bzip2; unpack it (`bunzip2`)"),
    (b"\x28\xb5\x2f\xfd", "is compressed by zstd; unpack it (`unzstd`)"),
)
SUBFOLDERS = ("", "raw", "MNIST/raw")
"""Where the files lie under a folder: in it, or where torchvision puts them."""


def find_files(folder: Path, stems: tuple[str, ...]) -> tuple[Path, ...]:
    """The file of each name, such as ``train-images-idx3-ubyte``. Raises :class:`DataProblem`."""
    try:
        return _find_files(folder, stems)
    except OSError as problem:
        raise DataProblem(f"{problem.filename}: {problem.strerror}; make it readable, or name another folder") from None


def _find_files(folder: Path, stems: tuple[str, ...]) -> tuple[Path, ...]:
    if folder.is_file():
        raise DataProblem(f"{folder}: is a file; --set mnist.data must name the folder with MNIST's four IDX files")
    for place in (folder / subfolder for subfolder in SUBFOLDERS):
        found = [next(_candidates(place, stem), None) for stem in stems]
        if any(found):
            break
    files = tuple(file for file in found if file is not None)
    if len(files) < len(stems):
        missing = stems[found.index(None)]
        remedy = "--set mnist.data must name a folder with MNIST's IDX files"
        raise DataProblem(f"{(place if files else folder) / missing}[.gz]: no such file; {remedy}")
    return files


def _candidates(folder: Path, stem: str) -> Iterator[Path]:
    """The files of that name: with a dash or a dot, with or without ``.gz``, or in a folder named so (Kaggle)."""
    names = [name + suffix for name in (stem, stem.replace("-idx", ".idx")) for suffix in ("", ".gz")]
    for path in (folder / name for name in names):
        if path.is_file():
            yield path
        elif path.is_dir():
            yield from (path / name for name in names if (path / name).is_file())


def digest_files(folder: Path, files: tuple[Path, ...]) -> str:
    """A digest of the folder's path and of the content of its files: 64 hexadecimal digits."""
    sha = hashlib.sha256(str(folder).encode(errors="surrogateescape"))
    for file in files:
        with file.open("rb") as stream:
            sha.update(hashlib.file_digest(stream, "sha256").digest())
    return sha.hexdigest()


def read_idx(path: Path) -> Any:
    """The array in an IDX file (gzipped or not): uint8, of the shape its header gives. Raises :class:`DataProblem`."""
    try:
        with path.open("rb") as raw:
            packed = raw.read(len(GZIP)) == GZIP
            raw.seek(0)
            return _read_array(path, gzip.open(raw) if packed else raw)
    except FileNotFoundError:
        raise DataProblem(f"{path}: no such file; --set mnist.data must name a folder with MNIST's IDX files") from None
    except (OSError, EOFError, zlib.error) as problem:
        raise DataProblem(f"{path}: cannot be read ({problem}); {FETCH}") from None


def _read_array(path: Path, stream: io.BufferedIOBase) -> Any:
    """Reads no more than the header promises."""
    import numpy as np

    start = stream.read(64)
    if not start:
        raise DataProblem(f"{path}: is empty, not an IDX file; {FETCH}")
    for beginning, what in STAND_INS:
        if start.lstrip().startswith(beginning):
            raise DataProblem(f"{path}: {what}")
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in TYPES:
        raise DataProblem(f"{path}: not an IDX file; {FETCH}")
    if start[2] != 0x08:
        raise DataProblem(f"{path}: holds numbers of type {TYPES[start[2]]}, MNIST's are bytes; {FETCH}")
    header = 4 + 4 * start[3]
    content = start + stream.read(max(0, header - len(start)))
    sizes = content[4:header]
    shape = tuple(int(size) for size in np.frombuffer(sizes[: len(sizes) // 4 * 4], dtype=">u4"))
    expected = math.prod(shape)
    if len(shape) == start[3] and expected <= MAX_BYTES:
        content += stream.read(max(0, header + expected + 1 - len(content)))
    if len(content) != header + expected:
        held = f"more than {expected}" if len(content) > header + expected else str(max(0, len(content) - header))
        promise = "×".join(map(str, shape))
        raise DataProblem(f"{path}: holds {held} bytes where its header promises {promise}; {FETCH}")
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape)
