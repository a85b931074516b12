"""Tiled's check of a key, once a second instead of three times a request.

Tiled asks its database of keys for the principal, the scopes and the tags of each request, and writes down when the key
was used: half of the time that a small answer takes. Its answers are kept here for `LIFETIME`, no longer than the key
lasts. A refusal is never kept.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from datetime import UTC, datetime
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

from fastapi import Depends, FastAPI, Request
from fastapi.security import SecurityScopes
from tiled.authn_database.core import lookup_valid_api_key
from tiled.server import authentication
from tiled.server.connection_pool import get_database_session_factory
from tiled.server.settings import get_settings

#: s; a key that was revoked opens nothing after it.
LIFETIME = 1.0
_MOST = 1000
_SUBSCRIBER = {"read:metadata", "read:data"}


class _Known(NamedTuple):
    principal: Any
    scopes: Any
    access_tags: Any
    until: float


def check_keys_once(app: FastAPI) -> None:
    """Put the answers that are kept between Tiled's routes and its checks."""
    known: dict[bytes, _Known] = {}
    asking: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()

    async def ask(
        api_key: Any = Depends(authentication.get_api_key),
        settings: Any = Depends(get_settings),
        db_factory: Any = Depends(get_database_session_factory),
    ) -> _Known | None:
        """What Tiled says of the key; None without one, or of one that is not, or no longer, valid."""
        if api_key is None:
            return None
        digest = hashlib.sha256(api_key.encode()).digest()
        # One asks, and the others wait for its answer: all at once would use up the connections to the database.
        async with asking.setdefault(digest, asyncio.Lock()):
            answer = known.get(digest)
            if answer is not None and time.time() < answer.until:
                return answer
            known.pop(digest, None)
            return await look_up(api_key, digest, settings, db_factory)

    async def look_up(api_key: str, digest: bytes, settings: Any, db_factory: Any) -> _Known | None:
        async with db_factory() as db:
            principal = await authentication.get_current_principal_from_api_key(api_key, True, db, settings)
            if principal is None:
                return None
            scopes = await authentication.get_scopes_from_api_key(api_key, settings, True, db)
            tags = await authentication.get_access_tags_from_api_key(api_key, True, db)
            key = await lookup_valid_api_key(db, bytes.fromhex(api_key))
        if key is None:
            return None
        until = time.time() + LIFETIME
        if key.expiration_time is not None:
            until = min(until, _epoch(key.expiration_time))
        if len(known) >= _MOST:
            known.clear()
        known[digest] = _Known(principal, scopes, tags, until)
        return known[digest]

    async def principal(
        request: Request,
        security_scopes: SecurityScopes,
        api_key: Any = Depends(authentication.get_api_key),
        answer: Any = Depends(ask),
        _: Any = Depends(authentication.move_api_key),
    ) -> Any:
        if api_key is not None and answer is None:
            raise authentication.HTTPException(
                401, "Invalid API key", headers=authentication.headers_for_401(request, security_scopes)
            )
        request.state.principal = answer.principal if answer else None
        return request.state.principal

    async def scopes(answer: Any = Depends(ask)) -> Any:
        return answer.scopes if answer else authentication.NO_SCOPES

    async def access_tags(answer: Any = Depends(ask)) -> Any:
        return answer.access_tags if answer else None

    async def subscriber_scopes(
        api_key: Any = Depends(authentication.get_api_key_websocket),
        settings: Any = Depends(get_settings),
        db_factory: Any = Depends(get_database_session_factory),
    ) -> Any:
        """Scopes of a websocket's key, which must be in its header; Tiled looks whether there is one, not what it may.

        Tiled would let anybody in, too, and wait without end for a first message that has a key.
        """
        if api_key is None:
            raise authentication.HTTPException(
                401, "A subscriber's key goes into the header: Authorization: Apikey KEY"
            )
        async with db_factory() as db:
            found = await authentication.get_scopes_from_api_key(api_key, settings, True, db)
        if not set(found) >= _SUBSCRIBER:
            raise authentication.HTTPException(
                403, f"A subscriber's key needs the scopes {', '.join(sorted(_SUBSCRIBER))}."
            )
        return found

    app.dependency_overrides |= {
        authentication.get_current_scopes_websocket: subscriber_scopes,
        authentication.get_current_principal: principal,
        authentication.get_current_scopes: scopes,
        authentication.get_current_access_tags: access_tags,
    }


def _epoch(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
