from __future__ import annotations

import gzip
import os
import struct
import tracemalloc

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
        (damage_empty, "is empty, not an IDX file"),
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


def test_a_file_of_somebody_else_in_the_cache_stays(tmp_path):
    folder = write_folder(tmp_path / "mnist")
    data.prepare(str(folder), "auto")
    kept = next((tmp_path / "cache").rglob("train_labels.npy"))
    kept.write_bytes(b"damaged")
    (kept.parent / "notes").mkdir()
    (kept.parent / "notes" / "mine.txt").write_text("mine")
    with pytest.raises(DataProblem, match=r"Directory not empty; .* set XDG_CACHE_HOME to another"):
        data.prepare(str(folder), "auto")
    assert (kept.parent / "notes" / "mine.txt").read_text() == "mine"


def test_a_file_replaced_by_one_of_the_same_size_and_time_is_read_again(tmp_path):
    """As rsync and unpacked archives leave it."""
    folder = write_folder(tmp_path / "mnist")
    before = data.prepare(str(folder), "auto")
    labels = folder / "train-labels-idx1-ubyte"
    times = labels.stat()
    labels.write_bytes(idx(np.full(20, 3, dtype=np.uint8)))
    os.utime(labels, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert labels.stat().st_size == times.st_size
    after = data.prepare(str(folder), "auto")
    assert after.digest != before.digest
    assert set(data.load(after).train.labels.tolist()) == {3}


def kaggle(folder):
    """Each file twice: with a dot, and in a folder that is named like the file with a dash."""
    for path in list(folder.iterdir()):
        content = path.read_bytes()
        path.rename(folder / path.name.replace("-idx", ".idx"))
        path.mkdir()
        (path / path.name).write_bytes(content)


def kaggle_folders_alone(folder):
    kaggle(folder)
    for path in folder.glob("*.idx*"):
        path.unlink()


def torchvision(folder):
    """Packed and unpacked, under ``MNIST/raw``."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for path in [path for path in folder.iterdir() if path.is_file()]:
        (raw / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.rename(raw / path.name)


def gzip_without_suffix(folder):
    for path in folder.iterdir():
        path.write_bytes(gzip.compress(path.read_bytes()))


def plain_under_gz(folder):
    for path in list(folder.iterdir()):
        path.rename(folder / f"{path.name}.gz")


def dots_and_gz(folder):
    for path in list(folder.iterdir()):
        target = folder / f"{path.name.replace('-idx', '.idx')}.gz"
        target.write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()


LAYOUTS = [kaggle, kaggle_folders_alone, torchvision, gzip_without_suffix, plain_under_gz, dots_and_gz]


@pytest.mark.parametrize("arrange", LAYOUTS)
def test_folders_as_people_have_them(tmp_path, arrange):
    folder = write_folder(tmp_path / "mnist")
    arrange(folder)
    found = data.load(data.prepare(str(folder), "auto"))
    written = images_and_labels()
    np.testing.assert_array_equal(found.train.images, written["train-images-idx3-ubyte"].reshape(20, 784))
    np.testing.assert_array_equal(found.test.labels, written["t10k-labels-idx1-ubyte"])


def test_torchvision_s_folder_may_be_named_at_any_level(tmp_path):
    folder = write_folder(tmp_path / "mnist")
    torchvision(folder)
    digests = {data.prepare(str(folder / level), "auto").digest for level in ("", "MNIST", "MNIST/raw")}
    assert len(digests) == 1


LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\nsize 7840016\n"
IN_PLACE_OF_DATA = [
    (LFS_POINTER, "is a pointer of Git LFS, not the data; run `git lfs pull`"),
    (b"/annex/objects/SHA256E-s1--0\n", "git annex get"),
    (b"\n  <!DOCTYPE html>\n<html><title>404</title>", "is a web page, not the data"),
    (gzip.compress(b"<html>Just a moment...</html>"), "is a web page, not the data"),
    (b'{"code":401,"message":"Unauthenticated"}', "is a server's message, not the data"),
    (b"PK\x03\x04 archive", "is a zip archive; unpack it"),
    (b"\xfd7zXZ\0 packed", "compressed by xz"),
    (gzip.compress(gzip.compress(b"\0\0\x08\x01")), "is compressed twice"),
    (b"", "is empty"),
    (b"\0\0\x08", "not an IDX file"),
    (b"\0\0\x08\x03\0\0\0", "holds 0 bytes where its header promises"),
    (b"\0\0\x0d\x03" + struct.pack(">3I", 1, 28, 28) + bytes(4 * 784), "holds numbers of type float32"),
    (b"\0\0\x08\x03" + struct.pack(">3I", 2**31, 2**31, 2**31), "holds 0 bytes where its header promises"),
]


@pytest.mark.parametrize(("content", "message"), IN_PLACE_OF_DATA, ids=[message for _, message in IN_PLACE_OF_DATA])
def test_what_lies_in_place_of_the_data_is_named(tmp_path, content, message):
    folder = write_folder(tmp_path / "mnist")
    (folder / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(DataProblem) as caught:
        data.prepare(str(folder), "auto")
    assert str(caught.value).startswith(f"{folder / 'train-images-idx3-ubyte'}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_gzip_file_that_expands_without_end_is_not_unpacked(tmp_path):
    """No more is read than the header promises."""
    folder = write_folder(tmp_path / "mnist")
    endless = idx(np.zeros((2, 28, 28), dtype=np.uint8)) + bytes(200 * 2**20)
    (folder / "train-images-idx3-ubyte").write_bytes(gzip.compress(endless, 1))
    del endless
    tracemalloc.start()
    with pytest.raises(DataProblem, match="holds more than 1568 bytes where its header promises 2×28×28"):
        data.prepare(str(folder), "auto")
    assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    tracemalloc.stop()


WRONG_SHAPES = [
    ("train-labels-idx1-ubyte", (20, 10)),
    ("train-labels-idx1-ubyte", (20, 1)),
    ("train-labels-idx1-ubyte", (4, 5)),
    ("t10k-labels-idx1-ubyte", (10, 10)),
    ("train-images-idx3-ubyte", (20, 784)),
    ("train-images-idx3-ubyte", (20, 1, 28, 28)),
    ("train-images-idx3-ubyte", (20, 32, 32)),
    ("t10k-images-idx3-ubyte", (0, 28, 28)),
]


@pytest.mark.parametrize(("stem", "shape"), WRONG_SHAPES)
def test_arrays_of_other_shapes_are_refused(tmp_path, stem, shape):
    folder = write_folder(tmp_path / "mnist")
    (folder / stem).write_bytes(idx(np.ones(shape, dtype=np.uint8)))
    with pytest.raises(DataProblem, match="not n×28×28 and n; fetch the files again"):
        data.prepare(str(folder), "auto")


@pytest.mark.parametrize("folder", ["~no_such_user_here/mnist", "loop/mnist", "file", "a" * 300])
def test_a_folder_that_cannot_be_one(tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(DataProblem) as caught:
        data.prepare(folder, "auto")
    assert folder in str(caught.value)
    assert any(remedy in str(caught.value) for remedy in ("name the folder", "another folder", "a folder"))
