"""event-model's JSON schemas, asked once for each form that a document has.

The schemas of events and datums say which keys there are and which type each value has, and nothing of the values
themselves; those of the other documents also say which words a string may be, and how long some lists are. So two
documents of one form are both right or both wrong, and most documents of a run have the form of one that was seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import event_model

#: Documents whose schemas do not look at values.
FREE = frozenset({"event", "datum"})
#: Top-level strings that name something, in any document; no schema looks at them.
_NAMES = frozenset({"uid", "run_start", "descriptor", "resource", "resource_path", "root", "datum_id", "reason"})
_PLAIN = frozenset({float, int, str, bool})
_LIMIT = 10_000

_right: set[Any] = set()


def validate(name: str, doc: Mapping[str, Any]) -> None:
    """As `event_model.schema_validators[name].validate(doc)`; raises jsonschema.ValidationError."""
    form = _form_of(name, doc)
    if form in _right:
        return
    event_model.schema_validators[event_model.DocumentNames[name]].validate(doc)
    if len(_right) >= _LIMIT:
        _right.clear()
    _right.add(form)


def _form_of(name: str, doc: Mapping[str, Any]) -> Any:
    if name in FREE:
        return name, *doc, *map(_type_form, doc.values())
    return name, *((key, str if key in _NAMES and type(value) is str else _form(value)) for key, value in doc.items())


def _form(value: Any) -> Any:
    """Keys, words, lengths and the types of all else."""
    kind = type(value)
    if issubclass(kind, str):
        return str, value
    if issubclass(kind, Mapping):
        return dict, *value, *map(_form, value.values())
    if issubclass(kind, list | tuple):
        return kind, *map(_form, value)
    return kind


def _type_form(value: Any) -> Any:
    """Keys and types."""
    kind = type(value)
    if kind in _PLAIN:
        return kind
    if issubclass(kind, Mapping):
        return dict, *value, *map(_type_form, value.values())
    if issubclass(kind, list | tuple):
        return kind, frozenset(map(_type_form, value))
    return kind
