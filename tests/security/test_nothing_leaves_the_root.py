"""0 bytes from outside the data root, whoever asks, by whichever route, and whatever a document or a file says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import event_model
import h5py
import httpx
import numpy as np
import pytest
from documents import SHAPE, write_run
from tiled.structures.array import ArrayStructure
from tiled.structures.core import StructureFamily
from tiled.structures.data_source import Asset, DataSource, Management
from tiled.structures.table import TableStructure
from traps import CANARY, external_link, external_storage, soft_link, virtual_dataset

from catalog import open_catalog
from catalog.errors import LunchBoxError
from catalog.handlers import handler_registry
from catalog.journal import Journal
from catalog.layout import JOURNAL_DIR, MIMETYPE, SPEC
from catalog.paths import FrameRoots

KWARGS = {"spec": SPEC, "resource_kwargs": [{"dataset": "/data"}], "segments": [[0, 0, 1]]}


def uris(place: Any, name: str) -> list[str]:
    """Ways to write the path of a secret file."""
    frames, outside = place.frames, place.secret / name
    return [
        f"file://localhost{outside}",
        f"file://localhost{frames}/../../secret/{name}",
        f"file://localhost{frames}/%2e%2e/%2e%2e/secret/{name}",
        f"file://localhost{frames}/..%2f..%2fsecret/{name}",
        f"file://localhost{frames}/out/{name}",
        f"file://localhost{frames}/link{Path(name).suffix}",
        f"file://elsewhere{outside}",
        f"file://localhost{frames}/%00/../../secret/{name}",
    ]


def everything(place: Any, path: str) -> Iterator[httpx.Response]:
    """All that can be asked of a node."""
    headers = {"Authorization": f"Apikey {place.server.api_key}"}
    with httpx.Client(base_url=f"{place.server.uri}/api/v1", headers=headers, timeout=30) as client:
        for route, query in (
            ("array/full", "format=application/octet-stream"),
            ("array/block", "block=0,0,0,0"),
            ("table/full", "format=text/csv"),
            ("node/full", "format=application/x-hdf5"),
            ("asset/bytes", "id=1"),
            ("metadata", "include_data_sources=true"),
        ):
            yield client.get(f"/{route}/{path}?{query}")


def register(place: Any, mimetype: str, uri: str, *, is_directory: bool = False) -> str:
    """A node over the file of this URI, as whoever may write can make one; gives back its path."""
    if "csv" in mimetype:
        import pyarrow

        family, structure = StructureFamily.table, TableStructure.from_schema(pyarrow.schema({"a": "str"}))
    else:
        family, structure = StructureFamily.array, ArrayStructure.from_array(np.zeros((1, *SHAPE), "u1"))
    source = DataSource(
        structure_family=family,
        structure=structure,
        mimetype=mimetype,
        parameters=dict(KWARGS) if mimetype == MIMETYPE else {"dataset": "data"},
        management=Management.external,
        assets=[Asset(data_uri=uri, is_directory=is_directory, parameter="data_uri", num=None)],
    )
    node = place.root.new(family, data_sources=[source], metadata={}, specs=[])
    return str(node.item["id"])


@pytest.mark.parametrize(
    ("mimetype", "name"),
    [
        (MIMETYPE, "frames.h5"),
        ("application/x-hdf5", "frames.h5"),
        ("application/octet-stream", "notes.csv"),
        ("text/csv", "notes.csv"),
        ("application/x-npy", "array.npy"),
        ("application/x-zarr", "array.zarr"),
    ],
)
def test_a_writer_cannot_register_a_file_of_others(place: Any, mimetype: str, name: str) -> None:
    for uri in uris(place, name):
        path = register(place, mimetype, uri, is_directory=name.endswith("zarr"))
        for answer in everything(place, path):
            assert CANARY not in answer.content, (uri, answer.request.url)
            assert answer.status_code != 200 or "/metadata/" in str(answer.request.url), (uri, answer.request.url)


def test_a_document_cannot_name_a_file_of_others(place: Any) -> None:
    """Whole runs with hostile resources, journalled as any scan is."""
    frames = place.frames
    hostile = [
        (str(place.secret), "frames.h5"),
        (str(frames), "../../secret/frames.h5"),
        (str(frames), f"{place.secret}/frames.h5"),
        (str(frames), "link.h5"),
        (str(frames), "out/frames.h5"),
        (f"{frames}/../../secret", "frames.h5"),
        ("/", f"{place.secret}/frames.h5"),
        (str(frames), "%2e%2e/%2e%2e/secret/frames.h5"),
        (f"file://localhost{place.secret}", "frames.h5"),
        (str(frames), "link.h5\0.h5"),
    ]
    runs = [journalled(place, root, path) for root, path in hostile]
    check_that_nothing_is_read(place, runs)


def test_a_file_inside_cannot_lead_out(place: Any, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(CANARY * 200)
    runs = []
    for trap in (external_link, soft_link, virtual_dataset, external_storage):
        name = f"{trap.__name__}.h5"
        with h5py.File(place.frames / name, "w") as file:
            trap(file, outside)
        with h5py.File(outside.with_suffix(".h5"), "w") as file:
            file["data"] = np.frombuffer(CANARY * (2 * int(np.prod(SHAPE)) // len(CANARY)), "u1").reshape(2, *SHAPE)
        runs.append(journalled(place, str(place.frames), name))
        for mimetype in (MIMETYPE, "application/x-hdf5"):
            path = register(place, mimetype, f"file://localhost{place.frames}/{name}")
            for answer in everything(place, path):
                assert CANARY not in answer.content
    check_that_nothing_is_read(place, runs)


def journalled(place: Any, root: str, resource_path: str) -> str:
    """A finished run with one frame, whose resource has this root and path; gives back its uid."""
    run = event_model.compose_run()
    keys = {"image": {"source": "", "dtype": "array", "shape": list(SHAPE), "dtype_numpy": "|u1", "external": "F:"}}
    stream = run.compose_descriptor(name="primary", data_keys=keys)
    resource = run.compose_resource(
        spec=SPEC, root=root, resource_path=resource_path, resource_kwargs={"dataset": "/data"}
    )
    datum = resource.compose_datum(datum_kwargs={"frame": 0})
    event = stream.compose_event(data={"image": datum["datum_id"]}, timestamps={"image": 0.0}, filled={"image": False})
    with Journal(place.frames.parent / JOURNAL_DIR, fsync=False) as journal:
        for name, doc in (
            ("start", run.start_doc),
            ("descriptor", stream.descriptor_doc),
            ("resource", resource.resource_doc),
            ("datum", datum),
            ("event", event),
            ("stop", run.compose_stop()),
        ):
            journal(name, doc)
    return str(run.start_doc["uid"])


def check_that_nothing_is_read(place: Any, runs: list[str]) -> None:
    """Of each run, it is in quarantine, or no way to its frames gives one."""
    catalog = open_catalog(place.server.uri, settings=place.settings, api_key=place.server.api_key)
    marker = write_run(place.frames.parent, points=1)
    catalog.wait_for(marker, timeout=120)  # journals are taken in order
    for uid in runs:
        for path in (f"{uid}/primary/image", f"{uid}/primary"):
            for answer in everything(place, path):
                assert CANARY not in answer.content, answer.request.url
        if uid not in catalog:
            continue
        image = catalog[uid].primary["image"]
        for read in (image.read, lambda image=image: image[0], catalog[uid].primary.read):
            with pytest.raises(LunchBoxError):
                read()
    catalog.close()


@pytest.mark.parametrize("index", range(8))
def test_a_handler_with_roots_opens_no_file_of_others(place: Any, index: int) -> None:
    handler = handler_registry(FrameRoots.from_settings(place.settings))[SPEC]
    path = uris(place, "frames.h5")[index].removeprefix("file://").removeprefix("localhost")
    with pytest.raises(LunchBoxError):
        handler(path, dataset="/data")(frame=0)
    good = next(place.frames.glob("2*/**/*.h5"))
    assert handler(good, dataset="/entry/instrument/detector/data")(frame=0).shape == SHAPE


def test_a_file_of_others_would_be_read_if_it_were_inside(place: Any, tmp_path: Path) -> None:
    """The canary sings: what the tests above look for is there to be found."""
    (place.frames / "copy.h5").write_bytes((place.secret / "frames.h5").read_bytes())
    path = register(place, MIMETYPE, f"file://localhost{place.frames}/copy.h5")
    assert any(CANARY in answer.content for answer in everything(place, path))
