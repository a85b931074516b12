"""Whether a journal's documents make a run: event-model's schemas, and what these leave open."""

from __future__ import annotations

from typing import Any

from jsonschema import ValidationError  # type: ignore[import-untyped]

from catalog.errors import LunchBoxError
from catalog.schemas import validate


class BadDocument(LunchBoxError, ValueError):
    """A document that cannot be part of the run that its journal tells of."""


class RunValidator:
    """Checks the documents of one run in the order of the journal.

    ``accepts(name, doc)`` is False for a document that was delivered before, and raises BadDocument for one that is
    wrong or comes before what it refers to. `uid`, where it is known, is the run that the documents must be of.
    """

    def __init__(self, uid: str | None = None) -> None:
        self._expected = uid
        self._run: str | None = None
        #: Whether the run's stop document was accepted.
        self.stopped = False
        # Of a document only a hash: a run may have very many.
        self._seen: dict[str, int] = {}
        #: By uid: the stream, and of each data key whether it is external, and its dtype.
        self._descriptors: dict[str, tuple[str, dict[str, tuple[bool, str]]]] = {}
        self._resources: set[str] = set()
        self._seq_nums: dict[str, int] = {}

    def accepts(self, name: str, doc: dict[str, Any]) -> bool:
        try:
            validate(name, doc)
        except ValidationError as error:
            raise BadDocument(f"{name} {_identity(doc)}: {error.message}.") from error
        identity = f"{name} {_identity(doc)}"
        digest = hash(repr(doc))
        if identity in self._seen:
            if self._seen[identity] == digest:
                return False
            raise BadDocument(f"{identity} comes twice, with different contents.")
        if (self._run is None) != (name == "start"):
            raise BadDocument(f"{identity}: a run begins with its one start document.")
        if self.stopped:
            raise BadDocument(f"{identity} comes after the run's stop.")
        getattr(self, f"_{name}", self._any)(doc, identity)
        self._seen[identity] = digest
        return True

    def _any(self, doc: dict[str, Any], identity: str) -> None:
        pass

    def _start(self, doc: dict[str, Any], identity: str) -> None:
        if self._expected not in {None, doc["uid"]}:
            raise BadDocument(f"start {doc['uid']} is of another run than the journal's name tells.")
        self._run = doc["uid"]

    def _stop(self, doc: dict[str, Any], identity: str) -> None:
        self._of_this_run(doc, identity)
        self.stopped = True

    def _descriptor(self, doc: dict[str, Any], identity: str) -> None:
        self._of_this_run(doc, identity)
        if "/" in doc["name"] or doc["name"] in {"", ".", ".."}:
            raise BadDocument(f"{identity}: {doc['name']!r} cannot be the name of a stream.")
        keys = {key: ("external" in described, described["dtype"]) for key, described in doc["data_keys"].items()}
        self._descriptors[doc["uid"]] = doc["name"], keys

    def _resource(self, doc: dict[str, Any], identity: str) -> None:
        self._of_this_run(doc, identity)
        if ".." in doc["resource_path"].split("/") or "\0" in doc["resource_path"] + doc["root"]:
            raise BadDocument(f"{identity}: resource_path {doc['resource_path']!r} leaves its root.")
        self._resources.add(doc["uid"])

    def _datum(self, doc: dict[str, Any], identity: str) -> None:
        if doc["resource"] not in self._resources:
            raise BadDocument(f"{identity} is about resource {doc['resource']}, which was not announced.")

    def _event(self, doc: dict[str, Any], identity: str) -> None:
        if doc["descriptor"] not in self._descriptors:
            raise BadDocument(f"{identity} is described by {doc['descriptor']}, which was not announced.")
        stream, keys = self._descriptors[doc["descriptor"]]
        if doc["data"].keys() != keys.keys():
            wrong = sorted(doc["data"].keys() ^ keys.keys())
            raise BadDocument(f"{identity}: its data and its descriptor differ in {', '.join(wrong)}.")
        filled = doc.get("filled", {})
        for key, value in doc["data"].items():
            external, dtype = keys[key]
            if external and not filled.get(key, False):
                if f"datum {value}" not in self._seen:
                    raise BadDocument(f"{identity}: {key!r} names datum {value!r}, which was not announced.")
            elif dtype in {"number", "integer"} and isinstance(value, str | list | dict):
                raise BadDocument(f"{identity}: {key!r} is {value!r}, its descriptor says {dtype}.")
        last = self._seq_nums.get(stream, 0)
        # A plan that was paused goes back to its checkpoint and counts from there again.
        if not 1 <= doc["seq_num"] <= last + 1:
            raise BadDocument(f"{identity}: its seq_num is {doc['seq_num']} after {last} in {stream!r}.")
        self._seq_nums[stream] = doc["seq_num"]

    def _of_this_run(self, doc: dict[str, Any], identity: str) -> None:
        if doc.get("run_start", self._run) != self._run:
            raise BadDocument(f"{identity} is about run {doc['run_start']}, not {self._run}.")


def _identity(doc: dict[str, Any]) -> str:
    return str(doc.get("uid") or doc.get("datum_id") or "without uid")
