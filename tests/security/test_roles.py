"""Every route that the server has, with every kind of key: who may not, gets nothing but a refusal."""

from __future__ import annotations

import contextlib
import logging
import socket
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from documents import make_settings, write_run
from tiled.client import from_uri

from catalog.gate import CLOSED
from catalog.key_checks import LIFETIME
from catalog.keys import KeyStore, NoSuchKey
from catalog.server import Server

#: Routes that tell nothing of the data, and what they are good for.
OPEN = {
    ("GET", "/"),  # the page's address
    ("GET", "/api/v1/"),  # that keys are needed
    ("GET", "/healthz"),
    ("GET", "/tiled-ui-settings"),
    ("GET", "/ui/{path}"),  # the page, without data
    ("GET", "/api/v1/auth/whoami"),  # null
}
#: They want a token of somebody who logged in; nobody can.
LOGIN = {
    ("POST", "/api/v1/auth/provider/keys/token"),
    ("POST", "/api/v1/auth/session/refresh"),
    ("POST", "/api/v1/auth/session/revoke"),
    ("DELETE", "/api/v1/auth/session/revoke/{session_id}"),
}
#: What only reads, though it is not a GET.
READING_POSTS = {
    ("POST", "/api/v1/table/full/{path}"),
    ("POST", "/api/v1/table/partition/{path}"),
    ("POST", "/api/v1/container/full/{path}"),
    ("POST", "/api/v1/awkward/buffers/{path}"),
}
#: GETs that are not a reader's.
ADMINISTRATION = {
    ("GET", "/api/v1/metrics"),
    ("GET", "/api/v1/auth/principal"),
    ("GET", "/api/v1/auth/principal/{uuid}"),
}
REFUSALS = {401, 403}
OPERATOR = "nobody-may-read-this-6d1f"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    data_root = tmp_path_factory.mktemp("roles")
    uid = write_run(data_root, points=2, operator=OPERATOR)
    with Server(make_settings(data_root)) as server:
        assert server.ingester is not None
        assert server.ingester.caught_up.wait(60)
        store = server.store.keys
        keys = {
            role: store.grant(role, note=f"the {role}", lifetime=timedelta(hours=1))
            for role in ("reader", "writer", "admin")
        }
        keys["expired"] = store.grant("admin", note="late", lifetime=timedelta(seconds=1))
        keys["revoked"] = store.grant("admin", note="gone", lifetime=None)
        # That a key opens until it ends has a test below: this one may end before a busy machine has asked.
        assert ask(server, keys["revoked"], "/api/v1/metadata/").status_code == 200
        store.revoke(keys["revoked"][:8])
        time.sleep(LIFETIME + 1)
        keys |= {"garbage": "0" * 72, "not a key": "let me in"}
        yield SimpleNamespace(server=server, store=store, keys=keys, uid=uid)


def ask(server: Server, key: str | None, path: str, *, method: str = "GET", **options: Any) -> httpx.Response:
    headers = {"Authorization": f"Apikey {key}"} if key else {}
    return httpx.request(method, f"{server.uri}{path}", headers=headers, timeout=30, **options)


@pytest.fixture(scope="module")
def routes(place: Any) -> list[tuple[str, str]]:
    paths = httpx.get(f"{place.server.uri}/openapi.json").json()["paths"]
    found = [(method.upper(), path) for path, methods in paths.items() for method in methods]
    assert len(found) > 60
    for known in (OPEN, LOGIN, READING_POSTS, ADMINISTRATION):
        assert known <= set(found), "a route that this test knows is gone"
    return found


def call(place: Any, key: str | None, method: str, path: str) -> httpx.Response:
    target = {
        "path": f"{place.uid}/primary",
        "uuid": str(uuid.uuid4()),
        "session_id": uuid.uuid4().hex,
        "webhook_id": "1",
        "block": "0",
    }
    query = {"first_eight": "00000000", "id": "1", "role": "admin", "block": "0,0,0,0", "partition": "0", "metadata": 1}
    body = {"json": {}} if method in {"POST", "PUT", "PATCH"} else {}
    if "graphql" in path:
        body = {"json": {"query": "{ __schema { types { name } } }"}} if method == "POST" else {}
    return ask(place.server, key, path.format(**target), method=method, params=query, **body)


