"""Realistic runs without an instrument: a frame file as the device writes it, and the documents about it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import event_model
import h5py
import numpy as np

from catalog import layout
from catalog.journal import Journal
from catalog.settings import ServerSettings

SHAPE = (24, 32, 3)


def make_settings(data_root: Path, **server: Any) -> Any:
    """What the catalogue needs of the configuration."""
    return SimpleNamespace(
        data_root=data_root, root_map={}, handlers={}, server=ServerSettings(**{"port": 0, **server})
    )


def frame(seed: int, index: int, *, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """A frame that no other frame of the test equals; its first pixel tells its index."""
    pixels = np.random.default_rng([seed, index]).integers(0, 256, shape, dtype=np.uint8)
    pixels[0, 0] = (index % 256, index // 256, seed % 256)
    return pixels


class FrameFile:
    """A SWMR file of image and background, that grows by `append`."""

    def __init__(self, frames: Path, *, shape: tuple[int, ...] = SHAPE, seed: int = 0) -> None:
        self.seed = seed
        self.shape = shape
        self.resource_path = f"{layout.date_folder(time.time())}/{uuid.uuid4()}.h5"
        self.path = frames / self.resource_path
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = h5py.File(self.path, "x", libver="latest")
        self._datasets = [
            self._file.create_dataset(
                name, (0, *shape), "u1", maxshape=(None, *shape), chunks=(1, *shape), fletcher32=True
            )
            for name in layout.FIELDS.values()
        ]
        self._file.swmr_mode = True
        self.count = 0

    def append(self) -> int:
        """Append a pair of frames, flushed; gives back its index."""
        for dataset, seed in zip(self._datasets, (self.seed, self.seed + 1), strict=True):
            dataset.resize(self.count + 1, axis=0)
            dataset[self.count] = frame(seed, self.count, shape=self.shape)
            dataset.flush()
        self.count += 1
        return self.count - 1

    def close(self) -> None:
        self._file.close()


class Run:
    """A raw run, document by document, as the RunEngine emits it."""

    def __init__(
        self,
        emit: Callable[[str, dict[str, Any]], object],
        frames: Path,
        *,
        shape: tuple[int, ...] = SHAPE,
        seed: int = 0,
        **metadata: Any,
    ) -> None:
        self._emit = emit
        self._frames = frames
        self.shape = shape
        self.seed = seed
        self.metadata = {"plan_name": "angle_scan", "detectors": ["lunchbox"], **metadata}

    def begin(self) -> None:
        self._run = event_model.compose_run(metadata=self.metadata, time=self.metadata.pop("time", None))
        self.uid = self._run.start_doc["uid"]
        self._emit("start", self._run.start_doc)
        self._descriptor = self._run.compose_descriptor(
            name="primary",
            data_keys=data_keys(self.shape),
            object_keys={"lunchbox": list(data_keys(self.shape))},
            configuration={"lunchbox": {"data": {}, "timestamps": {}, "data_keys": {}}},
        )
        self._emit("descriptor", self._descriptor.descriptor_doc)
        self.stage()

    def stage(self) -> None:
        """A new file, and the two resources on it."""
        self.file = FrameFile(self._frames, shape=self.shape, seed=self.seed)
        self._resources = {}
        for key, dataset in layout.FIELDS.items():
            bundle = event_model.compose_resource(
                spec=layout.SPEC,
                root=str(self._frames),
                resource_path=self.file.resource_path,
                resource_kwargs={"dataset": dataset, "chunk_shape": [1, *self.shape]},
                start=self._run.start_doc,
            )
            self._emit("resource", bundle.resource_doc)
            self._resources[key] = bundle

    def point(self) -> None:
        index = self.file.append()
        data: dict[str, Any] = {
            "lunchbox_servo": float(index),
            "lunchbox_servo_setpoint": float(index),
            "lunchbox_laser": 1.0,
            "lunchbox_timestamp": time.time(),
        }
        for key, bundle in self._resources.items():
            datum = bundle.compose_datum(datum_kwargs={"frame": index})
            self._emit("datum", datum)
            data[key] = datum["datum_id"]
        timestamps = dict.fromkeys(data, time.time())
        filled = dict.fromkeys(layout.FIELDS, False)
        self._emit("event", self._descriptor.compose_event(data=data, timestamps=timestamps, filled=filled))

    def end(self, exit_status: str = "success") -> None:
        self._emit("stop", self._run.compose_stop(exit_status=exit_status))
        self.file.close()


def write_run(
    data_root: Path, *, points: int = 3, seed: int = 0, shape: tuple[int, ...] = SHAPE, **metadata: Any
) -> str:
    """A whole run below `data_root`; gives back its uid."""
    with Journal(data_root / layout.JOURNAL_DIR, fsync=False) as journal:
        if "scan_id" not in metadata:
            metadata["scan_id"] = journal.next_scan_id({})
        run = Run(journal, data_root / layout.FRAMES_DIR, shape=shape, seed=seed, **metadata)
        run.begin()
        for _ in range(points):
            run.point()
        run.end()
    return run.uid


def documents(data_root: Path, **kwargs: Any) -> list[tuple[str, dict[str, Any]]]:
    """Documents of a run whose frames are below `data_root`, not journalled."""
    collected: list[tuple[str, dict[str, Any]]] = []
    points = kwargs.pop("points", 3)
    run = Run(lambda name, doc: collected.append((name, doc)), data_root / layout.FRAMES_DIR, **kwargs)
    run.begin()
    for _ in range(points):
        run.point()
    run.end()
    return collected


def write_analysis(data_root: Path, raw_uid: str, **metadata: Any) -> str:
    """An analysis run about the raw run `raw_uid`; gives back its uid."""
    with Journal(data_root / layout.JOURNAL_DIR, fsync=False) as journal:
        for name, doc in _analysis_documents(raw_uid, metadata):
            journal(name, doc)
            if name == "start":
                uid = doc["uid"]
    return str(uid)


def _analysis_documents(raw_uid: str, metadata: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    run = event_model.compose_run(metadata={"plan_name": "fit", layout.RAW_RUN_UID: raw_uid, **metadata})
    yield "start", run.start_doc
    keys = {
        "lambda_over_d": {"dtype": "number", "shape": [], "source": "fit", "dtype_numpy": "<f8"},
        "covariance": {"dtype": "array", "shape": [7, 7], "source": "fit", "dtype_numpy": "<f8"},
    }
    descriptor = run.compose_descriptor(name="fit", data_keys=keys)
    yield "descriptor", descriptor.descriptor_doc
    data = {"lambda_over_d": 0.39, "covariance": np.eye(7).tolist()}
    yield "event", descriptor.compose_event(data=data, timestamps=dict.fromkeys(data, 0.0))
    yield "stop", run.compose_stop()


def data_keys(shape: tuple[int, ...] = SHAPE) -> dict[str, Any]:
    """Data keys of the stream `primary`."""
    scalar = {"dtype": "number", "shape": [], "dtype_numpy": "<f8"}
    external = {
        "source": "SIM:camera",
        "dtype": "array",
        "shape": list(shape),
        "dtype_numpy": "|u1",
        "external": "FILESTORE:",
        "units": "counts",
        "dims": list(layout.FRAME_DIMS),
    }
    return {
        **{key: dict(external) for key in layout.FIELDS},
        "lunchbox_servo": {**scalar, "source": "PV:SERVO:RBV", "units": "deg", "precision": 3},
        "lunchbox_servo_setpoint": {**scalar, "source": "PV:SERVO", "units": "deg"},
        "lunchbox_laser": {**scalar, "source": "PV:LASER:RBV", "units": ""},
        "lunchbox_timestamp": {**scalar, "source": "SIM:camera", "units": "s"},
    }
