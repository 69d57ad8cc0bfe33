import gzip
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from models.base import BadInput
from train.data import idx
from train.data.files import File, decompressed, read
from train.data.text import text


def idx_bytes(array):
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@given(arrays.arrays(np.uint8, arrays.array_shapes(min_dims=1, max_dims=3)), st.booleans())
def test_idx_reads_what_was_written(array, compressed):
    content = gzip.compress(idx_bytes(array)) if compressed else idx_bytes(array)
    np.testing.assert_array_equal(idx.array(decompressed(File("f", content)), dimensions=array.ndim), array)


IMAGES = idx_bytes(np.zeros((2, 3, 4), np.uint8))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "expected a header of 16 bytes, found 0 bytes in all"),
        (IMAGES[:-1], "expected 40 bytes for 2 x 3 x 4 values and the header, found 39 bytes"),
        (IMAGES + b"x", "found 41 bytes"),
        (idx_bytes(np.zeros((6, 4), np.uint8)), r"expected the magic number 2051 \(.*\), found 2050"),
        (b"<html> 404 not found </html>", "magic number"),
        (struct.pack(">4B3I", 0, 0, 8, 3, *[2**32 - 1] * 3), "found 16 bytes"),  # sizes whose product overflows
    ],
)
def test_broken_idx(content, words):
    with pytest.raises(BadInput, match=words) as error:
        idx.array(File("some/file", content), dimensions=3)
    assert str(error.value).startswith("some/file is not the IDX file")
    assert "\n" not in str(error.value)


def test_images_and_labels_must_match():
    labels = File("labels", idx_bytes(np.array([1, 0], np.uint8)))
    pixels, classes = idx.labelled(File("images", IMAGES), labels)
    assert pixels.shape == (2, 3, 4)
    assert classes.tolist() == [1, 0]
    with pytest.raises(BadInput, match="labels does not belong to images: expected 2 labels, found 3"):
        idx.labelled(File("images", IMAGES), File("labels", idx_bytes(np.zeros(3, np.uint8))))


@pytest.mark.parametrize("position", range(12, 400, 31))
def test_gzip_damaged_anywhere_is_one_line(position, tmp_path):
    body = bytearray(gzip.compress(np.random.default_rng(1).integers(0, 50, 500).astype(np.uint8).tobytes()))
    body[position] ^= 0xFF
    (tmp_path / "file.gz").write_bytes(body)
    with pytest.raises(BadInput, match=r"file\.gz is (corrupt|cut short)") as error:
        read(tmp_path / "file.gz")
    assert "\n" not in str(error.value)


def test_text():
    assert text(File("f", "a\r\né½\U0001f600".encode())) == "a\r\né½\U0001f600"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "f is empty"),
        (b"caf\xe9 au lait", r"byte 3 is 0xe9"),
        (b"abc\xc3", r"byte 3 is 0xc3"),
        ("text".encode("utf-16-le"), "byte 1 is NUL"),
    ],
)
def test_broken_text(content, words):
    with pytest.raises(BadInput, match=words) as error:
        text(File("f", content))
    assert "\n" not in str(error.value)
