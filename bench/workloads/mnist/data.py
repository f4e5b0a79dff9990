"""MNIST's images: from a folder of IDX files, from the network, or scikit-learn's digits as a stand-in.

Numbers measured on the stand-in are flagged wherever they appear. Ranks read plain NumPy files in a cache folder, which
are prepared once before the first rank starts.
"""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.core.case import DataSource
from bench.host.installation import cache_folder
from bench.host.variables import without_new_variables
from bench.plugins.workload import DataProblem
from bench.workloads.mnist.idx_files import digest_files, find_files, read_idx

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
DESCRIPTION_FILE = "source.json"
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
CONNECT_TIMEOUT_S = 3.0
STAND_IN_VERSION = 1


@dataclass(frozen=True)
class Split:
    """``images``: uint8 ``(n, 784)``; ``labels``: int64 ``(n,)``."""

    images: Any
    labels: Any


@dataclass(frozen=True)
class Dataset:
    """The training and test images, and where they come from."""

    train: Split
    test: Split
    source: DataSource


def prepare(folder: str | None, source: str) -> DataSource:
    """Prepare the data as files that ranks can map into memory.

    Args:
        folder: A folder with MNIST's four IDX files; ``None``: download them.
        source: ``auto`` falls back to the stand-in, ``mnist`` does not, ``digits`` is the stand-in.

    Raises:
        DataProblem: The data is missing or damaged.
    """
    try:
        resolved = Path(folder).expanduser().resolve() if folder else None
    except RuntimeError as problem:  # an unknown user after ~, or a loop of links
        raise DataProblem(f"--set mnist.data={folder}: {problem}; name the folder by its whole path") from None
    try:
        return _prepare(resolved, source)
    except OSError as problem:
        where = problem.filename or cache_folder("mnist")
        remedy = "the prepared images go to the cache folder: set XDG_CACHE_HOME to another"
        raise DataProblem(f"{where}: {problem.strerror or problem}; {remedy}") from None


def _prepare(folder: Path | None, source: str) -> DataSource:
    cache = cache_folder("mnist")
    published, digits = cache / "published", cache / f"digits-v{STAND_IN_VERSION}"
    if folder is not None:
        files = find_files(folder, tuple(CHECKSUMS))
        return _convert(folder, files, cache / f"folder-{digest_files(folder, files)[:16]}")
    if source == "digits":
        return _make_stand_in(digits)
    prepared = _read_prepared(published)
    if prepared is not None:
        return prepared
    problem = _download(cache / "download")
    if problem is None:
        downloaded = cache / "download"
        return _convert(downloaded, find_files(downloaded, tuple(CHECKSUMS)), published)
    if source == "mnist":
        raise DataProblem(
            f"MNIST could not be downloaded ({problem}); put its IDX files in a folder and name it with "
            "--set mnist.data=FOLDER, or use --set mnist.source=digits"
        )
    return _make_stand_in(digits)


def load(source: DataSource) -> Dataset:
    """The prepared data, mapped from disk, so that ranks on a machine share its pages. Raises :class:`DataProblem`."""
    import numpy as np

    folder = Path(source.path)
    try:
        same = _read_source_file(folder).digest == source.digest
    except (OSError, ValueError):
        same = False
    if not same:
        raise DataProblem(f"{folder}: is not the prepared data of this sweep any more; start the sweep again")
    train, test = (
        Split(np.load(folder / f"{part}_images.npy", mmap_mode="c"), np.load(folder / f"{part}_labels.npy"))
        for part in ("train", "test")
    )
    return Dataset(train, test, source)


def _convert(folder: Path, files: tuple[Path, ...], target: Path) -> DataSource:
    """Prepare the arrays of the four files, unless that was done before."""
    prepared = _read_prepared(target)
    if prepared is not None:
        return prepared
    train_x, train_y, test_x, test_y = (read_idx(file) for file in files)
    _check_arrays(files[0], train_x, train_y)
    _check_arrays(files[2], test_x, test_y)
    genuine = all(_md5(file) == md5 for file, md5 in zip(files, CHECKSUMS.values(), strict=True))
    name = "MNIST" if genuine else f"IDX files in {folder} (not the published MNIST archives)"
    return _save(target, name, (train_x, train_y, test_x, test_y))


