"""The external array of a stream: rows over the frames of one or more files, each read by its handler."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from catalog.handlers import FrameIntegrityError, handler_for
from catalog.paths import FrameRoots


class Segment(NamedTuple):
    """`rows` rows that are the consecutive frames of one file, from `first_frame` on."""

    resource: int
    first_frame: int
    rows: int


class FrameSequence:
    """Rows of shape (n, *frame_shape), in the order of the events that name them.

    Parameters
    ----------
    open_handler : gives the handler of a resource by its index; called when its frames are asked for.
    segments : rows, in order. Frames that no event names have no row; a frame that two events name has two.
    """

    def __init__(
        self,
        open_handler: Callable[[int], Any],
        segments: Sequence[Sequence[int]],
        *,
        frame_shape: tuple[int, ...],
        dtype: np.dtype[Any],
    ) -> None:
        self._open_handler = open_handler
        self._segments = [Segment(*segment) for segment in segments]
        self._dtype = dtype
        self.shape = (sum(segment.rows for segment in self._segments), *frame_shape)

    @classmethod
    def from_parameters(
        cls,
        uris: Sequence[str],
        *,
        spec: str,
        resource_kwargs: Sequence[dict[str, Any]],
        segments: Sequence[Sequence[int]],
        roots: FrameRoots,
        frame_shape: tuple[int, ...],
        dtype: np.dtype[Any],
    ) -> FrameSequence:
        """The sequence that a catalogue's data source describes."""
        handlers: dict[int, Any] = {}

        def open_handler(resource: int) -> Any:
            if resource not in handlers:
                handlers[resource] = handler_for(spec)(roots.resolve_uri(uris[resource]), **resource_kwargs[resource])
            return handlers[resource]

        return cls(open_handler, segments, frame_shape=frame_shape, dtype=dtype)

    def read(self, key: Any = ()) -> NDArray[Any]:
        """Rows by a numpy index of integers, slices and an ellipsis."""
        first, *rest = _expanded(key, len(self.shape))
        if isinstance(first, slice):
            rows = range(self.shape[0])[first]
            if not rows:
                return np.empty((0, *self.shape[1:]), self._dtype)[(slice(0), *rest)]
            parts = [self._read_frames(run, tuple(rest)) for run in self._runs(rows)]
            return parts[0] if len(parts) == 1 else np.concatenate(parts)
        row = int(first) + (self.shape[0] if first < 0 else 0)
        if not 0 <= row < self.shape[0]:
            raise IndexError(f"row {first} of {self.shape[0]}")
        (run,) = self._runs(range(row, row + 1))
        frames: NDArray[Any] = self._read_frames(run, tuple(rest))[0]
        return frames

    def _runs(self, rows: range) -> Iterator[Segment]:
        """`rows` as consecutive frames of single files."""
        if rows.step != 1:
            for row in rows:
                yield from self._runs(range(row, row + 1))
            return
        begin = 0
        for resource, first_frame, count in self._segments:
            start, stop = max(rows.start, begin), min(rows.stop, begin + count)
            if start < stop:
                yield Segment(resource, first_frame + start - begin, stop - start)
            begin += count

    def _read_frames(self, run: Segment, rest: tuple[Any, ...]) -> NDArray[Any]:
        handler = self._open_handler(run.resource)
        stop = run.first_frame + run.rows
        if bulk := getattr(handler, "read", None):
            frames: NDArray[Any] = bulk((slice(run.first_frame, stop), *rest))
        else:
            frames = np.stack([np.asarray(handler(frame=frame))[rest] for frame in range(run.first_frame, stop)])
        if len(frames) != run.rows:
            raise FrameIntegrityError(
                f"{handler!r}: frames up to {stop} were recorded and {run.first_frame + len(frames)} are there. "
                f"The file was truncated or replaced; restore it from a copy."
            )
        return frames


def _expanded(key: Any, ndim: int) -> list[Any]:
    """`key` with one entry per axis."""
    entries = list(key) if isinstance(key, tuple) else [key]
    if Ellipsis not in entries:
        entries.append(Ellipsis)
    at = entries.index(Ellipsis)
    entries[at : at + 1] = [slice(None)] * (ndim - len(entries) + 1)
    if len(entries) != ndim:
        raise IndexError(f"{len(entries)} indices for an array of {ndim} dimensions")
    return entries
