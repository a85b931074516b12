"""`python -m acquisition.ioc`: the options of every caproto IOC, and those that choose the link."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from typing import Any

from acquisition.ioc.settings import IOCSettings
from catalog.errors import LunchBoxError


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit status: 0 when it was asked to stop, 1 with one line on standard error when it could not run."""
    from caproto.server import template_arg_parser
    from pydantic import ValidationError

    parser, split_arguments = template_arg_parser(
        desc="Servo and laser of a LunchBox bench, over EPICS Channel Access.",
        default_prefix="LUNCHBOX:",
        supported_async_libs=["asyncio"],
    )
    parser.set_defaults(prefix=None, interfaces=None)
    parser.add_argument("--settings", metavar="JSON", help="IOC settings in place of the configuration's `ioc` section")
    link = parser.add_mutually_exclusive_group()
    link.add_argument("--simulated", action="store_true", help="a simulated servo and laser")
    link.add_argument("--pico", metavar="DEV", help="the Pico at this serial device")
    parser.add_argument("--seed", type=int, help="of the simulated servo's faults")
    parser.add_argument("--json", action="store_true", help="print one JSON object when PVs are served")
    parser.add_argument("--until-eof", action="store_true", help="end also when standard input does")
    arguments = parser.parse_args(argv)
    # caproto's log goes to standard output, which is the one object's.
    arguments.quiet = arguments.quiet or arguments.json
    log = logging.getLogger("lunchbox.ioc")
    log.addHandler(logging.StreamHandler())
    log.setLevel(logging.WARNING if arguments.quiet else logging.INFO)
    _, run_options = split_arguments(arguments)

    try:
        settings, prefix = _configured(arguments)
        settings = IOCSettings.model_validate(_changed(settings, arguments))
    except ValidationError as error:
        parser.error(str(error))
    except LunchBoxError as error:
        return _failed(error)

    from acquisition.ioc.server import run

    try:
        run(
            settings,
            prefix=prefix,
            list_pvs=run_options["log_pv_names"],
            until_eof=arguments.until_eof,
            on_ready=lambda port: _print_ready(prefix, settings, port) if arguments.json else None,
        )
    except LunchBoxError as error:
        return _failed(error)
    return 0


def _configured(arguments: argparse.Namespace) -> tuple[IOCSettings, str]:
    """Settings and prefix, from the command line or else from the configuration."""
    if arguments.settings is not None:
        return IOCSettings.model_validate_json(arguments.settings), arguments.prefix or "LUNCHBOX:"
    from config import load_settings

    configuration = load_settings()
    return configuration.ioc, arguments.prefix or configuration.prefix


def _changed(settings: IOCSettings, arguments: argparse.Namespace) -> dict[str, Any]:
    values = settings.model_dump()
    if arguments.simulated:
        values["link"] = "simulated"
    if arguments.pico is not None:
        values["link"] = "pico"
        values["pico"]["device"] = arguments.pico
    if arguments.seed is not None:
        values["simulated"]["seed"] = arguments.seed
    if arguments.interfaces is not None:
        values["interfaces"] = arguments.interfaces
    return values


def _print_ready(prefix: str, settings: IOCSettings, port: int) -> None:
    ready = {
        "prefix": prefix,
        "link": settings.link,
        "interfaces": list(settings.interfaces),
        "port": port,
        "armed": settings.link == "simulated" and settings.simulated.armed,
    }
    print(json.dumps(ready), flush=True)


def _failed(error: LunchBoxError) -> int:
    print(f"{type(error).__name__}: {error}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