@pytest.mark.parametrize("who", [None, "garbage", "not a key", "expired", "revoked"])
def test_without_a_valid_key_every_route_is_shut(place: Any, routes: Any, who: str | None) -> None:
    for method, path in routes:
        answer = call(place, place.keys[who] if who else None, method, path)
        where = f"{method} {path}: {answer.status_code}"
        assert OPERATOR not in answer.text, where
        assert place.uid not in answer.text.replace(str(answer.request.url), ""), where
        if (method, path) in LOGIN:
            assert answer.status_code in {401, 404, 422}, where
        elif (method, path) not in OPEN:
            assert answer.status_code in (REFUSALS if not path.startswith(CLOSED) else {404}), where


def test_a_reader_reads_and_nothing_else(place: Any, routes: Any) -> None:
    for method, path in routes:
        answer = call(place, place.keys["reader"], method, path)
        where = f"{method} {path}: {answer.status_code}"
        if (method, path) in OPEN | LOGIN or path.startswith(CLOSED):
            continue
        if (method, path) in READING_POSTS or (method == "GET" and (method, path) not in ADMINISTRATION):
            assert answer.status_code not in {401} | {500}, where
        else:
            assert answer.status_code in REFUSALS, where


def test_a_writer_does_not_administer(place: Any, routes: Any) -> None:
    for method, path in routes:
        if path.startswith(CLOSED):
            continue
        if (method, path) in ADMINISTRATION or (path.startswith("/api/v1/auth") and (method, path) not in OPEN | LOGIN):
            answer = call(place, place.keys["writer"], method, path)
            if (method, path) != ("GET", "/api/v1/auth/apikey"):  # about itself
                assert answer.status_code in REFUSALS | {404}, f"{method} {path}: {answer.status_code}"


def test_each_role_can_do_what_it_is_for(place: Any) -> None:
    writer = from_uri(place.server.uri, api_key=place.keys["writer"])
    writer.create_container("box")
    assert ask(place.server, place.keys["reader"], "/api/v1/metadata/box").status_code == 200
    writer.delete_contents("box", recursive=True, external_only=False)
    assert ask(place.server, place.keys["reader"], "/api/v1/metadata/box").status_code == 404
    writer.context.close()
    principals = ask(place.server, place.keys["admin"], "/api/v1/auth/principal").json()
    reader = next(one for one in principals if any(role["name"] == "reader" for role in one["roles"]))
    granted = ask(
        place.server,
        place.keys["admin"],
        f"/api/v1/auth/principal/{reader['uuid']}/apikey",
        method="POST",
        json={"scopes": ["read:metadata"], "expires_in": 60, "note": "by HTTP"},
    ).json()
    assert ask(place.server, granted["secret"], "/api/v1/metadata/").status_code == 200
    url = f"/api/v1/array/full/{place.uid}/primary/lunchbox_image?slice=0"
    assert ask(place.server, granted["secret"], url).status_code == 401
    assert granted["first_eight"] in [key.first_eight for key in place.store.granted()]


def test_a_key_that_is_revoked_or_ends_opens_nothing_a_second_later(place: Any) -> None:
    revoked = place.store.grant("reader", note="short", lifetime=None)
    ending = place.store.grant("reader", note="shorter", lifetime=timedelta(seconds=3))
    end = time.time() + 3
    assert ask(place.server, revoked, "/api/v1/metadata/").status_code == 200
    assert place.store.revoke(revoked[:8]).note == "short"
    time.sleep(LIFETIME)
    assert ask(place.server, revoked, "/api/v1/metadata/").status_code == 401
    while time.time() < end:
        assert ask(place.server, ending, "/api/v1/metadata/").status_code == 200 or time.time() > end - 1
        time.sleep(0.2)
    assert ask(place.server, ending, "/api/v1/metadata/").status_code == 401


