"""Every websocket of the server, with every kind of key: who may not read, is told nothing of a run."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections.abc import Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from command import CommandLine
from documents import make_settings, write_run
from fastapi.routing import iter_route_contexts
from services import redis_database
from starlette.routing import WebSocketRoute
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from catalog import open_catalog
from catalog.gate import CLOSED
from catalog.key_checks import LIFETIME
from catalog.server import Server, _app, tiled_configuration
from catalog.store import CatalogStore

NOT_VALID = ["garbage", "not a key", "expired", "revoked"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    home = tmp_path_factory.mktemp("websockets")
    with redis_database() as redis:
        command = CommandLine(home, config=json.dumps({"server": {"port": 0, "streaming_uri": redis}}))
        with command.start("serve", "--json") as process:
            try:
                yield _place(command, json.loads(process.stdout.readline())["uri"])  # type: ignore[union-attr]
            finally:
                process.send_signal(signal.SIGINT)


def _place(command: CommandLine, uri: str) -> Any:
    uid = write_run(command.data_root, points=2, operator="nobody-may-read-this")
    store = CatalogStore(command.data_root).keys
    keys = {role: store.grant(role, note=role, lifetime=None) for role in ("reader", "writer", "admin")}
    keys["expired"] = store.grant("admin", note="late", lifetime=timedelta(seconds=1))
    keys["revoked"] = store.grant("admin", note="gone", lifetime=None)
    store.revoke(keys["revoked"][:8])
    time.sleep(LIFETIME + 1)
    keys |= {"garbage": "0" * 72, "not a key": "let me in"}
    catalog = open_catalog(uri, settings=make_settings(command.data_root), api_key=keys["reader"])
    catalog.wait_for(uid, timeout=120)
    catalog.close()
    return SimpleNamespace(uri=uri, keys=keys, uid=uid)


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Path of every websocket that the application has and the gate lets through."""
    app = _app(tiled_configuration(make_settings(tmp_path_factory.mktemp("routes"))))
    contexts = list(iter_route_contexts(app.routes))
    found = [context.path for context in contexts if isinstance(context.original_route, WebSocketRoute)]
    assert "/api/v1/stream/single/{path:path}" in found
    return [path for path in found if not path.startswith(CLOSED)]


def heard(place: Any, route: str, *, header: str | None = None, query: str = "", first: str | None = None) -> list[str]:
    """What a client is told from the beginning of the stream, until it is shut out or nothing more comes."""
    path = f"{route.replace('{path:path}', place.uid)}?start=0&{query}"
    headers = {"Authorization": f"Apikey {header}"} if header else {}
    told: list[str] = []
    with (
        contextlib.suppress(InvalidStatus, ConnectionClosed, TimeoutError),
        connect(place.uri.replace("http", "ws", 1) + path, additional_headers=headers) as socket,
    ):
        if first is not None:
            socket.send(first)
        while True:
            told.append(str(socket.recv(timeout=2)))
    return told


@pytest.mark.parametrize("who", [None, *NOT_VALID])
def test_without_a_valid_key_nothing_is_told(place: Any, routes: list[str], who: str | None) -> None:
    key = place.keys[who] if who else None
    for route in routes:
        if key is not None:
            assert heard(place, route, header=key) == []
            assert heard(place, route, query=f"access_token={key.replace(' ', '+')}") == []
        assert heard(place, route, query=f"api_key={(key or '').replace(' ', '+')}", first="{}") == []
        assert heard(place, route, first=json.dumps({"type": "auth", "api_key": key})) == []


@pytest.mark.parametrize("who", ["reader", "writer", "admin"])
def test_who_may_read_is_told(place: Any, routes: list[str], who: str) -> None:
    for route in routes:
        schema, *updates = heard(place, route, header=place.keys[who])
        assert json.loads(schema)["type"] == "container-schema"
        assert [json.loads(update)["key"] for update in updates] == ["primary"]
        # Elsewhere than in the header, a key is not looked for.
        assert heard(place, route, first=json.dumps({"type": "auth", "api_key": place.keys[who]})) == []


def test_a_key_that_may_read_metadata_only_is_told_nothing(place: Any, routes: list[str]) -> None:
    import httpx

    own = {"Authorization": f"Apikey {place.keys['admin']}"}
    api = f"{place.uri}/api/v1/auth"
    principals = httpx.get(f"{api}/principal", headers=own, timeout=30).json()
    reader = next(one for one in principals if any(role["name"] == "reader" for role in one["roles"]))
    content = {"scopes": ["read:metadata"], "expires_in": 60, "note": "half"}
    key = httpx.post(f"{api}/principal/{reader['uuid']}/apikey", headers=own, json=content, timeout=30).json()["secret"]
    for route in routes:
        assert heard(place, route, header=key) == []


def test_without_a_place_for_streams_everybody_is_refused(tmp_path: Any) -> None:
    with Server(make_settings(tmp_path)) as server:
        headers = {"Authorization": f"Apikey {server.api_key}"}
        address = server.uri.replace("http", "ws", 1) + "/api/v1/stream/single/"
        with pytest.raises(InvalidStatus, match="403"), connect(address, additional_headers=headers):
            pass
