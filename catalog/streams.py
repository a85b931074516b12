"""Streams and arrays of a run, as the catalogue's client gives them."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, NamedTuple

import dask.array
import numpy as np
import xarray
from bluesky_tiled_plugins.clients.bluesky_event_stream import BlueskyEventStreamV3
from numpy.typing import NDArray
from tiled.client.array import ArrayClient
from tiled.client.utils import ClientError, client_for_item
from tiled.ndslice import NDBlock, NDSlice

from catalog.frames import FrameSequence
from catalog.handlers import FrameIntegrityError
from catalog.layout import MIMETYPE, PROCESSED
from catalog.paths import DataNotAccessible, FrameRoots

logger = logging.getLogger(__name__)

_ERRORS = {error.__name__: error for error in (DataNotAccessible, FrameIntegrityError)}


class LocalArrayClient(ArrayClient):
    """An array whose frames are read by their handler if the files are on this machine, and over HTTP if not.

    Made for a catalogue: with the roots that it may read from, and `is_own`, whether its server reads the same files
    as this process does. Then what is not found here is not found there.
    """

    roots: ClassVar[FrameRoots]
    is_own: ClassVar[bool]
    _frames: FrameSequence | None = None
    _is_remote = False

    def read(self, slice: Any = None) -> NDArray[Any]:
        with self._named():
            frames = self._local()
            if frames is not None:
                return frames.read(tuple(self._expanded(slice)))
        return super().read(slice)

    def to_dask(self) -> dask.array.Array:
        """The same array, read when it is computed, and only what is asked of it: a chunk is a frame."""
        name = f"{self.uri}-{self.shape[0]}"
        array: dask.array.Array = dask.array.from_array(self, chunks=self.chunks, name=name, asarray=False, fancy=False)
        return array

    def _get_slice(self, slice: NDSlice) -> NDArray[Any]:
        with self._named():
            frames = self._local()
            array: NDArray[Any] = super()._get_slice(slice) if frames is None else frames.read(tuple(slice))
        return array

    def _get_block(self, block: NDBlock, slice: NDSlice) -> NDArray[Any]:
        with self._named():
            frames = self._local()
            if frames is None:
                array: NDArray[Any] = super()._get_block(block, slice)
            else:
                array = frames.read(tuple(block.slice_from_chunks(self.chunks)))
                array = array[tuple(slice)] if slice else array
        return array

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Errors about files, here or from the server, name the run."""
        try:
            yield
        except ClientError as error:
            name, message = _reason(error)
            if name not in _ERRORS:
                raise
            raise _ERRORS[name](f"run {self._run_uid[:8]}: {message}") from error
        except (DataNotAccessible, FrameIntegrityError) as error:
            raise type(error)(f"run {self._run_uid[:8]}: {error}") from error

    @property
    def _run_uid(self) -> str:
        uid, *_ = [part for part in self.path_parts if part and part != PROCESSED]
        return str(uid)

    def _expanded(self, slice: Any) -> NDSlice:
        return NDSlice(slice).expand_for_shape(self.shape) if slice is not None and slice != () else NDSlice()

    def _local(self) -> FrameSequence | None:
        # A run in progress: the array was refreshed, and has more rows than when its files were asked for.
        is_stale = self._frames is not None and len(self) > self._frames.shape[0]
        if self._is_remote or (self._frames is not None and not is_stale):
            return self._frames
        sources = self.data_sources()
        # A column of a table has no data source of its own.
        if not sources or sources[0].mimetype != MIMETYPE:
            self._is_remote = True
            return None
        (source,) = sources
        uris = [asset.data_uri for asset in sorted(source.assets, key=lambda asset: asset.num or 0)]
        try:
            for uri in uris:
                self.roots.resolve_uri(uri)
        except DataNotAccessible as error:
            if self.is_own:
                raise
            logger.warning("frames of %s are read over HTTP: %s", self.uri, error)
            self._is_remote = True
            return None
        self._frames = FrameSequence.from_parameters(
            uris,
            **{key: source.parameters[key] for key in ("spec", "resource_kwargs", "segments")},
            roots=self.roots,
            frame_shape=tuple(self.shape[1:]),
            dtype=self.dtype,
        )
        return self._frames


def _reason(error: ClientError) -> tuple[str, str]:
    """Kind and message of the error that the server met."""
    try:
        name, _, message = error.response.json()["detail"].partition(": ")
    except (ValueError, KeyError, AttributeError, TypeError):
        return "", str(error)
    return name, message


