"""What a server answers is what Tiled's own look-ups answer; and questions take turns."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from documents import make_settings, write_analysis, write_run

from catalog import gate, server
from catalog.gate import Gate
from catalog.server import Server


@pytest.fixture
def both(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[httpx.Client, httpx.Client, list[str]]]:
    """Clients of a server as it is, and of one with Tiled's own look-ups; and the uids of a scan and its fit."""
    uid = write_run(data_root, points=3)
    uids = [uid, write_analysis(data_root, uid)]
    settings = make_settings(data_root)
    with Server(settings) as ours:
        assert ours.ingester is not None
        assert ours.ingester.caught_up.wait(120)
        monkeypatch.setattr(server, "look_nodes_up_at_once", lambda app: None)
        with Server(settings) as plain, _client(ours) as one, _client(plain) as other:
            yield one, other, uids


def _client(server: Server) -> httpx.Client:
    # A connection each: after an internal error, which Tiled has for what is below an array, the server ends it.
    headers = {"Authorization": f"Apikey {server.api_key}", "Accept": "application/json", "Connection": "close"}
    return httpx.Client(base_url=f"{server.uri}/api/v1", headers=headers, timeout=60)


def test_answers_are_those_of_tiled(both: Any) -> None:
    ours, tiled, (uid, fit) = both
    asked = ["/no/such", f"/{uid}/none", f"/{uid}/primary/internal/none", f"/{uid}/primary/lunchbox_image/0"]
    for top in ("", f"/{uid}", "/processed", f"/processed/{fit}"):
        asked.append(top)
        for item in tiled.get(f"/search{top or '/'}").json()["data"]:
            asked.append(f"{top}/{item['id']}")
            if item["attributes"]["structure_family"] == "container":
                found = tiled.get(f"/search{asked[-1]}").json()["data"]
                asked += [f"{top}/{item['id']}/{inner['id']}" for inner in found]
    assert len(set(asked)) > 12
    for path in asked:
        for query in ("", "?include_data_sources=true"):
            one, other = (client.get(f"/metadata{path or '/'}{query}") for client in (ours, tiled))
            assert one.status_code == other.status_code
            assert one.text.replace(_place(ours), "") == other.text.replace(_place(tiled), "")
    for path in (f"/array/full/{uid}/primary/lunchbox_image?slice=1", f"/table/full/{uid}/primary/internal?format=csv"):
        one, other = (client.get(path, headers={"Accept": "*/*"}) for client in (ours, tiled))
        assert one.is_success
        assert one.content == other.content


def _place(client: httpx.Client) -> str:
    return str(client.base_url).partition("/api")[0]


class _Slow:
    """An application whose answers to GET begin when they are let, and end later."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.let = asyncio.Event()
        self.end = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.begun.append(f"{scope['method']} {scope['path']}")
        if scope["method"] == "GET":
            await self.let.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await self.end.wait()
        await send({"type": "http.response.body", "body": b""})


def _request(method: str, path: str) -> dict[str, Any]:
    return {"type": "http", "method": method, "path": path, "headers": []}


async def _nothing() -> dict[str, Any]:
    return {"type": "http.request"}


async def _sent(message: Any) -> None:
    pass


async def _until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


def test_questions_take_turns_and_nothing_else_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "PATIENCE", 20)

    async def scenario() -> None:
        app = _Slow()
        guarded = Gate(app, streams=False)
        paths = [f"/api/v1/metadata/{number}" for number in range(2 * gate.AT_ONCE)]
        others = [("PUT", "/api/v1/metadata/x"), ("GET", "/api/v1/array/full/x")]
        async with asyncio.TaskGroup() as group:
            for method, path in [*(("GET", path) for path in paths), *others]:
                group.create_task(guarded(_request(method, path), _nothing, _sent))
            await _until(lambda: len(app.begun) == gate.AT_ONCE + len(others))
            await asyncio.sleep(0.05)
            assert len(app.begun) == gate.AT_ONCE + len(others)
            # An answer that has begun keeps nobody waiting, however long it is.
            app.let.set()
            await _until(lambda: len(app.begun) == len(paths) + len(others))
            app.end.set()

    asyncio.run(scenario())


def test_a_question_behind_slow_ones_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "PATIENCE", 0.05)

    async def scenario() -> None:
        app = _Slow()
        guarded = Gate(app, streams=False)
        async with asyncio.TaskGroup() as group:
            for number in range(3 * gate.AT_ONCE):
                group.create_task(guarded(_request("GET", f"/api/v1/search/{number}"), _nothing, _sent))
            await _until(lambda: len(app.begun) == 3 * gate.AT_ONCE)
            app.let.set()
            app.end.set()

    asyncio.run(scenario())
