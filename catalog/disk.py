"""Writing so that it is there after a loss of power, and saying why when it cannot be."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from catalog.errors import DataRootError


def cannot_write(path: Path, error: OSError) -> DataRootError:
    """The error of a file that cannot be written, with the free bytes and the remedy."""
    place = next((folder for folder in (path, *path.parents) if folder.exists()), Path("/"))
    free = shutil.disk_usage(place).free
    return DataRootError(
        f"{path} cannot be written: {error.strerror}; {free / 1e6:.1f} MB are free there. "
        f"Free some space, or give data_root in config/lunchbox.yml a folder that this user may write."
    )


class Reserve:
    """A file that is given up when the disk is full, so that what closes a run can still be written."""

    SIZE = 1 << 16

    def __init__(self, path: Path) -> None:
        self.path = path

    def keep(self) -> None:
        """Have it. Raises `DataRootError` when there is no room: then there is none for a run either."""
        try:
            if self.path.exists() and self.path.stat().st_size == self.SIZE:
                return
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Written, not a hole: a hole takes no room.
            self.path.write_bytes(bytes(self.SIZE))
        except OSError as error:
            self.give_up()
            raise cannot_write(self.path, error) from error

    def give_up(self) -> None:
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A new file beside `path`, to be filled: takes its place when the block ends, and is on the disk then.

    DataRootError if it cannot be written; after any error, `path` is what it was.
    """
    # A hidden name: who lists journals does not see it before it is whole.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        fsync_folder(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def fsync_folder(folder: Path) -> None:
    """Put the names in `folder` on the disk."""
    # A new file's name is in its folder; without this a loss of power can lose the name and keep the content.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
