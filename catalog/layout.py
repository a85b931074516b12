"""Names and shapes that the writer of a frame file and its readers share.

::

    /entry                      NXentry      @default = "data"
        instrument              NXinstrument
            detector            NXdetector   data, background (n, y, x, channel) u1, counts
                                             timestamp, background_timestamp (n) f8, s since the epoch, mid-exposure
                                             background @taken: "each", or "first" (length 1), or "none" (length 0)
                                             count_time (n) f8, s
            servo               NXpositioner value (n) f8, degree: the readback at the exposure
            source              NXsource     wavelength, m
            grating             NXgrating    period, m (nominal)
        data                    NXdata       @signal = "image", @axes: soft links to the above

Pixel (0, 0) is the top left; y points down; channels are R, G, B.
"""

from __future__ import annotations

import time

SPEC = "LUNCHBOX_HDF5"
MIMETYPE = "application/x-lunchbox-hdf5"
#: A run's documents as they were emitted, one JSON object a line: {"name": ..., "doc": ...}.
DOCUMENTS_MIMETYPE = "application/x-lunchbox-documents"

ENTRY = "/entry"
DETECTOR = f"{ENTRY}/instrument/detector"
IMAGE = f"{DETECTOR}/data"
BACKGROUND = f"{DETECTOR}/background"
TIMESTAMP = f"{DETECTOR}/timestamp"
BACKGROUND_TIMESTAMP = f"{DETECTOR}/background_timestamp"
COUNT_TIME = f"{DETECTOR}/count_time"
SERVO = f"{ENTRY}/instrument/servo/value"

#: Data keys of the events, and the dataset that each external one lives in.
FIELDS = {"lunchbox_image": IMAGE, "lunchbox_background": BACKGROUND}

FRAME_DIMS = ("y", "x", "channel")

#: A start document with this key is an analysis of the raw run that it names: it belongs under `/processed`.
RAW_RUN_UID = "raw_run_uid"
PROCESSED = "processed"

#: Below the data root.
FRAMES_DIR = "frames"
JOURNAL_DIR = "journal"
CATALOG_DIR = "catalog"
FIGURES_DIR = "figures"


def date_folder(timestamp: float) -> str:
    """Folder of a file that begins at `timestamp` (s since the epoch): "YYYY/MM/DD", in UTC.

    UTC, so that the folder depends on neither the time zone nor daylight saving of the machine that asks.
    """
    return time.strftime("%Y/%m/%d", time.gmtime(timestamp))