def _check_arrays(file: Path, images: Any, labels: Any) -> None:
    """Raise :class:`DataProblem` where they are not ``(n, 28, 28)`` and ``(n,)`` with labels of ten classes."""
    if images.shape[1:] != (28, 28) or labels.shape != (len(images),) or not len(images):
        raise DataProblem(
            f"{file}: holds {images.shape} images for {labels.shape} labels, not n×28×28 and n; fetch the files again"
        )
    if labels.max() > 9:
        raise DataProblem(f"{file}: its labels go up to {labels.max()}, MNIST's to 9; fetch the files again")


def _md5(file: Path) -> str:
    return hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()


def _save(target: Path, name: str, arrays: tuple[Any, Any, Any, Any], stands_for: str | None = None) -> DataSource:
    """Write the four arrays and what they are; the folder appears under its name when it is whole."""
    import numpy as np

    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        folder = Path(scratch) / "data"
        folder.mkdir()
        for stem, array in zip(ARRAYS, arrays, strict=True):
            flat = array.reshape(len(array), -1) if stem.endswith("images") else array.astype(np.int64)
            np.save(folder / f"{stem}.npy", flat)
            digest.update(flat.tobytes())
        description = DataSource(name=name, digest=digest.hexdigest(), path=str(target), stands_for=stands_for)
        (folder / DESCRIPTION_FILE).write_text(description.model_dump_json())
        try:
            folder.rename(target)
        except OSError:
            # Another sweep was faster, or what lies there is damaged.
            if _read_prepared(target) is None:
                _remove_prepared(target)
                folder.rename(target)
    return description


def _remove_prepared(target: Path) -> None:
    """Remove what was prepared in a folder before, and the folder; raises :class:`OSError` where it holds more."""
    for name in (*(f"{stem}.npy" for stem in ARRAYS), DESCRIPTION_FILE):
        (target / name).unlink(missing_ok=True)
    target.rmdir()


def _read_prepared(target: Path) -> DataSource | None:
    """What was prepared in a folder before, if its arrays are still what was written."""
    import numpy as np

    try:
        description = _read_source_file(target)
        digest = hashlib.sha256()
        for stem in ARRAYS:
            digest.update(np.load(target / f"{stem}.npy", mmap_mode="r"))
    except (OSError, ValueError):
        return None
    return description if digest.hexdigest() == description.digest else None


def _read_source_file(target: Path) -> DataSource:
    return DataSource.model_validate_json((target / DESCRIPTION_FILE).read_text())


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
        except (OSError, ValueError) as error:
            problem = f"{type(error).__name__} from {mirror.split('/')[2]}"
    return problem


def _make_stand_in(target: Path) -> DataSource:
    """scikit-learn's 1,797 handwritten digits (8×8), scaled to 28×28 and varied by small seeded shifts and rotations.

    The 60,000 training images come from the first 1,497 digits, the 10,000 test images from the other 300.
    """
    prepared = _read_prepared(target)
    if prepared is not None:
        return prepared
    import numpy as np

    # scikit-learn sets two variables of OpenMP (KMP_DUPLICATE_LIB_OK and KMP_INIT_AT_FORK) when it is imported.
    with without_new_variables():
        from sklearn.datasets import load_digits

    digits = load_digits()
    small, labels = digits.images.astype(np.float32) / 16, digits.target
    rng = np.random.default_rng(STAND_IN_VERSION)
    train_x, train_y = _augment(small[:1497], labels[:1497], 60_000, rng)
    test_x, test_y = _augment(small[1497:], labels[1497:], 10_000, rng)
    name = "scikit-learn digits, scaled and varied (stand-in for MNIST)"
    return _save(target, name, (train_x, train_y, test_x, test_y), stands_for="MNIST")


def _augment(images: Any, labels: Any, count: int, rng: Any) -> tuple[Any, Any]:
    """``count`` images of 28×28: each a drawn one, turned by up to 12° and shifted by up to 2 pixels."""
    import numpy as np
    from scipy.ndimage import affine_transform

    picked = rng.integers(0, len(images), count)
    angles = np.deg2rad(rng.uniform(-12, 12, count))
    shifts = rng.uniform(-2, 2, (count, 2))
    out = np.empty((count, 28, 28), dtype=np.uint8)
    for number, (image_index, angle, shift) in enumerate(zip(picked, angles, shifts, strict=True)):
        # 8 source pixels fill the middle 20 of 28, as MNIST's digits do.
        rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * (8 / 20)
        offset = np.array([3.5, 3.5]) - rotation @ (np.array([13.5, 13.5]) + shift)
        out[number] = np.clip(affine_transform(images[image_index], rotation, offset, (28, 28), order=1) * 255, 0, 255)
    return out, labels[picked]
