"""Who may do what: keys of readers, writers and admins, in Tiled's own database of keys.

Tiled checks them at every request: a key that expired or was revoked opens nothing from then on. Of a key only the
first eight characters and a hash are kept; whoever loses one needs a new one.

::

    <data_root>/keys.db     mode 0600; stays when the catalogue is deleted
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from catalog.errors import LunchBoxError

Role = Literal["reader", "writer", "admin"]
_T = TypeVar("_T")

_READ = ["read:metadata", "read:data"]
#: What a role may do, in Tiled's scopes. An admin is Tiled's: all of it, and the keys of everybody.
SCOPES: dict[str, list[str]] = {
    "reader": _READ,
    "writer": [
        *_READ,
        "create:node",
        "register",
        "write:metadata",
        "write:data",
        "delete:node",
        "delete:revision",
    ],
}
_OWN_NOTE = "of this data root"


class NoSuchKey(LunchBoxError, KeyError):
    """No key begins so, or more than one does."""


@dataclass(frozen=True)
class KeyInfo:
    """What is known of a key. Times are in UTC; None is never."""

    first_eight: str
    role: str
    note: str
    created: datetime
    expires: datetime | None
    last_used: datetime | None

    @property
    def is_expired(self) -> bool:
        return self.expires is not None and self.expires < datetime.now(UTC)


class KeyStore:
    """The keys of one data root.

    Parameters
    ----------
    uri : of the database, SQLite's or PostgreSQL's, as Tiled takes it.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def __repr__(self) -> str:
        return f"{type(self).__name__}({without_password(self.uri)!r})"

    def make_private(self) -> None:
        """Make the file of keys, if it is one, before anybody else can: only its owner reads it."""
        from sqlalchemy.engine import make_url

        url = make_url(self.uri)
        if url.get_dialect().name == "sqlite" and url.database:
            Path(url.database).touch(mode=0o600)

    def create(self, own_key: str) -> None:
        """Make what is missing, and let the data root's own key in as an admin's, instead of the one before it."""
        self._run(self._initialize)

        async def admit(db: Any) -> None:
            from sqlalchemy import delete, select
            from tiled.authn_database.orm import APIKey

            digest = hashlib.sha256(bytes.fromhex(own_key)).digest()
            own = (await db.execute(select(APIKey).filter(APIKey.note == _OWN_NOTE))).unique().scalars().all()
            if [key.hashed_secret for key in own] != [digest]:
                await db.execute(delete(APIKey).where(APIKey.note == _OWN_NOTE))
                await _add(db, own_key, role="admin", note=_OWN_NOTE, expires=None)

        self._in_session(admit)

    def grant(self, role: Role, *, note: str, lifetime: timedelta | None) -> str:
        """A new key, which is told only here; `lifetime` None: until it is revoked."""
        if role not in get_args(Role):
            raise ValueError(f"{role!r} is no role; there are {', '.join(get_args(Role))}.")
        if note == _OWN_NOTE:
            raise ValueError(f"a note other than {note!r}, please: that is how the data root's own key is known.")
        key = secrets.token_hex(36)
        expires = None if lifetime is None else datetime.now(UTC).replace(microsecond=0) + lifetime
        self._in_session(lambda db: _add(db, key, role=role, note=note, expires=expires))
        return key

    def granted(self) -> list[KeyInfo]:
        """Every key that was granted, oldest first, without the data root's own."""
        return [key for key in self._in_session(_infos) if key.note != _OWN_NOTE]

    def revoke(self, beginning: str) -> KeyInfo:
        """Delete the key that begins so; whoever has it is refused from the next request on."""
        found = [key for key in self.granted() if len(beginning) >= 4 and key.first_eight.startswith(beginning[:8])]
        if len(found) != 1:
            problem = "more than one key begins" if found else "no key begins"
            raise NoSuchKey(f"{problem} with {beginning[:8]!r} (four characters at least); see: lunchbox keys list")

        async def delete_it(db: Any) -> None:
            from sqlalchemy import delete
            from tiled.authn_database.orm import APIKey

            await db.execute(delete(APIKey).where(APIKey.first_eight == found[0].first_eight))

        self._in_session(delete_it)
        return found[0]

    async def _initialize(self, engine: Any) -> None:
        from tiled.alembic_utils import UninitializedDatabase, check_database, stamp_head
        from tiled.authn_database.alembic_constants import ALEMBIC_DIR, ALEMBIC_INI_TEMPLATE_PATH
        from tiled.authn_database.core import ALL_REVISIONS, REQUIRED_REVISION, initialize_database

        try:
            await check_database(engine, REQUIRED_REVISION, ALL_REVISIONS)
        except UninitializedDatabase:
            await initialize_database(engine)
            uri = engine.url.render_as_string(hide_password=False)
            await asyncio.to_thread(stamp_head, ALEMBIC_INI_TEMPLATE_PATH, ALEMBIC_DIR, uri)

    def _in_session(self, action: Callable[[Any], Awaitable[_T]]) -> _T:
        """What `action` makes of a session, committed."""
        from sqlalchemy.ext.asyncio import AsyncSession

        async def in_session(engine: Any) -> _T:
            async with AsyncSession(engine, expire_on_commit=False) as db:
                result = await action(db)
                await db.commit()
            return result

        return self._run(in_session)

    def _run(self, action: Callable[[Any], Awaitable[_T]]) -> _T:
        from sqlalchemy.ext.asyncio import create_async_engine
        from tiled.utils import ensure_specified_sql_driver

        async def run() -> _T:
            engine = create_async_engine(ensure_specified_sql_driver(self.uri))
            try:
                return await action(engine)
            finally:
                await engine.dispose()

        return asyncio.run(run())


