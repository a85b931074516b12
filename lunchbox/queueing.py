"""`lunchbox queue`."""

from __future__ import annotations

import importlib.resources
import importlib.util
import os
import socket
import sys
from pathlib import Path
from typing import Annotated

import typer

from lunchbox.console import Config, DataRoot, Json, app, print_json, say, settings_of

SHIPPED_PERMISSIONS = "queue_permissions.yaml"


@app.command(epilog="Example: lunchbox queue, then in another terminal: qserver environment open")
def queue(
    redis: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where the queue is kept.")] = "127.0.0.1:6379",
    address: Annotated[str, typer.Option(help="ZeroMQ address that clients talk to.")] = "tcp://127.0.0.1:60615",
    name: Annotated[str, typer.Option(help="Prefix of the queue's keys in Redis: one per bench.")] = "lunchbox",
    permissions: Annotated[
        Path | None, typer.Option(help=f"YAML file of who may do what, instead of config/{SHIPPED_PERMISSIONS}.")
    ] = None,
    config: Config = None,
    data_root: DataRoot = None,
    json_: Json = False,
) -> None:
    """Run plans from a queue (bluesky-queueserver).

    Until Ctrl-C. Needs Redis, and a running IOC when a client opens the environment.
    """
    if importlib.util.find_spec("bluesky_queueserver") is None:
        raise typer.BadParameter("bluesky-queueserver is not installed: pip install 'lunchbox[queue]'")
    settings = settings_of(config, data_root)
    _require_redis(redis)
    groups = _checked(permissions or Path(str(importlib.resources.files("config") / SHIPPED_PERMISSIONS)))
    folder = settings.data_root / "queue"
    folder.mkdir(parents=True, exist_ok=True)
    # The worker is a process of its own, and loads the configuration by itself.
    os.environ["LUNCHBOX_DATA_ROOT"] = str(settings.data_root)
    if config is not None:
        os.environ["LUNCHBOX_CONFIG"] = str(config.absolute())
    options = ["--startup-module", "acquisition.queue", "--redis-addr", redis, "--redis-name-prefix", name]
    options += ["--existing-plans-devices", str(folder), "--user-group-permissions", str(groups)]
    options += ["--zmq-control-addr", address]
    if json_:
        print_json({"address": address, "redis": redis, "name": name, "permissions": str(groups)})
        options += ["--console-output", "OFF", "--silent"]
    else:
        say(f"queue       {address}, kept in Redis at {redis}; `qserver environment open` makes the bench ready")
    sys.stdout.flush()
    manager = str(Path(sys.executable).with_name("start-re-manager"))
    os.execv(manager, [manager, *options])


def _require_redis(address: str) -> None:
    host, _, port = address.partition("/")[0].partition(":")
    try:
        socket.create_connection((host, int(port or 6379)), timeout=2).close()
    except (OSError, ValueError) as error:
        raise typer.BadParameter(
            f"no Redis at {address} ({error}): start redis-server, or name the one that runs", param_hint="--redis"
        ) from None


def _checked(permissions: Path) -> Path:
    # The manager would go on without: with an empty list of what anybody may do, and the reason in its log.
    from bluesky_queueserver.manager.profile_ops import load_user_group_permissions

    if permissions.suffix != ".yaml":
        raise typer.BadParameter(f"{permissions}: its name must end in .yaml", param_hint="--permissions")
    try:
        load_user_group_permissions(str(permissions))
    except OSError as error:
        raise typer.BadParameter(" ".join(str(error).split()), param_hint="--permissions") from None
    return permissions.absolute()
