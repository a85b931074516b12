"""How good the analysis is, measured on benches whose truth is known: `lunchbox validate`.

`trials` photographs scans of the simulated bench, `fits` judges what the analysis makes of a scan, `spots` holds the
positions of single spots against the Cramer-Rao bound and against other people's estimators (`peers`), and `page`
writes it all down. `fits` knows no simulator: the tests hand it scans from a generator of their own.
"""
