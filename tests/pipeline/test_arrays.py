"""`.npy` files that are good, damaged or hostile: an array, or an ArtifactError, and never another exception."""

import io
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from covpool.pipeline.arrays import read_array, read_face_array
from covpool.pipeline.artifacts import ArtifactError


def npy(header, content=b"\0" * 64):
    """A `.npy` file of version 1.0 with this header, whatever the header says."""
    encoded = header.encode("latin-1") + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(encoded)) + encoded + content


def described(descr="'|u1'", order="False", shape="(4,)"):
    return npy(f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}")


def saved(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def test_a_good_file_is_mapped_read_only(tmp_path):
    path = tmp_path / "good.npy"
    expected = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    np.save(path, expected)
    found = read_array(path)
    assert isinstance(found, np.memmap) and not found.flags.writeable
    np.testing.assert_array_equal(found, expected)


# NumPy computes the size of a hostile shape with a warning before it refuses it.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")

BAD = {
    "empty file": b"",
    "only the magic": b"\x93NUMPY",
    "not NumPy": b"GIF89a and so on",
    "truncated header": saved(np.zeros(9))[:40],
    "truncated content": saved(np.zeros(9))[:-1],
    "unknown version": b"\x93NUMPY\x09\x00" + b"\0" * 64,
    "unclosed brackets (TokenError)": npy("{'descr': (((("),
    "unclosed string": npy("{'descr': '''"),
    "nested brackets (RecursionError)": npy("(" * 9000 + ")" * 9000),
    "not a dict": npy("[1, 2]"),
    "missing key": npy("{'descr': '|u1', 'shape': (4,)}"),
    "code": npy("__import__('os').getpid()"),
    "header of NULs": npy("\0" * 50),
    "huge shape": described(shape="(1000000000000000,)"),
    "overflow of the size": described(shape="(9223372036854775807, 9223372036854775807)"),
    "beyond 64 bits (OverflowError)": described(shape="(99999999999999999999999,)"),
    "negative size": described(shape="(-4,)"),
    "shape of strings": described(shape="('4',)"),
    "shape of floats": described(shape="(4.0,)"),
    "unknown dtype": described(descr="'nonsense'"),
    "dtype of None": described(descr="[None]"),
    "object dtype": saved(np.array([{}], dtype=object)),
    "order is text": described(order="'no'"),
}


@pytest.mark.parametrize("content", BAD.values(), ids=BAD)
def test_a_bad_file_is_an_artifact_error(tmp_path, content):
    path = tmp_path / "bad.npy"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match="bad.npy is not a NumPy array"):
        read_array(path)


def test_an_archive_of_arrays_is_refused(tmp_path):
    path = tmp_path / "faces.npz"
    np.savez(path, np.zeros(3))
    with pytest.raises(ArtifactError, match="expected one array"):
        read_array(path)


def test_a_missing_file_and_a_folder_are_artifact_errors(tmp_path):
    with pytest.raises(ArtifactError, match="is missing"):
        read_array(tmp_path / "none.npy")
    with pytest.raises(ArtifactError, match="is not a NumPy array"):
        read_array(tmp_path)


WRONG_FACES = {
    "dtype": np.zeros((2, 4, 4, 3), np.float32),
    "axes": np.zeros((2, 4, 4), np.uint8),
    "channels": np.zeros((2, 4, 4, 1), np.uint8),
    "rows": np.zeros((3, 4, 4, 3), np.uint8),
    "scalar": np.uint8(3),
}


@pytest.mark.parametrize("faces", WRONG_FACES.values(), ids=WRONG_FACES)
def test_faces_that_do_not_fit_their_table_are_refused(tmp_path, faces):
    path = tmp_path / "train.npy"
    np.save(path, faces)
    with pytest.raises(ArtifactError, match=r"expected uint8 \[2, h, w, 3\].*dvc repro normalise"):
        read_face_array(path, 2)


def test_faces_that_fit_are_returned(tmp_path):
    path = tmp_path / "train.npy"
    expected = np.arange(96, dtype=np.uint8).reshape(2, 4, 4, 3)
    np.save(path, expected)
    np.testing.assert_array_equal(read_face_array(path, 2), expected)


def outcome(path):
    """The array, or None if it is refused; any other exception fails the test."""
    try:
        return read_array(path)
    except ArtifactError as error:
        assert "\n" not in str(error)
        return None


FAST = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FAST
@given(position=st.integers(0, 150), byte=st.integers(0, 255), length=st.integers(0, 152))
def test_a_changed_byte_or_a_cut_gives_an_array_or_an_artifact_error(tmp_path, position, byte, length):
    content = bytearray(saved(np.arange(3, dtype=np.int64)))
    content[position] = byte
    path = tmp_path / "damaged.npy"
    path.write_bytes(content[:length])
    found = outcome(path)
    assert found is None or isinstance(found, np.ndarray)


@FAST
@given(header=st.text(st.characters(max_codepoint=255), max_size=200) | st.text("{}()[]'\",:#\\0 9-eu", max_size=60))
def test_a_header_of_random_text_is_refused(tmp_path, header):
    path = tmp_path / "hostile.npy"
    path.write_bytes(npy(header))
    assert outcome(path) is None


@FAST
@given(shape=st.lists(st.integers(-(2**70), 2**70) | st.integers(-2, 9), max_size=5))
def test_an_array_never_claims_more_than_the_file_holds(tmp_path, shape):
    path = tmp_path / "claims.npy"
    path.write_bytes(described(shape=str(tuple(shape))))
    found = outcome(path)
    assert found is None or found.nbytes <= path.stat().st_size