class StreamClient(BlueskyEventStreamV3):
    """A stream of events: `read()` is an xarray.Dataset with units, and a datetime beside the time."""

    def __getitem__(self, key: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().__getitem__(key, *args, **kwargs)
        except KeyError:
            if key in self.metadata.get("data_keys", {}):
                raise KeyError(f"{key!r} has no values yet: no event of {self.item['id']!r} was recorded") from None
            raise

    def read(self, variables: Any = None, dim0: str = "time") -> xarray.Dataset:
        """Data of the stream, one row per event.

        While the run is in progress, the rows are those that every variable has.
        """
        return self._dataset(variables, dim0, lambda array: array.read())

    def to_dask(self, variables: Any = None, dim0: str = "time") -> xarray.Dataset:
        """As `read`, with arrays that are read when they are computed, and only what is asked of them."""
        return self._dataset(variables, dim0, lambda array: array.to_dask())

    def _dataset(self, variables: Any, dim0: str, values_of: Callable[[LocalArrayClient], Any]) -> xarray.Dataset:
        if isinstance(variables, str):
            variables = [variables]
        known = self.metadata.get("data_keys", {}).keys() | {"time"}
        for name in variables or ():
            if name not in known and not name.startswith("ts_"):
                raise KeyError(f"{name!r} is no variable of this stream; it has {', '.join(sorted(known))}")
        variables = None if variables is None else {*variables, "time"}
        columns: dict[str, _Column] = {}
        tables = []
        # The server looks the tables up while the frames come from the disk.
        with ThreadPoolExecutor(max_workers=1) as beside:
            for name, client in sorted(self._parts(), key=lambda part: part[1].structure_family != "table"):
                if client.structure_family == "table":
                    tables.append(beside.submit(self._table_columns, client, variables, dim0))
                elif variables is None or name in variables:
                    columns[name] = _Column(self._dims(name, client, dim0), values_of(client), self._attributes(name))
            for table in tables:
                columns |= table.result()
        lengths = [len(column.values) for column in columns.values()]
        # Frames that the first events name may be listed a moment after them.
        awaited = self._external() if variables is None else self._external() & variables
        rows = 0 if awaited - columns.keys() else min(lengths, default=0)
        dataset = xarray.Dataset(
            {name: (dims, values[:rows], attributes) for name, (dims, values, attributes) in columns.items()}
        )
        return _with_datetimes(dataset, dim0)

    def _parts(self) -> Iterator[tuple[str, Any]]:
        """Client of each array and table, all of them by one request."""
        contents = self.new_variation(include_data_sources=True).get_contents()
        for name, item in contents.items():
            yield name, client_for_item(self.context, self.structure_clients, item, include_data_sources=True)

    def _external(self) -> set[str]:
        return {name for name, data_key in self.metadata.get("data_keys", {}).items() if "external" in data_key}

    def _table_columns(self, table: Any, variables: set[str] | None, dim0: str) -> dict[str, _Column]:
        def is_wanted(column: str) -> bool:
            if variables is None:
                return not column.startswith("ts_") and column != "seq_num"
            return column in variables

        wanted = [column for column in table.columns if is_wanted(column)]
        frame = table.read(wanted)
        return {name: _Column((dim0,), frame[name].to_numpy(), self._attributes(name)) for name in wanted}

    def _dims(self, name: str, client: Any, dim0: str) -> tuple[str, ...]:
        declared = self.metadata.get("data_keys", {}).get(name, {}).get("dims")
        if declared and len(declared) == len(client.shape) - 1:
            return (dim0, *declared)
        # The axes of a square matrix have one length and are two axes: give each its name.
        return (dim0, *(f"{name}_dim{axis}" for axis in range(1, len(client.shape))))

    def _attributes(self, name: str) -> dict[str, Any]:
        data_key = self.metadata.get("data_keys", {}).get(name, {})
        return {key: data_key[key] for key in ("units", "precision", "source") if data_key.get(key) is not None}


def check_frames(stream: StreamClient, name: str) -> None:
    """FrameIntegrityError or DataNotAccessible unless `stream` has a readable frame for each of its events."""
    awaited = stream._external()
    events = len(stream.read(["time"])["time"]) if awaited else 0
    for key in sorted(awaited) if events else ():
        try:
            array = stream[key]
        except KeyError as error:
            raise FrameIntegrityError(f"{name} has {events} events and no frames of {key!r}.") from error
        if len(array) != events:
            raise FrameIntegrityError(f"{name} has {events} events and {len(array)} frames of {key!r}.")
        for row in range(events):
            array[row]


class _Column(NamedTuple):
    dims: tuple[str, ...]
    values: Any
    attributes: dict[str, Any]


def _with_datetimes(dataset: xarray.Dataset, dim0: str) -> xarray.Dataset:
    """`time` (s since the epoch) as coordinate, `datetime` (UTC) beside it."""
    if "time" not in dataset:
        return dataset
    seconds = np.asarray(dataset["time"].values, dtype=float)
    dataset = dataset.set_coords("time").assign_coords(
        datetime=(dim0, (seconds * 1e6).astype("int64").astype("datetime64[us]"))
    )
    dataset["time"].attrs = {"units": "s", "long_name": "seconds since 1970-01-01 UTC"}
    dataset["datetime"].attrs = {"long_name": "UTC"}
    return dataset
