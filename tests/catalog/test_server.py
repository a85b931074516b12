"""The server lets nobody in without the key, keeps the key to itself, and is found by those who may know it."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow
import pytest
from documents import SHAPE, frame, make_settings, write_analysis, write_run
from fastapi.dependencies import utils
from tiled.client import from_uri
from tiled.server.settings import get_settings

from catalog import open_catalog
from catalog.server import PortTaken, Server
from catalog.store import CatalogStore


@pytest.fixture(scope="module")
def http(served: Any) -> Any:
    headers = {"Authorization": f"Apikey {served.server.api_key}"}
    with httpx.Client(base_url=served.server.uri, headers=headers, timeout=30) as client:
        yield client


class TestKey:
    def test_key_and_profile_are_for_their_owner_only(self, served: Any) -> None:
        for file in (served.server.store.key_file, Path(served.server.profile_file), served.server.store.server_file):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600

    def test_it_is_in_no_repr(self, served: Any, catalog: Any) -> None:
        texts = [repr(served.server), str(served.server), repr(catalog), repr(catalog.context), repr(catalog[-1])]
        assert not [text for text in texts if served.server.api_key in text]

    @pytest.mark.parametrize("path", ["", "search/", "array/full/x", "table/full/x", "documents/x"])
    def test_nothing_is_told_without_it(self, served: Any, path: str) -> None:
        for headers in ({}, {"Authorization": f"Apikey {'0' * 64}"}):
            answer = httpx.get(f"{served.server.uri}/api/v1/{path or 'metadata/'}", headers=headers)
            assert answer.status_code in {401, 404}
            assert served.uids[0] not in answer.text

    def test_another_application_of_the_process_does_not_look_into_our_keys(self, served: Any) -> None:
        theirs = get_settings()
        assert "keys" not in str(theirs.database_settings.uri)
        assert theirs.single_user_api_key != served.server.api_key

    def test_it_stays_the_same_when_the_server_starts_again(self, data_root: Path) -> None:
        store = CatalogStore(data_root)
        store.directory.mkdir(parents=True)
        assert store.api_key() == CatalogStore(data_root).api_key()
        assert len(store.api_key()) == 64


def array_link(http: httpx.Client, uid: str, key: str = "lunchbox_image") -> str:
    return f"/api/v1/array/full/{uid}/primary/{key}"


def test_the_signatures_of_a_request_are_looked_at_once(http: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = []
    original = utils.get_typed_signature
    monkeypatch.setattr(utils, "get_typed_signature", lambda call: (looked_at.append(call), original(call))[1])
    http.get("/api/v1/search/").raise_for_status()
    looked_at.clear()
    http.get("/api/v1/search/").raise_for_status()
    assert not looked_at


class TestWhatIsServed:
    def test_a_frame_by_http(self, http: httpx.Client, served: Any) -> None:
        answer = http.get(
            array_link(http, served.uids[0]), params={"slice": "2"}, headers={"Accept": "application/octet-stream"}
        )
        np.testing.assert_array_equal(np.frombuffer(answer.content, "u1").reshape(SHAPE), frame(0, 2))

    def test_a_frame_as_a_picture_is_the_frame(self, http: httpx.Client, served: Any) -> None:
        from PIL import Image

        answer = http.get(array_link(http, served.uids[0]), params={"slice": "1", "format": "image/png"})
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(answer.content))), frame(0, 1))

    def test_a_table_has_rows_that_the_page_can_parse(self, http: httpx.Client, served: Any) -> None:
        answer = http.get(
            f"/api/v1/table/partition/{served.uids[0]}/primary/internal",
            params={"partition": 0, "format": "application/json-seq"},
        )
        rows = [json.loads(line) for line in answer.text.splitlines()]
        assert [row["lunchbox_servo"] for row in rows] == [0, 1, 2, 3, 4]

    def test_documents_of_a_run(self, catalog: Any, served: Any) -> None:
        docs = list(catalog[served.uids[0]].documents())
        names = [name for name, _ in docs]
        assert (names[0], names[-1], names.count("event")) == ("start", "stop", 5)
        assert docs[0][1]["uid"] == served.uids[0]

    def test_an_answer_over_the_limit_is_refused_before_it_is_read(self, data_root: Path) -> None:
        uid = write_run(data_root, points=3, shape=(600, 700, 3))
        settings = make_settings(data_root, response_bytesize_limit=2_000_000)
        with Server(settings) as server:
            assert server.ingester is not None
            assert server.ingester.caught_up.wait(60)
            headers = {"Authorization": f"Apikey {server.api_key}"}
            url = f"{server.uri}/api/v1/array/full/{uid}/primary/lunchbox_image"
            assert httpx.get(url, headers=headers, params={"slice": "0"}, timeout=30).status_code == 200
            root = from_uri(server.uri, api_key=server.api_key)
            array = root.write_array(np.zeros((3, 700_000), "u1"))
            rows = pyarrow.table({"a": np.arange(300_000)})
            table = root.create_appendable_table(rows.schema, table_name="rows")
            table.append_partition(0, rows)
            # Were anything read first, what is missing would be met before the limit.
            next((data_root / "frames").rglob("*.h5")).unlink()
            shutil.rmtree(server.store.arrays)
            server.store.arrays.mkdir()
            for route, query in (
                (f"array/full/{uid}/primary/lunchbox_image", ""),
                (f"container/full/{uid}", "format=application/x-hdf5"),
                (f"node/full/{uid}/primary", "format=application/x-hdf5"),
                (f"table/full/{table.item['id']}", ""),
                (f"table/partition/{table.item['id']}", "partition=0"),
            ):
                answer = httpx.get(f"{server.uri}/api/v1/{route}?{query}", headers=headers, timeout=30)
                assert answer.status_code == 400, route
                assert "more than 2000000 bytes" in answer.text
            for media_type in ("application/x-hdf5", "application/json"):
                url = f"{server.uri}/api/v1/container/full/?format={media_type}"
                assert "no end" in httpx.get(url, headers=headers, timeout=30).text
            url = f"{server.uri}/api/v1/array/full/{array.item['id']}"
            assert httpx.get(url, headers=headers, timeout=30).status_code != 200
            root.context.close()


def test_two_servers_of_one_process_do_not_damage_the_tables(data_root: Path) -> None:
    """Two copies of SQLite in one process drop each other's locks: only one of them may open the tables."""
    uid = write_run(data_root, points=3)
    write_analysis(data_root, uid)
    settings = make_settings(data_root)
    with Server(settings) as first:
        assert first.ingester is not None
        assert first.ingester.caught_up.wait(60)
        with Server(settings) as second:
            for server in (first, second, first):
                catalog = open_catalog(server.uri, settings=settings, api_key=server.api_key)
                assert catalog[uid].primary.read()["lunchbox_servo"].values.tolist() == [0, 1, 2]
                write_run(data_root, points=1)
                catalog.close()
        write_run(data_root, points=1)
        assert not list((data_root / "catalog").glob("quarantine/*"))


