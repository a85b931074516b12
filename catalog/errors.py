"""Every error that LunchBox raises on purpose has this root, and a builtin beside it.

::

    LunchBoxError
    |-- ConfigurationError     (ValueError)    config: a file, a key or a value is wrong
    |-- MetadataError          (ValueError)    acquisition: start metadata refused before anything moves
    |-- IOCUnreachable         (ConnectionError)  acquisition: PVs that do not answer, each by name
    |-- AddressError           (OSError)       acquisition: the IOC cannot serve on the address that it was given
    |   `-- IOCRunning                         its port is taken
    |-- ServoError             (RuntimeError)  acquisition: the servo did not arrive where it was sent
    |-- LaserError             (RuntimeError)  acquisition: the laser is disarmed, or does not do as it was told
    |-- LaserDisarmed          (PermissionError)  acquisition: the IOC's answer to light that nobody armed
    |-- CameraError            (RuntimeError)  acquisition: no camera, or no frame in time
    |-- LinkError              (ConnectionError)  acquisition: the serial link to the Pico
    |-- ContractError          (RuntimeError)  acquisition: declared, written and read back differ
    |-- NobodyToAsk            (RuntimeError)  acquisition: a plan needs hands, and nobody is at a terminal
    |-- CompressionUnavailable (ImportError)   acquisition: the configured compression is not installed
    |-- DataRootError          (OSError)       the data root cannot be written, or is full
    |-- DataNotAccessible      (OSError)       catalog: a file that documents name cannot be reached
    |-- NotRecorded            (KeyError)      catalog: no journal is of the run that was asked for
    |-- ExportExists           (FileExistsError)  catalog: an export would overwrite a file
    |-- BadPack                (ValueError)    catalog: an archive that was altered or is not safe
    |-- CannotRelocate         (ValueError)    catalog: a folder of frames that cannot move
    |-- FrameIntegrityError    (OSError)       catalog: a file is there and its content cannot be trusted
    |-- JournalError           (ValueError)    catalog: a line of a journal is not a document
    |-- BadDocument            (ValueError)    catalog: a document that cannot be part of its run
    |-- IngestBusy             (RuntimeError)  catalog: another process ingests
    |-- RebuildBusy            (RuntimeError)  catalog: another process rebuilds or fills the catalogue
    |-- BulkRefused            (RuntimeError)  catalog: not the Tiled whose tables are known; a server does it
    |-- Unplannable            (NotImplementedError)  catalog: a run that only a server can take in
    |-- PortTaken              (OSError)       catalog: the server's address is used by another program
    |-- CatalogUnavailable     (ConnectionError)  catalog: no server, or it refuses the key
    |-- NoSuchKey              (KeyError)      catalog: no key of the server begins so, or more than one does
    |-- RunNotFound            (KeyError)      catalog: no run matches
    `-- AnalysisError          (ValueError)    analysis: no number can be had from these frames
        |-- BadScan                            frames, angles or a lens that cannot be analysed
        |-- NoSpots                            nothing found that looks like a diffraction spot
        |-- NoOrders                           spots found, and no assignment of orders explains them
        |-- NoTarget                           the calibration target was not found
        |-- NoLens                             views of the chessboard do not determine the lens
        `-- NotIdentifiable                    the data do not determine the period

A message says what, where and the remedy, in one line where one line does.
"""

from __future__ import annotations


class LunchBoxError(Exception):
    """The root: catch this to catch all that LunchBox raises on purpose."""

    def __str__(self) -> str:
        # KeyError would print the message's repr.
        return " ".join(str(arg) for arg in self.args)


class DataRootError(LunchBoxError, OSError):
    """The data root cannot be written, or is full."""


class FrameIntegrityError(LunchBoxError, OSError):
    """A frame file is there, and its content cannot be trusted."""
