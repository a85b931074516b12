"""No path that a document can hold leads out of the folders that frames are read from."""

from __future__ import annotations

from pathlib import Path

import pytest
from documents import make_settings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog.paths import DataNotAccessible, FrameRoots


@pytest.fixture
def roots(tmp_path: Path) -> FrameRoots:
    frames = tmp_path / "data" / "frames"
    (frames / "2026").mkdir(parents=True)
    (frames / "2026" / "a b.h5").write_text("frames")
    (tmp_path / "secret.h5").write_text("secret")
    (frames / "link.h5").symlink_to(tmp_path / "secret.h5")
    (frames / "inside.h5").symlink_to(frames / "2026" / "a b.h5")
    (frames / "loop.h5").symlink_to(frames / "loop.h5")
    (frames / "out").symlink_to(tmp_path)
    return FrameRoots.from_settings(make_settings(tmp_path / "data"))


def test_a_file_in_the_root_is_found_by_resource_and_by_uri(roots: FrameRoots) -> None:
    (root,) = roots.allowed
    file = root / "2026" / "a b.h5"
    assert roots.resolve(str(root), "2026/a b.h5") == file
    assert roots.resolve_uri(f"file://localhost{root}/2026/a%20b.h5") == file
    assert roots.resolve_uri(file.as_uri()) == file
    assert roots.resolve(str(root), "inside.h5") == file


def test_a_leading_slash_does_not_drop_the_root(roots: FrameRoots) -> None:
    (root,) = roots.allowed
    assert roots.resolve(str(root), "/2026/a b.h5") == root / "2026" / "a b.h5"


@pytest.mark.parametrize(
    "resource_path",
    ["../../secret.h5", "2026/../../../secret.h5", "link.h5", "out/secret.h5", "loop.h5", "2026", "a\0b", "nothing.h5"],
)
def test_no_resource_leads_out(roots: FrameRoots, resource_path: str) -> None:
    (root,) = roots.allowed
    with pytest.raises(DataNotAccessible):
        roots.resolve(str(root), resource_path)
    with pytest.raises(DataNotAccessible):
        roots.resolve_uri(f"file://localhost{root}/{resource_path}")


@pytest.mark.parametrize(
    "uri",
    [
        "file://elsewhere/etc/passwd",
        "http://localhost/etc/passwd",
        "/etc/passwd",
        "file:///etc/passwd",
        "file://localhost{root}/%2e%2e/%2e%2e/secret.h5",
        "file://localhost{root}/..%2f..%2fsecret.h5",
        "file://localhost{root}/2026%00",
    ],
)
def test_no_uri_leads_out(roots: FrameRoots, uri: str) -> None:
    with pytest.raises(DataNotAccessible):
        roots.resolve_uri(uri.format(root=roots.allowed[0]))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
@given(parts=st.lists(st.sampled_from(["..", ".", "out", "link.h5", "2026", "secret.h5", "/", "%2e%2e", "", "data"])))
def test_whatever_is_combined_the_secret_stays(roots: FrameRoots, parts: list[str]) -> None:
    (root,) = roots.allowed
    for attempt in (
        lambda: roots.resolve(str(root), "/".join(parts)),
        lambda: roots.resolve_uri(f"file://localhost{root}/{'/'.join(parts)}"),
        lambda: roots.resolve("/", "/".join([str(root), *parts])),
    ):
        try:
            found = attempt()
        except DataNotAccessible:
            continue
        assert found.read_text() == "frames"


def test_a_moved_root_is_one_line_in_the_map(tmp_path: Path, roots: FrameRoots) -> None:
    (old,) = roots.allowed
    new = tmp_path / "disk2"
    old.rename(new)
    with pytest.raises(DataNotAccessible, match=rf"last folder .* {tmp_path}/data\. .*root_map: {{{old}: NEW}}"):
        roots.resolve(str(old), "2026/a b.h5")
    moved = FrameRoots(allowed=(old,), root_map={str(old): str(new)})
    assert moved.resolve(str(old), "2026/a b.h5") == new / "2026" / "a b.h5"
    assert moved.resolve_uri((old / "2026" / "a b.h5").as_uri()) == new / "2026" / "a b.h5"


def test_outside_is_told_with_the_folders_that_are_inside(tmp_path: Path, roots: FrameRoots) -> None:
    with pytest.raises(DataNotAccessible, match=rf"lies outside the folders .*{roots.allowed[0]}.*root_map"):
        roots.contained(tmp_path / "secret.h5")
