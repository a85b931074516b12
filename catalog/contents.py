"""What a catalogue holds, asked of its server: the runs, and the container of the analysis runs."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import parse_qs, urlparse

import httpx
from tiled.client.container import Container
from tiled.client.utils import ClientError, handle_error
from tiled.structures.core import Spec

from catalog.layout import PROCESSED

CATALOG_SPECS = [{"name": "CatalogOfBlueskyRuns", "version": "3.0"}]
PROCESSED_METADATA = {"description": "analysis runs"}

_PAGE = 300


def processed_container(root: Container) -> Container:
    """The catalogue of analysis runs below `root`, made if it is missing."""
    # A catalogue of runs takes a short key for the beginning of a uid, so ask as a plain container does.
    try:
        return Container.__getitem__(root, PROCESSED)
    except KeyError:
        pass
    try:
        # The first of all entries, so that the newest entry of the root is a scan.
        specs = [Spec(**spec) for spec in CATALOG_SPECS]
        root.create_container(PROCESSED, metadata=PROCESSED_METADATA, specs=specs)
    except ClientError as error:
        if error.response.status_code != httpx.codes.CONFLICT:  # another process was faster
            raise
    return Container.__getitem__(root, PROCESSED)


def delete_run(container: Container, uid: str) -> None:
    """Remove a run, and nothing that is not a run, whatever a journal's name says."""
    try:
        node = Container.__getitem__(container, uid)
    except KeyError:
        return
    if "BlueskyRun" in {spec.name for spec in node.specs}:
        container.delete_contents(uid, recursive=True, external_only=False)


def runs_in(container: Container) -> Iterator[tuple[str, str | None]]:
    """(uid, exit_status or None) of every run in a container."""
    http = container.context.http_client
    root, _, _ = str(container.context.api_uri).rstrip("/").partition("/api/")
    link = f"{root}/custom/states/{'/'.join(part for part in container.path_parts if part)}"
    after = -1
    while after is not None:
        response = http.get(link, params={"after": after})
        if response.status_code == httpx.codes.NOT_FOUND:  # not a server of ours
            yield from runs_by_search(container)
            return
        content = handle_error(response).json()
        yield from (tuple(run) for run in content["runs"])
        after = content["next"]


def runs_by_search(container: Container) -> Iterator[tuple[str, str | None]]:
    url: str | None = f"{container.item['links']['search']}?page[limit]={_PAGE}"
    selection = {"fields": "metadata", "select_metadata": "{uid: start.uid, exit_status: stop.exit_status}"}
    while url is not None:
        response = container.context.http_client.get(
            url, params={**parse_qs(urlparse(url).query), **selection}, headers={"Accept": "application/json"}
        )
        content = handle_error(response).json()
        for item in content["data"]:
            selected = item["attributes"]["metadata"]["selected"]
            if selected["uid"] is not None:
                yield item["id"], selected["exit_status"]
        url = content["links"]["next"]
