"""MNIST's images: from a folder of IDX files, from the network, or scikit-learn's digits standing in for them.

The stand-in is named as such wherever its numbers appear; it never passes for MNIST. What the ranks read is kept
as plain NumPy files in a cache folder, prepared once before the first rank starts.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.records import DataSource
from bench.workloads import DataProblem

MEAN, STD = 0.1307, 0.3081  # of MNIST's training pixels, scaled to 0…1
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://yann.lecun.com/exdb/mnist/",
)
# MD5 of the four published gzip files, as torchvision's MNIST class lists them.
CHECKSUMS = {
    "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
}
CONNECT_TIMEOUT_S = 3.0
STAND_IN_VERSION = 1


@dataclass(frozen=True)
class Split:
    """``images``: uint8 ``(n, 784)``; ``labels``: int64 ``(n,)``."""

    images: Any
    labels: Any


@dataclass(frozen=True)
class Dataset:
    train: Split
    test: Split
    source: DataSource


def cache_folder() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "scaling-harness" / "mnist"


def prepare(folder: str | None, source: str) -> None:
    """Make sure that :func:`load` will find what it needs. Raises :class:`DataProblem` in one line."""
    if folder is not None:
        _convert(Path(folder), _folder_target(Path(folder)), f"MNIST (IDX files in {folder})", stand_in=False)
        return
    published, digits = cache_folder() / "published", cache_folder() / f"digits-v{STAND_IN_VERSION}"
    if source == "digits":
        _make_stand_in(digits)
        return
    if _complete(published):
        return
    problem = _download(cache_folder() / "download")
    if problem is None:
        _convert(cache_folder() / "download", published, "MNIST", stand_in=False)
    elif source == "mnist":
        raise DataProblem(f"MNIST could not be downloaded ({problem}); put its IDX files in a folder and name it with "
                          "--set mnist.data=FOLDER, or use --set mnist.source=digits")  # fmt: skip
    else:
        _make_stand_in(digits)


def load(folder: str | None, source: str) -> Dataset:
    """The prepared data, mapped from disk, so that ranks on one machine share its pages."""
    import numpy as np

    if folder is not None:
        target = _folder_target(Path(folder))
    else:
        target = cache_folder() / "published"
        if source == "digits" or not _complete(target):
            target = cache_folder() / f"digits-v{STAND_IN_VERSION}"
    if not _complete(target):
        raise DataProblem(f"no prepared MNIST data in {target}; run the sweep command again to prepare it")
    arrays = {name: np.load(target / f"{name}.npy") for name in ("train_labels", "test_labels")}
    images = {name: np.load(target / f"{name}.npy", mmap_mode="c") for name in ("train_images", "test_images")}
    about = DataSource.model_validate_json((target / "source.json").read_text())
    return Dataset(
        Split(images["train_images"], arrays["train_labels"]),
        Split(images["test_images"], arrays["test_labels"]),
        about,
    )


def read_idx(path: Path) -> Any:
    """The array in an IDX file (gzipped or not), of the shape its header gives. Raises :class:`DataProblem`."""
    import numpy as np

    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except FileNotFoundError:
        raise DataProblem(f"{path}: no such file; --set mnist.data must name a folder with MNIST's IDX files") from None
    except (OSError, EOFError, zlib.error) as problem:
        raise DataProblem(f"{path}: cannot be read ({problem}); fetch the file again") from None
    if len(raw) < 4 or raw[:3] != b"\0\0\x08":
        raise DataProblem(f"{path}: not an IDX file of bytes; fetch the file again")
    dimensions = raw[3]
    header = 4 + 4 * dimensions
    shape = tuple(int(size) for size in np.frombuffer(raw[4:header], dtype=">u4"))
    if len(shape) != dimensions or len(raw) - header != int(np.prod(shape)):
        raise DataProblem(f"{path}: holds {max(0, len(raw) - header)} bytes where its header promises "
                          f"{'×'.join(map(str, shape))}; fetch the file again")  # fmt: skip
    return np.frombuffer(raw, dtype=np.uint8, offset=header).reshape(shape)


def _find(folder: Path, stem: str) -> Path:
    for name in (stem, f"{stem}.gz", stem.replace("-idx", ".idx"), stem.replace("-idx", ".idx") + ".gz"):
        if (folder / name).exists():
            return folder / name
    raise DataProblem(f"{folder}/{stem}[.gz]: no such file; --set mnist.data must name a folder with MNIST's IDX files")


def _folder_target(folder: Path) -> Path:
    stamps = [f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in sorted(folder.glob("*ubyte*"))]
    name = hashlib.sha256("\n".join([str(folder.resolve()), *stamps]).encode()).hexdigest()[:16]
    return cache_folder() / f"folder-{name}"


def _convert(folder: Path, target: Path, name: str, *, stand_in: bool) -> None:
    if _complete(target):
        return
    train_x, train_y, test_x, test_y = (read_idx(_find(folder, stem)) for stem in CHECKSUMS)
    for images, labels, stem in ((train_x, train_y, "train"), (test_x, test_y, "t10k")):
        if images.ndim != 3 or images.shape[1:] != (28, 28) or len(images) != len(labels):
            raise DataProblem(f"{folder}: {stem} holds {images.shape} images and {labels.shape} labels, "
                              "not n×28×28 and n; fetch the files again")  # fmt: skip
    _keep(target, name, (train_x, train_y, test_x, test_y), stand_in=stand_in)


def _keep(target: Path, name: str, arrays: tuple[Any, Any, Any, Any], *, stand_in: bool) -> None:
    """Write the four arrays and what they are; the folder appears under its name when it is whole."""
    import numpy as np

    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        folder = Path(scratch) / "data"
        folder.mkdir()
        for stem, array in zip(("train_images", "train_labels", "test_images", "test_labels"), arrays, strict=True):
            flat = array.reshape(len(array), -1) if stem.endswith("images") else array.astype(np.int64)
            np.save(folder / f"{stem}.npy", flat)
            digest.update(flat.tobytes())
        about = DataSource(name=name, digest=digest.hexdigest(), stand_in=stand_in)
        (folder / "source.json").write_text(about.model_dump_json())
        if not _complete(target):
            folder.rename(target)


def _complete(target: Path) -> bool:
    try:
        return bool(json.loads((target / "source.json").read_text())["digest"])
    except (OSError, ValueError, KeyError):
        return False


def _download(folder: Path) -> str | None:
    """Fetch the four files from the first mirror that has them whole; returns the problem where none has."""
    import pooch

    pooch.get_logger().setLevel("ERROR")
    problem = "no mirror"
    for mirror in MIRRORS:
        fetch = pooch.HTTPDownloader(timeout=CONNECT_TIMEOUT_S)
        try:
            for stem, md5 in CHECKSUMS.items():
                pooch.retrieve(f"{mirror}{stem}.gz", f"md5:{md5}", f"{stem}.gz", path=folder, downloader=fetch)
            return None
        except (OSError, ValueError) as failed:
            problem = f"{type(failed).__name__} from {mirror.split('/')[2]}"
    return problem


def _make_stand_in(target: Path) -> None:
    """scikit-learn's 1,797 handwritten digits (8×8), scaled to 28×28 and varied by small seeded shifts and rotations.

    The 60,000 training images come from the first 1,497 digits, the 10,000 test images from the other 300.
    """
    if _complete(target):
        return
    import numpy as np
    from sklearn.datasets import load_digits

    digits = load_digits()
    small, labels = digits.images.astype(np.float32) / 16, digits.target
    rng = np.random.default_rng(STAND_IN_VERSION)
    train_x, train_y = _vary(small[:1497], labels[:1497], 60_000, rng)
    test_x, test_y = _vary(small[1497:], labels[1497:], 10_000, rng)
    _keep(target, "scikit-learn digits, scaled and varied (stand-in for MNIST)", (train_x, train_y, test_x, test_y),
          stand_in=True)  # fmt: skip


def _vary(images: Any, labels: Any, count: int, rng: Any) -> tuple[Any, Any]:
    """``count`` images of 28×28: each a drawn one, turned by up to 12° and shifted by up to 2 pixels."""
    import numpy as np
    from scipy.ndimage import affine_transform

    drawn = rng.integers(0, len(images), count)
    angles = np.deg2rad(rng.uniform(-12, 12, count))
    shifts = rng.uniform(-2, 2, (count, 2))
    out = np.empty((count, 28, 28), dtype=np.uint8)
    for number, (which, angle, shift) in enumerate(zip(drawn, angles, shifts, strict=True)):
        # 8 source pixels fill the middle 20 of 28, as MNIST's digits do.
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * (8 / 20)
        offset = np.array([3.5, 3.5]) - turn @ (np.array([13.5, 13.5]) + shift)
        out[number] = np.clip(affine_transform(images[which], turn, offset, (28, 28), order=1) * 255, 0, 255)
    return out, labels[drawn]