class TestAddress:
    def test_a_port_that_is_taken_is_told_with_the_remedy(self, data_root: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            message = rf"cannot listen on 127.0.0.1:{port}: .*lunchbox serve --port 0"
            with pytest.raises(PortTaken, match=message):
                Server(make_settings(data_root), port=port).start()

    def test_it_is_found_while_it_runs(self, served: Any) -> None:
        assert json.loads(served.server.store.server_file.read_text())["uri"] == served.server.uri
        catalog = open_catalog(settings=served.settings)
        assert str(catalog.context.api_uri).startswith(served.server.uri)
        catalog.close()

    def test_it_listens_on_this_machine_only(self, served: Any) -> None:
        assert served.server.uri.startswith("http://127.0.0.1:")


SERVE = """
import sys
sys.path[:0] = {path!r}
from pathlib import Path
from documents import make_settings
from catalog.server import serve
serve(
    make_settings(Path(sys.argv[1])),
    on_ready=lambda server: print(server.uri, server.profile_file, flush=True),
    profiles=Path(sys.argv[1]) / "profiles",
)
print("done", flush=True)
"""


def test_serve_runs_until_it_is_told_to_end_and_databroker_finds_it(data_root: Path) -> None:
    uid = write_run(data_root, points=4, seed=8)
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE.format(path=sys.path), str(data_root)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    uri, profile = process.stdout.readline().split()
    key = CatalogStore(data_root).api_key()
    try:
        catalog = open_catalog(settings=make_settings(data_root))
        assert str(catalog.context.api_uri).startswith(uri)
        catalog.wait_for(uid)
        catalog.close()
        # As a user types it, in a process of its own: Tiled looks for profiles once.
        program = (
            "from databroker import catalog; data = catalog['lunchbox'][-1].primary.read();"
            "print(data['lunchbox_image'].shape, int(data['lunchbox_image'].values.astype(int).sum()))"
        )
        environment = {**os.environ, "TILED_PROFILES": str(Path(profile).parent)}
        answer = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        total = sum(int(frame(8, index).astype(int).sum()) for index in range(4))
        assert answer.stdout.split("\n")[0] == f"{(4, *SHAPE)} {total}"
    finally:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert out == "done\n"
    assert key not in out + err
    assert not CatalogStore(data_root).server_file.exists()
