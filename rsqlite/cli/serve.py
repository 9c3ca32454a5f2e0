"""`rsqlited [flags] DATA_DIR`: one node as a process, from its command line to its exit code.

Order of a start: command line, logs, listeners (an address in use must be found before the data
directory is touched), data directory, cluster. Order of a stop: no new requests, those under way
get `-shutdown-timeout`, then the node. A second signal ends the process at once, as a power cut
would: nothing acknowledged is lost by it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import math
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import rsqlite
from rsqlite.cli import logs
from rsqlite.cli.exits import AddressUnusable, Exit, UnsuitableSqlite, exit_for
from rsqlite.cli.options import Configuration, Option, Source, configure, options, read_flags
from rsqlite.cli.process import allow_connections, calm_allocator, calm_collector, loop_factory
from rsqlite.config import MIB, Settings
from rsqlite.errors import DamagedFile, DiskFull, NodeFault
from rsqlite.storage.directory import LOG_NAME

if TYPE_CHECKING:
    from rsqlite.node.node import Node

log = logging.getLogger("rsqlite.serve")

SWITCHES = ("help", "h", "version")
"""Flags without a value that are no settings."""
REPAIRS_MAX = 2
"""So often in an hour a damaged database is fetched anew; then somebody must look."""
REPAIRS_PERIOD_S = 3600.0
ROOM_BYTES_MIN = 4 * MIB
"""A node that has stopped on a full volume starts again when so much is free. It may refuse writes
then, and serves reads."""
ROOM_LOOK_S = 1.0


def main(argv: Sequence[str] | None = None) -> None:
    """The entry point `rsqlited`."""
    sys.exit(run(sys.argv[1:] if argv is None else argv, os.environ))


def run(argv: Sequence[str], environment: Mapping[str, str]) -> int:
    """Do what the command line asks, until the node has stopped; the exit code."""
    line = read_flags(argv, booleans=SWITCHES)
    if "help" in line.values or "h" in line.values:
        print(help_text())
        return Exit.OK
    if "version" in line.values:
        print(version_text())
        return Exit.OK
    configuration = configure(line.values, environment, ignored=SWITCHES)
    problems = [*line.problems, *_argument_problems(line.arguments), *configuration.problems]
    if problems:
        for problem in problems:
            print(f"rsqlited: {problem}", file=sys.stderr)
        print("Try 'rsqlited -help'.", file=sys.stderr)
        return Exit.USAGE
    return _serve_until_stopped(os.path.abspath(line.arguments[0]), configuration)


def help_text() -> str:
    """Made from the one table of settings."""
    import click  # a start need not wait for it

    formatter = click.HelpFormatter(width=100)
    formatter.write_usage("rsqlited", "[flags] DATA_DIR")
    formatter.write_paragraph()
    formatter.write_text(
        "Runs one node of a replicated SQLite database that lives in DATA_DIR, alone or with"
        " others. A flag is written -flag VALUE, -flag=VALUE or with two dashes, and also read"
        " from the environment (-node-id: RSQLITE_NODE_ID) and the config file (node-id = ...);"
        " a flag wins over the environment, that over the file. TIME is 250ms, 1m30s or seconds;"
        " BYTES may end in KiB, MiB or GiB."
    )
    rows = [
        ("-config FILE", "TOML file with settings"),
        ("-help", "Show this"),
        ("-version", "Show the versions"),
    ]
    rows += [(f"-{one.flag} {one.metavar}".rstrip(), _help_of(one)) for one in options()]
    with formatter.section("Flags"):
        formatter.write_dl(rows, col_max=36)
    with formatter.section("Exit codes"):
        formatter.write_dl([(str(int(one)), one.__doc__ or "") for one in Exit])
    return formatter.getvalue().rstrip()


def version_text() -> str:
    """One line with what a report of a fault needs."""
    import apsw

    from rsqlite.statemachine.fingerprint import fingerprint_here

    python = ".".join(map(str, sys.version_info[:3]))
    return (
        f"rsqlited {rsqlite.__version__}, Python {python},"
        f" SQLite {apsw.sqlite_lib_version()}, APSW {apsw.apsw_version()},"
        f" fingerprint {fingerprint_here(Settings())}"
    )


def _help_of(option: Option) -> str:
    shown = option.shown_default()
    return option.help + (f" [{shown}]" if shown and not option.is_boolean else "")


def _argument_problems(arguments: Sequence[str]) -> list[str]:
    if not arguments:
        return ["the data directory is missing: rsqlited [flags] DATA_DIR"]
    if len(arguments) > 1:
        extra = " ".join(arguments[1:])
        return [f"nothing may follow the data directory {arguments[0]!r}: {extra}"]
    return [] if arguments[0] else ["the data directory is empty text"]


def _serve_until_stopped(directory: str, configuration: Configuration) -> int:
    settings = configuration.settings
    logs.set_up(
        level=settings.log_level,
        form=settings.log_format,
        node=settings.node_id or settings.raft_adv_addr or settings.raft_addr,
    )
    factory = loop_factory(settings)
    given = {
        name: getattr(settings, name)
        for name, source in configuration.sources.items()
        if source is not Source.DEFAULT
    }
    log.info("starting", extra={"directory": directory, "loop": factory.__module__, **given})
    for note in configuration.notes:
        log.warning(note)
    settings = allow_connections(settings)
    calm_allocator()
    try:
        with asyncio.Runner(loop_factory=factory) as runner:
            return int(runner.run(serve(directory, settings)))
    except Exception as error:  # noqa: BLE001 - the edge of the process: the code tells the reason
        return report(error)


def report(error: BaseException) -> Exit:
    """Log why the node cannot go on; the exit code for it."""
    code = exit_for(error)
    # Ours to repair, so its origin matters; the others are the operator's, and say what to do.
    trace = error if code is Exit.INTERNAL else None
    log.error(str(error) or repr(error), extra={"exit": int(code)}, exc_info=trace)
    return code


async def serve(directory: str, settings: Settings) -> Exit:
    """Run a node and its HTTP server until a signal or a fault ends them. A node whose database is
    damaged is started again, and gets another one from the others."""
    check_sqlite()
    from rsqlite.server.refusing import refusing

    stop = asyncio.Event()
    watch_signals(stop)
    await check_addresses(settings)
    repairs: list[float] = []
    while True:
        fault = await serve_once(directory, settings, stop)
        if stop.is_set() or fault is None:
            break
        if isinstance(fault, DiskFull):
            log.error("%s; waiting for room", fault)
            async with refusing(settings, f"{fault}; it waits for room"):
                await wait_for_room(directory, stop)
            continue
        if not isinstance(fault, DamagedFile) or not may_repair(repairs):
            break
        log.warning("starting again, to look at what is damaged, and have the others give it back")
    if stop.is_set() and isinstance(fault, DiskFull):
        fault = None  # it was told to stop while it waited
    code = Exit.OK if fault is None else report(fault)
    log.info("stopped", extra={"exit": int(code)})
    return code


def may_repair(repairs: list[float]) -> bool:
    """Whether it is worth another start; `repairs` holds when there was one."""
    now = time.monotonic()
    repairs[:] = [one for one in repairs if now - one < REPAIRS_PERIOD_S]
    if len(repairs) >= REPAIRS_MAX:
        log.error("files were damaged again and again: look at the disk")
        return False
    repairs.append(now)
    return True


async def wait_for_room(directory: str, stop: asyncio.Event) -> None:
    """Return when each volume of the node has some room, or when `stop` is set. Never at once: what
    did not fit may not fit again."""
    while not stop.is_set():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ROOM_LOOK_S):
                await stop.wait()
        if min(map(free_bytes, (directory, os.path.join(directory, LOG_NAME)))) >= ROOM_BYTES_MIN:
            log.info("there is room again", extra={"needed": ROOM_BYTES_MIN})
            return


def free_bytes(path: str) -> float:
    """Room on the volume of `path`; endless where there is no such path."""
    try:
        volume = os.statvfs(path)
    except FileNotFoundError:
        return math.inf
    return volume.f_bavail * volume.f_frsize


async def serve_once(
    directory: str, settings: Settings, stop: asyncio.Event
) -> BaseException | None:
    """One life of a node, from its start to its stop: why it ended by itself, if it did."""
    from rsqlite.node.node import Node
    from rsqlite.server.app import HttpServer

    node = Node(directory, settings)
    server = HttpServer()
    try:
        if not await is_started(node, settings, stop):
            return None
        if settings.http_addr:
            await server.start(node, settings)
            log.info("serving http", extra={"address": server.address})
        calm_collector()
        return await first_end(stop, node, settings)
    except DiskFull as full:
        return full
    finally:
        await server.stop()
        await node.stop()


async def is_started(node: Node, settings: Settings, stop: asyncio.Event) -> bool:
    """Start the node, which may have to wait for others, and says so meanwhile to who asks; False
    if a signal came first."""
    reason: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    node.told_to_wait = reason.set_result
    starting = asyncio.create_task(node.start())
    stopped = asyncio.create_task(stop.wait())
    speaking = asyncio.create_task(say_why(reason, settings))
    try:
        await asyncio.wait((starting, stopped), return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
        speaking.cancel()
        if not starting.done():
            starting.cancel()
        await asyncio.wait((starting, speaking))
    if starting.cancelled():
        return False
    await starting
    return True


async def say_why(reason: asyncio.Future[str], settings: Settings) -> None:
    """Once there is a reason to wait, tell it over HTTP until this is cancelled."""
    from rsqlite.server.refusing import refusing

    async with refusing(settings, await reason):
        await asyncio.Event().wait()


async def first_end(stop: asyncio.Event, node: Node, settings: Settings) -> BaseException | None:
    """Why the node must stop by itself; None when a signal asks for it."""
    from rsqlite.cli.neighbours import another_cluster

    stopped = asyncio.create_task(stop.wait())
    misplaced = asyncio.create_task(another_cluster(node, settings))
    ends = (stopped, misplaced, node.failed)
    try:
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
        misplaced.cancel()
    for end in (node.failed, misplaced):
        if end.done() and not end.cancelled():
            return end.result()
    return None


def check_sqlite() -> None:
    """UnsuitableSqlite when the SQLite found here cannot carry a node."""
    try:
        from rsqlite.statemachine.opening import require_sqlite

        require_sqlite()
    except (ImportError, NodeFault) as error:
        raise UnsuitableSqlite(f"{error}; pip install --upgrade apsw brings its own") from error


async def check_addresses(settings: Settings) -> None:
    """AddressUnusable when a listener could not be opened: found before the data directory is
    touched, so that a second start of a running node changes nothing."""
    for flag, address in (("-http-addr", settings.http_addr), ("-raft-addr", settings.raft_addr)):
        try:
            if address:
                await try_to_bind(address)
        except OSError as error:
            raise AddressUnusable(
                f"cannot listen on {address}: {error.strerror or error}; stop what uses it, or"
                f" give this node another address with {flag}"
            ) from error


async def try_to_bind(address: str) -> None:
    """OSError when `address` cannot be listened on. One of its families may be missing:
    `localhost` has an IPv6 address also where there is no IPv6."""
    host, _, port = address.rpartition(":")
    missing: OSError | None = None
    found = await asyncio.get_running_loop().getaddrinfo(
        host.strip("[]") or None, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    bound = 0
    for family, kind, protocol, _, place in found:
        try:
            with socket.socket(family, kind, protocol) as listener:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                listener.bind(place)
                bound += 1
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                raise
            missing = error
    if missing is not None and not bound:
        raise missing


def watch_signals(stop: asyncio.Event) -> None:
    """SIGTERM and SIGINT set `stop`; the second one ends the process at once."""

    def received(number: int) -> None:
        if stop.is_set():
            # No flush, no handlers: what a killed process leaves must be enough anyway.
            os._exit(Exit.ABORTED)
        log.info("stopping", extra={"signal": signal.Signals(number).name})
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, received, number)


if __name__ == "__main__":
    main()
