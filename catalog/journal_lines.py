"""A line of a journal: a document's name and the document, as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import event_model

from catalog.errors import LunchBoxError

#: Values of an event larger than this belong in a frame file.
MAX_VALUE_BYTES = 65536

_NAMES = frozenset(event_model.DocumentNames.__members__)


class JournalError(LunchBoxError, ValueError):
    """A document cannot be journalled, or a line of a journal is not a document."""


def encode(name: str, doc: Mapping[str, Any]) -> bytes:
    """The line of a document; JournalError if it holds what JSON cannot hold, or a frame."""
    if name not in _NAMES:
        raise JournalError(f"{name!r} is not the name of a document.")
    if name in {"event", "event_page"}:
        for key, value in doc["data"].items():
            if getattr(value, "nbytes", 0) > MAX_VALUE_BYTES:
                raise JournalError(
                    f"{name} {identity(doc)}: {key!r} holds {value.nbytes} bytes; frames belong in a frame file "
                    f"that a resource names, not in a document."
                )
    try:
        return json.dumps([name, doc], cls=event_model.NumpyEncoder, separators=(", ", ": ")).encode() + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise JournalError(f"{name} document {identity(doc)} cannot be written as JSON: {error}.") from error


def decode(line: bytes, *, where: str) -> tuple[str, dict[str, Any]]:
    """The document of a line; JournalError naming `where` if it is none."""
    try:
        pair = json.loads(line.decode())  # bytes would be looked at for their encoding, which is UTF-8
    except (ValueError, RecursionError) as error:
        raise JournalError(f"{where}: not JSON ({error}).") from error
    match pair:
        case [str(name), dict(doc)] if name in _NAMES:
            return name, doc
    raise JournalError(f'{where}: not a pair of a document\'s name and a document, like ["start", {{...}}].')


def identity(doc: Mapping[str, Any]) -> str:
    return str(doc.get("uid") or doc.get("datum_id") or "without uid")
