from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest

from bench.plugins.workload import DataProblem
from bench.workloads.mnist import data
from bench.workloads.mnist.workload import WORKLOAD
from tests.support.builders import make_case


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def idx(array) -> bytes:
    return b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def images_and_labels(train=20, test=10):
    """Random arrays by the name of their file."""
    rng = np.random.default_rng(0)
    counts = {stem: train if stem.startswith("train") else test for stem in data.CHECKSUMS}
    shapes = {stem: (count, 28, 28) if "images" in stem else (count,) for stem, count in counts.items()}
    return {stem: rng.integers(0, 10, shape, dtype=np.uint8) for stem, shape in shapes.items()}


def write_folder(folder, train=20, test=10, compress=False):
    folder.mkdir()
    for stem, array in images_and_labels(train, test).items():
        raw = idx(array)
        (folder / (stem + ".gz" * compress)).write_bytes(gzip.compress(raw) if compress else raw)
    return folder


@pytest.mark.parametrize("compress", [False, True])
def test_a_folder_of_idx_files(tmp_path, compress):
    folder = write_folder(tmp_path / "mnist", compress=compress)
    found = data.load(data.prepare(str(folder), "auto"))
    assert found.train.images.shape == (20, 784)
    assert found.test.labels.shape == (10,)
    assert found.train.labels.dtype == np.int64
    assert str(folder) in found.source.name
    assert found.source.stands_for is None
    assert "not the published MNIST" in found.source.name, "twenty random images do not pass for MNIST"
    written = images_and_labels()
    np.testing.assert_array_equal(found.train.images, written["train-images-idx3-ubyte"].reshape(20, 784))
    np.testing.assert_array_equal(found.test.labels, written["t10k-labels-idx1-ubyte"])


def test_a_changed_folder_is_read_again(tmp_path):
    folder = write_folder(tmp_path / "mnist")
    before = data.prepare(str(folder), "auto")
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(np.full(20, 3, dtype=np.uint8)))
    assert data.prepare(str(folder), "auto").digest != before.digest
    assert data.load(before).source == before, "a sweep under way keeps the data it started with"


def damage_truncate(path):
    path.write_bytes(path.read_bytes()[:-5])


def damage_header(path):
    path.write_bytes(b"GIF89a" + path.read_bytes())


def damage_remove(path):
    path.unlink()


def damage_empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (damage_truncate, "where its header promises 20×28×28"),
        (damage_header, "not an IDX file"),
        (damage_remove, "no such file"),
        (damage_empty, "not an IDX file"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, damage, said):
    folder = write_folder(tmp_path / "mnist")
    damage(folder / "train-images-idx3-ubyte")
    with pytest.raises(DataProblem) as told:
        data.prepare(str(folder), "auto")
    assert said in str(told.value)
    assert "train-images-idx3-ubyte" in str(told.value)
    assert "\n" not in str(told.value)
    assert not (tmp_path / "cache").exists() or not list((tmp_path / "cache").rglob("*.npy"))


def test_a_cut_gzip_file(tmp_path):
    folder = write_folder(tmp_path / "mnist", compress=True)
    damage_truncate(folder / "t10k-labels-idx1-ubyte.gz")
    with pytest.raises(DataProblem, match="cannot be read"):
        data.prepare(str(folder), "auto")


def test_images_and_labels_must_belong_together(tmp_path):
    folder = write_folder(tmp_path / "mnist")
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(19, dtype=np.uint8)))
    with pytest.raises(DataProblem, match="not n×28×28 and n"):
        data.prepare(str(folder), "auto")


def test_a_missing_folder(tmp_path):
    with pytest.raises(DataProblem, match="must name a folder"):
        data.prepare(str(tmp_path / "none"), "auto")


def test_labels_go_up_to_nine(tmp_path):
    folder = write_folder(tmp_path / "mnist")
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(np.full(20, 12, dtype=np.uint8)))
    with pytest.raises(DataProblem, match="labels go up to 12"):
        data.prepare(str(folder), "auto")


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    folder = write_folder(tmp_path / "mnist")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(DataProblem, match="set XDG_CACHE_HOME to another"):
        data.prepare(str(folder), "auto")


def test_too_few_images_for_the_batch(tmp_path):
    folder = write_folder(tmp_path / "mnist")
    case = make_case(workload="mnist", workload_options={"data": str(folder)}, batch=64)
    with pytest.raises(DataProblem, match="20 training images are too few for batches of 64"):
        WORKLOAD.prepare(case)


def test_a_damaged_cache_is_made_again(tmp_path):
    folder = write_folder(tmp_path / "mnist")
    first = data.prepare(str(folder), "auto")
    kept = next((tmp_path / "cache").rglob("train_labels.npy"))
    kept.write_bytes(kept.read_bytes()[:-8] + bytes(7) + b"x")
    assert data.prepare(str(folder), "auto") == first
    assert data.load(first).train.labels.max() <= 9
