"""How resources and datums become a data source of Tiled: the writing side of `adapter`.

`RunNormalizer` turns a datum into a stream datum and numbers its row by the frame. `FrameNormalizer` keeps both: the
frame in the file (`indices`) and the event (`seq_nums`), so that row i is event i even when a frame was taken that no
event names, or one frame is named by two.
"""

from __future__ import annotations

import pickle
from typing import Any, ClassVar

from bluesky_tiled_plugins.writing.consolidators import CONSOLIDATOR_REGISTRY, ConsolidatorBase
from bluesky_tiled_plugins.writing.tiled_writer import MIMETYPE_LOOKUP, RunNormalizer

from catalog.handlers import known_specs
from catalog.layout import MIMETYPE

_NOT_FOR_HANDLER = {"spec", "_resource_spec"}


class _Datums(dict[str, Any]):
    """Datums of a run by their id: small, as a run may have very many, and kept, as an event may name any again."""

    def __setitem__(self, datum_id: str, datum: dict[str, Any]) -> None:
        super().__setitem__(datum_id, pickle.dumps(datum))

    def pop(self, datum_id: str, default: Any = None) -> Any:
        """The datum, which stays: RunNormalizer would forget it at its first event."""
        return pickle.loads(self[datum_id]) if datum_id in self else default


class FrameNormalizer(RunNormalizer):
    """RunNormalizer whose stream datums name the frame and the event that a datum is about."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._datum_cache = _Datums()
        #: The part of TiledWriter that keeps what was collected, and writes it.
        self.run_writer: Any = None

    def subscribe(self, func: Any, name: Any = "all") -> Any:
        self.run_writer = func
        return super().subscribe(func, name)

    def _convert_datum_to_stream_datum(
        self, datum_doc: Any, data_key: str, desc_uid: str, seq_num: int
    ) -> tuple[Any, Any]:
        frame = datum_doc["datum_kwargs"].get("frame")
        resource, stream_datum = super()._convert_datum_to_stream_datum(datum_doc, data_key, desc_uid, seq_num)
        if frame is not None:
            stream_datum["indices"] = {"start": frame, "stop": frame + 1}
            stream_datum["seq_nums"] = {"start": seq_num, "stop": seq_num + 1}
        return resource, stream_datum


class FrameConsolidator(ConsolidatorBase):
    """Rows of a data key, over as many files as its stream has (a device is staged again: a file more)."""

    supported_mimetypes: ClassVar[set[str]] = {MIMETYPE}

    def __init__(self, stream_resource: Any, descriptor: Any) -> None:
        super().__init__(stream_resource, descriptor)
        self._resources = {stream_resource["uid"]: 0}
        self._resource_kwargs = [_handler_kwargs(stream_resource)]
        self._segments: list[list[int]] = []

    def update_from_stream_resource(self, stream_resource: Any) -> None:
        index = len(self._resources)
        self._resources[stream_resource["uid"]] = index
        self._resource_kwargs.append(_handler_kwargs(stream_resource))
        self.assets.append(
            type(self.assets[0])(
                data_uri=stream_resource["uri"], is_directory=False, parameter=self.default_asset_role, num=index
            )
        )

    def consume_stream_datum(self, doc: Any) -> Any:
        resource = self._resources[doc["stream_resource"]]
        first, stop = doc["indices"]["start"], doc["indices"]["stop"]
        last = self._segments[-1] if self._segments else None
        if last and last[0] == resource and last[1] + last[2] == first:
            last[2] += stop - first
        else:
            self._segments.append([resource, first, stop - first])
        return super().consume_stream_datum(doc)

    def adapter_parameters(self) -> dict[str, Any]:
        return {
            "spec": self._sres_parameters["spec"],
            "resource_kwargs": self._resource_kwargs,
            "segments": self._segments,
        }


def _handler_kwargs(stream_resource: Any) -> dict[str, Any]:
    return {key: value for key, value in stream_resource["parameters"].items() if key not in _NOT_FOR_HANDLER}


def spec_to_mimetype() -> dict[str, str]:
    """Every spec that has a handler and that Tiled has no reader of its own for."""
    return {spec: MIMETYPE for spec in known_specs() if spec not in MIMETYPE_LOOKUP}


CONSOLIDATOR_REGISTRY[MIMETYPE] = FrameConsolidator