async def _add(db: Any, key: str, *, role: str, note: str, expires: datetime | None) -> None:
    from tiled.authn_database.orm import APIKey

    secret = bytes.fromhex(key)
    db.add(
        APIKey(
            principal_id=(await _principal(db, role)).id,
            expiration_time=expires,
            note=note,
            scopes=["inherit"],  # what the role may do, also when that is changed later
            first_eight=key[:8],
            hashed_secret=hashlib.sha256(secret).digest(),
        )
    )


async def _principal(db: Any, role: str) -> Any:
    """The one service that all keys of a role belong to."""
    from sqlalchemy import select
    from tiled.authn_database.core import create_service
    from tiled.authn_database.orm import Principal, Role

    known = (await db.execute(select(Role).filter(Role.name == role))).scalar()
    if role in SCOPES:
        if known is None:
            known = Role(name=role, description=f"A {role} of LunchBox", scopes=SCOPES[role])
            db.add(known)
            await db.flush()
        known.scopes = SCOPES[role]
    found = (await db.execute(select(Principal).join(Principal.roles).filter(Role.name == role))).unique().scalars()
    return next((principal for principal in found if principal.type == "service"), None) or await create_service(
        db, role
    )


async def _infos(db: Any) -> list[KeyInfo]:
    from sqlalchemy import select
    from tiled.authn_database.orm import APIKey

    keys = (await db.execute(select(APIKey).order_by(APIKey.time_created))).unique().scalars()
    return [
        KeyInfo(
            first_eight=key.first_eight,
            role=", ".join(role.name for role in key.principal.roles),
            note=key.note or "",
            created=_utc(key.time_created),
            expires=key.expiration_time and _utc(key.expiration_time),
            last_used=key.latest_activity and _utc(key.latest_activity),
        )
        for key in keys
    ]


def _utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)  # SQLite keeps no zone


def without_password(uri: str) -> str:
    """`uri` as it may be shown."""
    from sqlalchemy.engine import make_url

    return make_url(uri).render_as_string(hide_password=True)