def test_a_key_reaches_no_log_address_or_repr(place: Any, caplog: pytest.LogCaptureFixture) -> None:
    key = place.keys["reader"]
    with caplog.at_level(logging.DEBUG):
        client = from_uri(f"{place.server.uri}/api/v1?api_key={key}")
        run = client[place.uid]
        run["primary"].read()
        ask(place.server, key, "/api/v1/array/full/nothing")
        texts = [repr(client), repr(client.context), repr(run), client.uri, str(client.context.api_uri), run.uri]
        client.context.close()
    texts += [repr(place.store), repr(place.store.granted()), repr(place.server)]
    links = ask(place.server, key, f"/api/v1/metadata/{place.uid}").text
    for secret in (key, place.server.api_key):
        assert not [text for text in [*texts, links] if secret in text]
        # The client of the test logs the address that the test gave it; the server logs none.
        assert not [
            r for r in caplog.records if secret in r.getMessage() and not r.name.startswith(("httpx", "httpcore"))
        ]


def test_keys_are_kept_as_hashes_in_a_private_file(place: Any) -> None:
    files = list(place.server.store.data_root.glob("keys.db*"))
    assert files
    for file in files:
        assert file.stat().st_mode & 0o077 == 0
        content = file.read_bytes()
        for role in ("reader", "writer", "admin"):
            assert bytes.fromhex(place.keys[role]) not in content
            assert place.keys[role].encode() not in content


def test_a_body_without_end_is_refused_before_it_is_read(place: Any) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 400_000_000:
            sent += 1_000_000
            yield bytes(1_000_000)

    path = f"/api/v1/table/full/{place.uid}"
    with socket.create_connection(place.server.uri.removeprefix("http://").split(":")) as connection:
        head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Length: 400000000\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 413")
    with contextlib.suppress(httpx.TransportError):  # it need not listen to the end
        assert httpx.post(f"{place.server.uri}{path}", content=endless(), timeout=60).status_code in {400, 413}


class TestKeyStore:
    @pytest.fixture
    def store(self, tmp_path: Any) -> KeyStore:
        store = KeyStore(f"sqlite:///{tmp_path / 'keys.db'}")
        store.create("ab" * 32)
        return store

    def test_it_lists_what_was_granted_and_nothing_of_its_own(self, store: KeyStore) -> None:
        before = datetime.now(UTC)
        key = store.grant("writer", note="Ada", lifetime=timedelta(days=2))
        (info,) = store.granted()
        assert (info.first_eight, info.role, info.note, info.last_used) == (key[:8], "writer", "Ada", None)
        assert info.expires is not None
        assert abs(info.expires - before - timedelta(days=2)) < timedelta(seconds=10)
        assert not info.is_expired

    def test_a_new_own_key_replaces_the_old_one(self, store: KeyStore) -> None:
        store.create("ab" * 32)
        store.create("cd" * 32)
        key = store.grant("reader", note="Ada", lifetime=None)
        store.revoke(key[:5])
        assert store.granted() == []

    @pytest.mark.parametrize("beginning", ["", "00000000", "zz"])
    def test_a_wrong_beginning_revokes_nothing(self, store: KeyStore, beginning: str) -> None:
        store.grant("reader", note="Ada", lifetime=None)
        with pytest.raises(NoSuchKey, match="lunchbox keys list"):
            store.revoke(beginning)
        assert len(store.granted()) == 1

    def test_roles_and_notes_are_checked(self, store: KeyStore) -> None:
        with pytest.raises(ValueError, match="no role; there are reader, writer, admin"):
            store.grant("root", note="", lifetime=None)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="note other than"):
            store.grant("reader", note="of this data root", lifetime=None)
