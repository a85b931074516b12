"""Rows follow events, whatever files and frames they are about."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.frames import FrameSequence
from catalog.handlers import FrameIntegrityError

FRAME = (4, 5, 3)
FRAMES = [np.random.default_rng(resource).integers(0, 255, (9, *FRAME), dtype=np.uint8) for resource in range(3)]


class Bulk:
    def __init__(self, resource: int) -> None:
        self.resource = resource

    def __call__(self, *, frame: int) -> Any:
        return FRAMES[self.resource][frame]


class Slicing(Bulk):
    def read(self, key: Any) -> Any:
        return FRAMES[self.resource][key]


segments = st.lists(
    st.builds(lambda r, f, n: [r, f, min(n, 9 - f)], st.integers(0, 2), st.integers(0, 8), st.integers(1, 9)),
    max_size=5,
)
indices = st.integers(-3, 3) | st.slices(12).filter(lambda s: s.step is None or s.step > 0)


@given(segments=segments, first=indices, second=st.slices(4), handler=st.sampled_from([Bulk, Slicing]))
def test_a_read_is_numpys_of_the_rows_put_together(
    segments: list[list[int]], first: Any, second: slice, handler: Any
) -> None:
    rows = np.concatenate([np.empty((0, *FRAME), "u1"), *(FRAMES[r][f : f + n] for r, f, n in segments)])
    sequence = FrameSequence(handler, segments, frame_shape=FRAME, dtype=np.dtype("u1"))
    assert sequence.shape == rows.shape
    for key in (first, (first, second), (first, ..., 1), ()):
        try:
            expected = rows[key]
        except IndexError:
            with pytest.raises(IndexError):
                sequence.read(key)
        else:
            np.testing.assert_array_equal(sequence.read(key), expected)


def test_rows_that_the_file_lost_are_an_error() -> None:
    sequence = FrameSequence(Slicing, [[0, 5, 8]], frame_shape=FRAME, dtype=np.dtype("u1"))
    with pytest.raises(FrameIntegrityError, match="frames up to 13 were recorded and 9 are there"):
        sequence.read()
