"""Journals of many runs, quickly: one run, under other names."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import event_model
import h5py
import numpy as np

from catalog import layout

POINTS = 10
SHAPE = (24, 32, 3)


def write_journals(data_root: Path, count: int, *, points: int = POINTS) -> list[str]:
    """Journals of `count` runs with the data keys of a scan, about one small file of frames; gives back their uids."""
    pairs = list(documents(data_root, points))
    text = "".join(f"{json.dumps(pair)}\n" for pair in pairs)
    names = {doc["uid"] for _, doc in pairs if "uid" in doc}
    began = pairs[0][1]["time"]
    uids = []
    for number in range(count):
        new = text.replace('"scan_id": 0', f'"scan_id": {number + 1}')
        for name in names:
            new = new.replace(name, str(uuid.uuid4()))
        uid = json.loads(new.partition("\n")[0])[1]["uid"]
        # A run a second, so that their names sort as they were made.
        moment = time.gmtime(began + number)
        folder = data_root / layout.JOURNAL_DIR / layout.date_folder(began + number)
        folder.mkdir(parents=True, exist_ok=True)
        folder.joinpath(f"{time.strftime('%H%M%S', moment)}.000000-{uid}.jsonl").write_text(new)
        uids.append(uid)
    return uids


def documents(data_root: Path, points: int, *, shape: tuple[int, ...] = SHAPE) -> Iterator[tuple[str, dict[str, Any]]]:
    """One run, and its file of frames."""
    frames = data_root / layout.FRAMES_DIR
    frames.mkdir(parents=True, exist_ok=True)
    path = f"{uuid.uuid4()}.h5"
    with h5py.File(frames / path, "x", libver="latest") as file:
        for dataset in layout.FIELDS.values():
            file.create_dataset(dataset, data=_frames(points, shape), chunks=(1, *shape))
    run = event_model.compose_run(metadata={"plan_name": "angle_scan", "scan_id": 0, "operator": "benchmark"})
    yield "start", run.start_doc
    image = {
        "dtype": "array",
        "shape": list(shape),
        "dtype_numpy": "|u1",
        "external": "FILESTORE:",
        "source": "camera",
    }
    scalar = {"dtype": "number", "shape": [], "dtype_numpy": "<f8", "source": "PV", "units": "deg"}
    keys = {**dict.fromkeys(layout.FIELDS, image), "lunchbox_servo": scalar, "lunchbox_laser": scalar}
    stream = run.compose_descriptor(name="primary", data_keys=json.loads(json.dumps(keys)))
    yield "descriptor", stream.descriptor_doc
    resources = {}
    for key, dataset in layout.FIELDS.items():
        resources[key] = event_model.compose_resource(
            spec=layout.SPEC,
            root=str(frames),
            resource_path=path,
            resource_kwargs={"dataset": dataset, "chunk_shape": [1, *shape]},
            start=run.start_doc,
        )
        yield "resource", resources[key].resource_doc
    for point in range(points):
        data: dict[str, Any] = {"lunchbox_servo": float(point), "lunchbox_laser": 1.0}
        for key, resource in resources.items():
            datum = resource.compose_datum(datum_kwargs={"frame": point})
            yield "datum", datum
            data[key] = datum["datum_id"]
        stamps, filled = dict.fromkeys(data, float(point)), dict.fromkeys(layout.FIELDS, False)
        yield "event", stream.compose_event(data=data, timestamps=stamps, filled=filled)
    yield "stop", run.compose_stop()


def _frames(points: int, shape: tuple[int, ...]) -> np.ndarray:
    # Noise: zeros would be pages that no memory holds.
    dice = np.random.default_rng(0)
    return np.stack([dice.integers(0, 40, shape, dtype="u1") for _ in range(points)])
