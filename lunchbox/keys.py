"""Commands about who may use the server: `keys create`, `keys list`, `keys revoke`."""

from __future__ import annotations

import re
from dataclasses import asdict
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from lunchbox.console import Config, DataRoot, Json, app, print_json, print_table, say, settings_of

if TYPE_CHECKING:
    from catalog.keys import KeyInfo, KeyStore
    from config import LunchBoxSettings

keys = typer.Typer(
    help="Keys of the server: who may read, write, or administer. Each has a role, and an end.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(keys, name="keys")


class Role(StrEnum):
    """As `catalog.keys.Role`, which costs an import."""

    reader = "reader"
    writer = "writer"
    admin = "admin"


_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def lifetime_of(text: str) -> timedelta | None:
    """`30d`, `12h`, `never`."""
    if text == "never":
        return None
    found = re.fullmatch(r"([1-9]\d{0,4})([mhdw])", text)
    if found is None:
        raise typer.BadParameter(f"{text!r} is no lifetime; write 90m, 12h, 30d, 8w or never", param_hint="--expires")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


@keys.command(epilog='Examples: lunchbox keys create "Ada, laptop";  lunchbox keys create ingest --role writer')
def create(
    note: Annotated[str, typer.Argument(help="Whose key it is, and what for.")],
    role: Annotated[Role, typer.Option(help="A writer also writes and deletes; an admin also grants keys.")] = (
        Role.reader
    ),
    expires: Annotated[str, typer.Option(metavar="TIME", help="90m, 12h, 30d, 8w, or never.")] = "365d",
    config: Config = None,
    data_root: DataRoot = None,
    json_: Json = False,
) -> None:
    """Grant a key, and print it, this once.

    The server need not run, and need not be started again.
    """
    lifetime = lifetime_of(expires)
    key = _store(settings_of(config, data_root)).grant(role.value, note=note, lifetime=lifetime)
    if json_:
        return print_json({"key": key, "first_eight": key[:8], "role": role.value, "note": note})
    typer.echo(key)
    say(f"a {role.value}'s key, which is kept nowhere: note it now. lunchbox keys revoke {key[:8]} ends it.")


@keys.command("list", epilog="Example: lunchbox keys list")
def list_(config: Config = None, data_root: DataRoot = None, json_: Json = False) -> None:
    """List the keys that were granted, without the keys themselves."""
    found = _store(settings_of(config, data_root)).granted()
    if json_:
        return print_json({"keys": [asdict(key) for key in found]})
    if not found:
        return typer.echo("no keys were granted: `lunchbox keys create` makes one")
    print_table([_row(key) for key in found])


@keys.command(epilog="Example: lunchbox keys revoke 4f1c02aa")
def revoke(
    beginning: Annotated[str, typer.Argument(help="First characters of the key, as the list shows them.")],
    config: Config = None,
    data_root: DataRoot = None,
    json_: Json = False,
) -> None:
    """End a key; a running server refuses it a second later."""
    key = _store(settings_of(config, data_root)).revoke(beginning)
    if json_:
        return print_json({"revoked": key.first_eight})
    typer.echo(f"revoked: {key.first_eight}, {key.role}, {key.note}")


def _store(settings: LunchBoxSettings) -> KeyStore:
    from catalog.store import CatalogStore

    store = CatalogStore.of(settings)
    store.create()
    return store.keys


def _row(key: KeyInfo) -> dict[str, str]:
    def shown(moment: datetime | None) -> str:
        return "never" if moment is None else moment.astimezone().strftime("%Y-%m-%d %H:%M")

    expires = f"{shown(key.expires)} (expired)" if key.is_expired else shown(key.expires)
    return {
        "key": f"{key.first_eight}...",
        "role": key.role,
        "note": key.note,
        "created": shown(key.created),
        "expires": expires,
        "last used": shown(key.last_used),
    }
