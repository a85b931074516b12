"""Runs as a user asks for them, and what the user is told when there is none."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from documents import SHAPE, Run, frame, make_settings, write_run
from tiled.queries import Key

from catalog import open_catalog
from catalog.client import CatalogUnavailable, RunNotFound
from catalog.embedded import close_embedded
from catalog.errors import DataRootError
from catalog.handlers import FrameIntegrityError
from catalog.journal import Journal
from catalog.layout import FRAMES_DIR, JOURNAL_DIR
from catalog.paths import DataNotAccessible
from catalog.server import Server


class TestFindingRuns:
    def test_by_number_uid_beginning_and_scan_id(self, catalog: Any, served: Any) -> None:
        uid = served.uids[1]
        assert catalog[uid].start["uid"] == uid
        assert catalog[uid[:8]].start["uid"] == uid
        assert catalog[catalog[uid].start["scan_id"]].start["uid"] == uid
        assert [run.start["uid"] for run in catalog[served.uids[:2]]] == served.uids[:2]

    def test_the_last_is_a_scan_and_the_fits_are_beside(self, catalog: Any, served: Any) -> None:
        assert "raw_run_uid" not in catalog[-1].start
        assert list(catalog)[:3] == served.uids
        assert list(catalog.keys()[:3]) == served.uids
        assert [run.start["uid"] for run in catalog.values()[:2]] == served.uids[:2]
        assert len(catalog) == len(list(catalog))
        assert list(catalog.processed) == list(catalog["processed"]) == [served.fit]
        assert list(catalog.fits(served.uids[1])) == list(catalog.fits(catalog[served.uids[1]])) == [served.fit]
        assert list(catalog.fits(served.uids[0])) == []

    def test_by_search(self, catalog: Any, served: Any) -> None:
        found = catalog.search(Key("scan_id") == 2)
        assert list(found) == [served.uids[1]]
        assert found[-1].start["uid"] == served.uids[1]
        assert len(catalog.search(Key("plan_name") == "nonsense")) == 0

    @pytest.mark.parametrize(
        ("key", "message"),
        [
            ("00000000", "no run has a uid that begins with '00000000'. Nearest: "),
            ("0" * 36, "Nearest: "),
            (123456, "no run has scan_id 123456. Nearest: "),
            (-100000, r"run -100000 was asked for; the catalogue has \d+ runs"),
        ],
    )
    def test_an_unknown_run_is_told_with_the_nearest(self, catalog: Any, key: Any, message: str) -> None:
        with pytest.raises(RunNotFound, match=message) as caught:
            catalog[key]
        assert isinstance(caught.value, KeyError)

    def test_v2_and_v1_of_databroker_do_not_leak(self, catalog: Any) -> None:
        assert type(catalog.v2[-1]).__name__ == "BlueskyRunV2SQL"
        assert type(catalog[-1]).__name__ == "Run"


class TestReading:
    def test_data_have_units_and_datetimes(self, catalog: Any, served: Any) -> None:
        data = catalog[served.uids[1]].primary.read()
        assert data["lunchbox_servo"].attrs["units"] == "deg"
        assert data["lunchbox_image"].attrs["units"] == "counts"
        assert data["lunchbox_image"].dims == ("time", "y", "x", "channel")
        assert data["lunchbox_image"].dtype == np.uint8
        np.testing.assert_array_equal(data["lunchbox_image"], [frame(10, index) for index in range(5)])
        np.testing.assert_array_equal(data["lunchbox_background"], [frame(11, index) for index in range(5)])
        assert data["time"].attrs["units"] == "s"
        epoch = data["datetime"].values.astype("datetime64[us]").astype(float) / 1e6
        np.testing.assert_allclose(epoch, data["time"], atol=1e-6)
        assert abs(data["time"].values[0] - time.time()) < 3600

    def test_some_variables_only(self, catalog: Any) -> None:
        data = catalog[-1].primary.read(["lunchbox_servo"])
        assert set(data) == {"lunchbox_servo"}

    def test_one_frame_a_slice_and_a_block(self, catalog: Any, served: Any) -> None:
        images = catalog[served.uids[0]].primary["lunchbox_image"]
        assert images.shape == (5, *SHAPE)
        np.testing.assert_array_equal(images[2], frame(0, 2))
        np.testing.assert_array_equal(images[1:3, 4:6, :, 0], [frame(0, i)[4:6, :, 0] for i in (1, 2)])
        np.testing.assert_array_equal(images.read_block((3, 0, 0, 0)), [frame(0, 3)])
        np.testing.assert_array_equal(images.read(), [frame(0, i) for i in range(5)])

    def test_one_column_of_a_table(self, catalog: Any, served: Any) -> None:
        column = catalog[served.uids[0]].primary["lunchbox_servo"]
        assert column.read().tolist() == column[:].tolist() == [0, 1, 2, 3, 4]

    def test_matrices_have_an_axis_each(self, catalog: Any, served: Any) -> None:
        fit = catalog.processed[served.fit]["fit"].read()
        assert fit["covariance"].dims == ("time", "covariance_dim1", "covariance_dim2")
        np.testing.assert_array_equal(fit["covariance"].values, [np.eye(7)])

    def test_a_local_read_asks_the_server_for_no_pixel(self, catalog: Any, served: Any) -> None:
        asked = []
        catalog.context.http_client.event_hooks["request"].append(lambda request: asked.append(request.url.path))
        catalog[served.uids[0]].primary.read()
        assert asked
        assert not [path for path in asked if "/array/" in path]


class TestRunInProgress:
    @pytest.fixture
    def run(self, served: Any) -> Iterator[Run]:
        run = Run(Journal(served.data_root / JOURNAL_DIR), served.data_root / FRAMES_DIR, seed=70)
        run.begin()
        yield run
        run.end()

    def wait_for(self, condition: Any) -> Any:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                if (result := condition()) is not None:
                    return result
            except KeyError:
                pass
            time.sleep(0.05)
        raise TimeoutError(condition)

    def test_it_is_readable_as_far_as_it_got(self, catalog: Any, run: Run) -> None:
        live = self.wait_for(lambda: catalog[run.uid])
        assert live.stop is None
        assert live.in_progress
        with pytest.raises(AttributeError, match=r"has no stream 'baseline'; it is in progress"):
            _ = live.baseline
        stream = self.wait_for(lambda: live["primary"])
        assert dict(stream.read().sizes) in ({}, {"time": 0})
        with pytest.raises(KeyError, match="no event of 'primary' was recorded"):
            _ = stream["lunchbox_image"]
        run.point()
        run.point()
        data = self.wait_for(lambda: (lambda d: d if d.sizes.get("time") == 2 else None)(live.primary.read()))
        np.testing.assert_array_equal(data["lunchbox_image"], [frame(70, 0), frame(70, 1)])
        with pytest.raises(RunNotFound, match=r"not complete in the catalogue after 0.2 s"):
            catalog.wait_for(run.uid, timeout=0.2)


class TestFilesThatAreNotThere:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Iterator[Any]:
        """A data root of its own, opened embedded."""
        uid = write_run(tmp_path, points=3, seed=5)
        settings = make_settings(tmp_path)
        catalog = open_catalog(settings=settings)
        yield SimpleNamespace(
            uid=uid, settings=settings, catalog=catalog, file=next((tmp_path / FRAMES_DIR).rglob("*.h5"))
        )
        catalog.close()
        close_embedded()

    def test_each_is_an_error_that_names_run_file_and_remedy(self, root: Any, tmp_path: Path) -> None:
        named = rf"run {root.uid[:8]}: .*{root.file.name}"
        run = root.catalog[root.uid]
        whole = root.file.read_bytes()

        root.file.write_bytes(whole[: len(whole) - 2000])
        with pytest.raises(FrameIntegrityError, match=rf"{named}.*(truncated|damaged)"):
            run.primary.read()
        np.testing.assert_array_equal(run.primary["lunchbox_image"][0], frame(5, 0))

        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        root.file.write_bytes(whole)
        (tmp_path / FRAMES_DIR).rename(elsewhere / FRAMES_DIR)
        with pytest.raises(DataNotAccessible, match=rf"{named} is missing.*root_map"):
            run.primary.read()

        # Over HTTP, the server's reason arrives as the same exception, at once.
        server = root.catalog.context
        strangers = make_settings(tmp_path / "stranger")
        uri = f"{server.api_uri}".split("/api/")[0]
        remote = open_catalog(uri, settings=strangers, api_key=_key(tmp_path))
        began = time.monotonic()
        with pytest.raises(DataNotAccessible, match=rf"{named} is missing"):
            remote[root.uid].primary["lunchbox_image"].read()
        assert time.monotonic() - began < 5
        remote.close()

        # One line in the root map restores all, local and over HTTP.
        settings = make_settings(tmp_path)
        settings.root_map = {str(tmp_path / FRAMES_DIR): str(elsewhere / FRAMES_DIR)}
        with Server(settings) as moved:
            for reader in (settings, strangers):
                catalog = open_catalog(moved.uri, settings=reader, api_key=moved.api_key)
                np.testing.assert_array_equal(catalog[root.uid].primary["lunchbox_image"][1], frame(5, 1))
                catalog.close()


def _key(data_root: Path) -> str:
    return (data_root / "catalog" / "api_key").read_text()


class TestOtherMachines:
    def test_a_reader_without_the_files_reads_over_http_and_says_so(
        self, served: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        settings = make_settings(tmp_path)
        remote = open_catalog(served.server.uri, settings=settings, api_key=served.server.api_key)
        with caplog.at_level(logging.WARNING, logger="catalog.streams"):
            images = remote[served.uids[0]].primary["lunchbox_image"]
            np.testing.assert_array_equal(images.read(), [frame(0, index) for index in range(5)])
        assert "are read over HTTP" in caplog.text
        assert served.server.api_key not in caplog.text
        remote.close()


class TestUnavailable:
    def test_no_server(self, served: Any) -> None:
        with pytest.raises(CatalogUnavailable, match=r"no Tiled server answers at http://127.0.0.1:9 .*lunchbox serve"):
            open_catalog("http://127.0.0.1:9", settings=served.settings)

    def test_a_data_root_that_cannot_be_written(self, tmp_path: Path) -> None:
        blocked = tmp_path / "file"
        blocked.write_text("not a folder")
        with pytest.raises(DataRootError, match=r"cannot hold the catalogue: .*data_root in config/lunchbox.yml"):
            open_catalog(settings=make_settings(blocked))

    @pytest.mark.parametrize("key", [None, "0" * 64])
    def test_a_wrong_key_or_none_is_told_with_the_remedy(
        self, served: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str | None
    ) -> None:
        monkeypatch.delenv("TILED_API_KEY", raising=False)
        with pytest.raises(CatalogUnavailable, match=r"refuses the key \(401\)\. .*TILED_API_KEY"):
            open_catalog(served.server.uri, settings=make_settings(tmp_path), api_key=key)

    def test_the_environments_key_is_honoured(
        self, served: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TILED_API_KEY", served.server.api_key)
        catalog = open_catalog(served.server.uri, settings=make_settings(tmp_path))
        assert served.uids[0] in catalog
        catalog.close()


EMBEDDED = """
import sys
sys.path[:0] = {path!r}
from documents import make_settings, write_run
from pathlib import Path
from catalog import open_catalog
root = Path(sys.argv[1])
catalog = open_catalog(settings=make_settings(root))
print(catalog[sys.argv[2]].primary.read().lunchbox_image.shape)
uid = write_run(root, points=2)
print(catalog.wait_for(uid).stop["exit_status"])
"""


def test_a_data_root_that_was_renamed_is_catalogued_again_where_it_is(data_root: Path) -> None:
    uid = write_run(data_root, points=2)
    catalog = open_catalog(settings=make_settings(data_root))
    before = catalog[uid].primary.read()
    catalog.close()
    close_embedded()
    moved = data_root.rename(data_root.with_name("moved"))
    settings = make_settings(moved)
    # The documents still name the old folder: one line of the root map says where its frames are now.
    settings.root_map = {str(data_root / FRAMES_DIR): str(moved / FRAMES_DIR)}
    catalog = open_catalog(settings=settings)
    after = catalog[uid].primary.read()
    assert before.equals(after)
    catalog.close()
    close_embedded()


def test_a_link_to_the_data_root_opens_the_same_catalogue(data_root: Path) -> None:
    uid = write_run(data_root, points=2)
    link = data_root.with_name("link")
    link.symlink_to(data_root)
    for way in (data_root, link):
        catalog = open_catalog(settings=make_settings(way))
        assert catalog[uid].primary.read().lunchbox_image.shape[0] == 2
        catalog.close()
        close_embedded()
    assert not (data_root / "catalog" / "moved").exists()


@pytest.mark.parametrize("length", [1, 4, 8])
def test_as_much_of_a_uid_as_tells_one_run_is_enough(data_root: Path, length: int) -> None:
    uid = write_run(data_root, points=1)
    catalog = open_catalog(settings=make_settings(data_root))
    assert catalog[uid[:length]].start["uid"] == uid
    with pytest.raises(RunNotFound, match="begins with '%'"):
        catalog["%"]
    catalog.close()
    close_embedded()


def test_two_processes_open_one_catalogue_and_end_without_a_word(data_root: Path) -> None:
    uid = write_run(data_root, points=4)
    program = EMBEDDED.format(path=sys.path)
    command = [sys.executable, "-W", "error::ResourceWarning", "-c", program, str(data_root), uid]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for out, err in [process.communicate(timeout=90) for process in processes]:
        assert err == ""
        assert out.splitlines()[-1] == "success"
    assert [process.returncode for process in processes] == [0, 0]
    catalog = open_catalog(settings=make_settings(data_root))
    assert len(catalog) == 3
    catalog.close()
    close_embedded()


def test_runs_are_found_by_an_index_and_not_by_looking_at_each(served: Any) -> None:
    from catalog.indexes import run_of_scan_id, runs_between

    queries = {
        run_of_scan_id("sqlite"): ({"parent": 0, "scan_id": 1}, "lunchbox_scan_id"),
        runs_between("sqlite"): ({"parent": 0, "first": "0", "last": "1", "limit": 1}, "lunchbox_uid"),
    }
    with contextlib.closing(sqlite3.connect(served.server.store.database)) as connection:
        for query, (parameters, index) in queries.items():
            plan = "".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}", parameters))
            assert f"SEARCH nodes USING INDEX {index}" in plan or f"COVERING INDEX {index}" in plan, plan


def test_lookups_ask_the_index_and_a_search_result_is_searched(catalog: Any, served: Any) -> None:
    asked: list[str] = []
    catalog.context.http_client.event_hooks["request"].append(lambda request: asked.append(request.url.path))
    uid = served.uids[1]
    assert catalog[uid[:6]].start["uid"] == catalog[2].start["uid"] == uid
    assert "/api/v1/search/" not in asked
    assert asked.count("/custom/runs/") == 2
    assert catalog.processed[served.fit[:6]].start["uid"] == served.fit
    assert asked.count("/custom/runs/processed") == 1
    found = catalog.search(Key("scan_id") == 2)
    assert found[uid[:6]].start["uid"] == uid
    with pytest.raises(RunNotFound):
        found[1]


def test_the_newest_run_of_a_scan_id_is_found(data_root: Path) -> None:
    write_run(data_root, points=0, scan_id=7)
    uid = write_run(data_root, points=0, scan_id=7)
    catalog = open_catalog(settings=make_settings(data_root))
    assert catalog[7].start["uid"] == uid
    catalog.close()
    close_embedded()


@pytest.mark.parametrize("path", ["runs/?scan_id=1", "runs/?beginning=0", "states/", "states/processed"])
def test_the_index_tells_nothing_without_a_key(served: Any, path: str) -> None:
    import httpx

    for headers in ({}, {"Authorization": f"Apikey {'0' * 64}"}):
        assert httpx.get(f"{served.server.uri}/custom/{path}", headers=headers).status_code == 401


def test_which_runs_are_whole_is_told_page_by_page_and_as_a_search_tells_it(catalog: Any, served: Any) -> None:
    from catalog.contents import runs_by_search, runs_in

    for container in (catalog, catalog.processed):
        assert list(runs_in(container)) == list(runs_by_search(container))
    http = catalog.context.http_client
    told, after = [], -1
    while after is not None:
        page = http.get(f"{served.server.uri}/custom/states/", params={"after": after, "limit": 2}).json()
        told += [tuple(run) for run in page["runs"]]
        after = page["next"]
    assert told[:3] == [(uid, "success") for uid in served.uids]
