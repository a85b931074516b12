"""The four ways to a frame are one: the same handler, the same pixels."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import event_model
import numpy as np
import pytest
from documents import frame, make_settings, write_run

from catalog.handlers import LunchBoxHDF5Handler, handler_registry
from catalog.journal import list_journals, read_journal
from catalog.layout import FIELDS, FRAMES_DIR, JOURNAL_DIR
from catalog.server import Server


@pytest.fixture(scope="module")
def docs(served: Any) -> list[tuple[str, dict[str, Any]]]:
    """Documents of one run, from its journal."""
    (path,) = [e.path for e in list_journals(served.data_root / JOURNAL_DIR) if e.uid == served.uids[2]]
    return list(read_journal(path))


def by_filler(docs: list[Any]) -> dict[str, np.ndarray]:
    frames: dict[str, list[Any]] = {key: [] for key in FIELDS}
    with event_model.Filler(handler_registry(), inplace=False) as filler:
        for name, doc in docs:
            name, doc = filler(name, doc)
            if name == "event":
                for key in FIELDS:
                    frames[key].append(doc["data"][key])
    return {key: np.stack(values) for key, values in frames.items()}


def by_mongo(docs: list[Any]) -> dict[str, np.ndarray]:
    with warnings.catch_warnings():
        # databroker's MongoAdapter, on libraries that are newer than it.
        warnings.simplefilter("ignore")
        from databroker.mongo_normalized import MongoAdapter
        from tiled.client import from_context
        from tiled.client.context import Context
        from tiled.server.app import build_app

        adapter = MongoAdapter.from_mongomock(handler_registry=handler_registry())
        serializer = adapter.get_serializer()
        for name, doc in docs:
            serializer(name, doc)
        with Context.from_app(build_app(adapter)) as context:
            run = from_context(context)[docs[0][1]["uid"]]
            return {key: run["primary"]["data"][key].read() for key in FIELDS}


def by_catalog(run: Any) -> dict[str, np.ndarray]:
    return {key: run.primary[key].read() for key in FIELDS}


def test_filler_tiled_http_and_mongo_give_the_same_pixels(catalog: Any, served: Any, docs: list[Any]) -> None:
    from tiled.client import from_uri

    remote = from_uri(served.server.uri, api_key=served.server.api_key)
    routes = {
        "Filler": by_filler(docs),
        "local": by_catalog(catalog[served.uids[2]]),
        "HTTP": by_catalog(remote[served.uids[2]]),
        "MongoAdapter": by_mongo(docs),
    }
    remote.context.close()
    for route, frames in routes.items():
        for key, dataset in FIELDS.items():
            file = next(doc for name, doc in docs if name == "resource")
            handler = LunchBoxHDF5Handler(Path(file["root"]) / file["resource_path"], dataset=dataset)
            np.testing.assert_array_equal(np.asarray(frames[key]), handler.read(), err_msg=f"{route}, {key}")
            assert np.asarray(frames[key]).dtype == np.uint8
    assert FRAMES_DIR in file["root"]


NOTEBOOK = """
import json, warnings
warnings.simplefilter("ignore")
from databroker import catalog
from databroker.queries import FullText, Key, PartialUID, ScanID, TimeRange
c = catalog["lunchbox"]
header = c.v1[-1]
table = header.table(fields=["lunchbox_servo"])
print(json.dumps({
    "last": c[-1].start["uid"],
    "v1": header.start["uid"],
    "table": table["lunchbox_servo"].tolist(),
    "pixel": header.table(fill=True)["lunchbox_image"][2][0, 0].tolist(),
    "data": [int(image[0, 0, 0]) for image in header.data("lunchbox_image")],
    "events": [event["data"]["lunchbox_servo"] for event in header.events()],
    "documents": [name for name, _ in header.documents()],
    "v1 since": len(list(c.v1(since="2020-01-01", until="2090-01-01"))),
    "v1 key": [header.start["scan_id"] for header in c.v1(scan_id=2)],
    "v2": c.v2[-1].primary.read()["lunchbox_servo"].values.tolist(),
    "TimeRange": [len(c.search(TimeRange(since=since))) for since in ("2020-01-01", "2090-01-01")],
    "Key": len(c.search(Key("scan_id") == 2)),
    "nested Key": len(c.search(Key("sample.name") == "grating 7")),
    "FullText": [len(c.search(FullText(word))) for word in ("daguerre", "talbot")],
    "ScanID": len(c.search(ScanID(2))),
    "PartialUID": len(c.search(PartialUID(c[-1].start["uid"][:6]))),
}))
"""


def test_a_databroker_notebook_finds_and_reads_what_it_did(tmp_path: Path) -> None:
    """`databroker.catalog["lunchbox"]` by the profile, in a process of its own, as a notebook is."""
    data_root = tmp_path / "data"
    write_run(data_root, points=1, operator="Daguerre", sample={"name": "grating 7"})
    uid = write_run(data_root, points=3, seed=4)
    with Server(make_settings(data_root), announce=True, profiles=tmp_path / "profiles") as server:
        assert server.ingester is not None
        assert server.ingester.caught_up.wait(60)
        environment = {**os.environ, "TILED_PROFILES": str(tmp_path / "profiles")}
        done = subprocess.run([sys.executable, "-c", NOTEBOOK], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    documents = found.pop("documents")
    assert (documents[0], documents[-1], documents.count("event")) == ("start", "stop", 3)
    assert found == {
        "last": uid,
        "v1": uid,
        "table": [0.0, 1.0, 2.0],
        "pixel": frame(4, 1)[0, 0].tolist(),
        "data": [0, 1, 2],
        "events": [0.0, 1.0, 2.0],
        "v1 since": 2,
        "v1 key": [2],
        "v2": [0.0, 1.0, 2.0],
        "TimeRange": [2, 0],
        "Key": 1,
        "nested Key": 1,
        "FullText": [1, 0],
        "ScanID": 1,
        "PartialUID": 1,
    }


MONGO = """
trees:
  - path: /
    tree: catalog.mongo:in_memory
    args:
      frames: [{frames}]
      root_map: {{/old/frames: {frames}}}
"""


def test_a_tiled_server_on_mongodb_reads_by_the_same_handlers(served: Any, docs: list[Any], tmp_path: Path) -> None:
    """From the configuration file; resources recorded where frames are no more are mapped, others are refused."""
    frames = served.data_root / FRAMES_DIR
    config = tmp_path / "config.yml"
    config.write_text(MONGO.format(frames=frames))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # databroker's MongoAdapter, on libraries that are newer than it
        from tiled.client import from_context
        from tiled.client.context import Context
        from tiled.config import parse_configs
        from tiled.server.app import build_app_from_config

        parsed = parse_configs(config)
        serializer = parsed.trees[0].tree.get_serializer()
        for name, doc in docs:
            serializer(name, {**doc, "root": "/old/frames"} if name == "resource" else doc)
        with Context.from_app(build_app_from_config(parsed)) as context:
            run = from_context(context)[docs[0][1]["uid"]]
            read = run["primary"]["data"]["lunchbox_image"].read()
    np.testing.assert_array_equal(np.asarray(read), [frame(20, index) for index in range(5)])
