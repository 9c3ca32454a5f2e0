"""`rsqlite`: the command for people. For nodes that are stopped: `check DIR` looks at their files,
`recover DIR` lets a cluster go on that has lost its majority. For a cluster that runs: `verify URL`
compares what its nodes hold, `vacuum URL` writes their databases anew, `upgrade URL` lets another
release in, which `fingerprint` names."""

from __future__ import annotations

import math
import os
import sys
from typing import Any

import click

import rsqlite
from rsqlite.cli.exits import Exit, exit_for
from rsqlite.errors import NodeFault, RequestError, Unavailable

TIMEOUT_S_MIN, TIMEOUT_S_MAX = 0.1, 30 * 86_400.0
REBUILD_ADVICE = (
    "The log is whole, and holds everything since the first entry: check the disk, move {} away,"
    " and start the node again; it makes the database anew from its log"
)


class Seconds(click.FloatRange):
    """A time to wait. NaN is within every range as click sees it."""

    def __init__(self) -> None:
        super().__init__(min=TIMEOUT_S_MIN, max=TIMEOUT_S_MAX)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        seconds = float(super().convert(value, param, ctx))
        if math.isnan(seconds):
            self.fail(f"{value!r} is no time", param, ctx)
        return seconds


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(rsqlite.__version__, prog_name="rsqlite")
def main() -> None:
    """Work with rsqlite, the replicated SQLite. The server is `rsqlited`."""


@main.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False))
def check(directory: str) -> None:
    """Verify the files of a stopped node: identity, hard state, log and database.

    Changes nothing. Prints a line for each finding. The exit code is 0 when no damage was found,
    else that of rsqlited for the same fault.
    """
    from rsqlite.statemachine import check_database, needs_image
    from rsqlite.storage.check import begins_with_first_entry
    from rsqlite.storage.check import check as check_log
    from rsqlite.storage.directory import DATABASE_NAME
    from rsqlite.storage.finding import REJOIN_ADVICE, Severity

    directory = os.path.abspath(directory)
    try:
        findings = check_log(directory)
    except NodeFault as error:
        click.echo(f"rsqlite: {error}", err=True)
        sys.exit(exit_for(error))
    for finding in findings:
        click.echo(str(finding))
    damaged = any(finding.severity is Severity.DAMAGE for finding in findings)
    database = os.path.join(directory, DATABASE_NAME)
    if not damaged and os.path.isdir(database):
        problems = check_database(database)
        for problem in problems:
            click.echo(f"{Severity.DAMAGE.value}: {problem}")
        if problems:
            damaged = True
            is_enough = begins_with_first_entry(directory) and not needs_image(database)
            click.echo(REBUILD_ADVICE.format(database) if is_enough else REJOIN_ADVICE)
    if damaged:
        sys.exit(Exit.DAMAGED)
    click.echo(f"{directory}: no damage found")


@main.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False))
@click.option(
    "--peer",
    "peers",
    multiple=True,
    metavar="ID=ADDRESS",
    help="A node that is left, this one included; repeated. Default: this one alone.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
def recover(directory: str, peers: tuple[str, ...], yes: bool) -> None:
    """Let a cluster go on that has lost its majority for good.

    Run it for each stopped node that is left, with the same --peer options, then start them. Says
    what will be lost, asks, and writes raft/peers.json, which the next start follows. Choose this
    only when the other nodes will not come back: while a majority can be had, nothing is lost.
    """
    from rsqlite.cli.recovering import Stopped, parse_peers

    directory = os.path.abspath(directory)
    try:
        node = Stopped.read(directory)
        left = parse_peers(peers, node)
        for line in node.explain(left):
            click.echo(line)
        if not (yes or click.confirm("Go on?")):
            click.echo("Nothing was changed.")
            sys.exit(Exit.USAGE)
        path = node.write(left)
    except (NodeFault, RequestError) as error:
        click.echo(f"rsqlite: {error}", err=True)
        sys.exit(exit_for(error))
    click.echo(f"Written to {path}. Start the nodes that are left with their usual words.")


@main.command()
@click.argument("url")
@click.option(
    "--timeout",
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    type=Seconds(),
    help="Report after so long with those that have answered.",
)
def verify(url: str, timeout: float) -> None:
    """Compare what all nodes of a running cluster hold, as of one moment.

    URL is the HTTP address of any of them. Writes go on meanwhile. A node whose content differs
    from that of a majority repairs itself. The exit code is 0 when all nodes agree, 1 when contents
    differ or one has a damaged index, 2 when some did not answer.
    """
    from rsqlite.cli.asking import address_of, ask, with_timeout

    try:
        path = with_timeout("/verify", timeout)
        report: Any = ask(address_of(url), "POST", path, timeout_s=timeout + 30)
    except (RequestError, Unavailable) as error:
        click.echo(f"rsqlite: {error}", err=True)
        sys.exit(Exit.USAGE)
    if not isinstance(report, dict) or "nodes" not in report:
        click.echo(f"rsqlite: no report: {report}", err=True)
        sys.exit(Exit.USAGE)
    click.echo(f"content at index {report['index']}:")
    width = max((len(node["id"]) for node in report["nodes"]), default=0)
    problems = False
    for node in report["nodes"]:
        more = [node["digest"], f"{node['seconds']:.2f} s"] if "digest" in node else [node["state"]]
        more += [f"tables that differ: {', '.join(node['tables'])}"] if "tables" in node else []
        more += node.get("problems", [])
        problems = problems or bool(node.get("problems"))
        click.echo(f"  {node['id']:{width}}  {node['verdict']:9}  {'  '.join(more)}")
    verdicts = [node["verdict"] for node in report["nodes"]]
    if problems or "differs" in verdicts or "undecided" in verdicts:
        click.echo("The contents differ, or are damaged.")
        sys.exit(1)
    if not report["agreed"]:
        click.echo("Undecided: too few have told what they hold.")
        sys.exit(2)
    if not report["complete"]:
        click.echo("Those that answered agree; the others are not known.")
        sys.exit(2)
    click.echo("All nodes agree.")


@main.command()
@click.argument("url")
@click.option(
    "--timeout",
    default=3600.0,
    show_default=True,
    metavar="SECONDS",
    type=Seconds(),
    help="Wait no longer for its end; the VACUUM goes on.",
)
def vacuum(url: str, timeout: float) -> None:
    """Write the databases of all nodes anew, without the pages that deleted rows have left.

    URL is the HTTP address of any node. One node after the other, the leader last, while reads and
    writes go on; each needs room for a second copy. The exit code is 0 when all are done, else 1.
    """
    from rsqlite.cli.asking import address_of, ask, with_timeout

    try:
        path = with_timeout("/vacuum", timeout)
        report: Any = ask(address_of(url), "POST", path, timeout_s=timeout + 30)
    except (RequestError, Unavailable) as error:
        click.echo(f"rsqlite: {error}", err=True)
        sys.exit(Exit.USAGE)
    if not isinstance(report, dict) or "nodes" not in report:
        click.echo(f"rsqlite: no report: {report}", err=True)
        sys.exit(Exit.USAGE)
    width = max((len(node["id"]) for node in report["nodes"]), default=0)
    for node in report["nodes"]:
        text = node.get("error", "")
        if node["step"] == "done":
            sizes = f"{node['bytes_before']} bytes before, {node['bytes_after']} after"
            text = f"{sizes}, in {node['seconds']:.2f} s"
        click.echo(f"  {node['id']:{width}}  {node['step']:6}  {text}")
    if not report["complete"]:
        sys.exit(1)


@main.command()
@click.argument("url")
@click.option(
    "--to", metavar="FINGERPRINT", help="The newer release; default: the one of this command."
)
@click.option("--abandon", is_flag=True, help="Take the declaration back; no node may run it.")
@click.option("--show", is_flag=True, help="Say who runs what, and change nothing.")
@click.option(
    "--timeout",
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    type=Seconds(),
    help="Wait no longer for the answer.",
)
def upgrade(url: str, to: str | None, abandon: bool, show: bool, timeout: float) -> None:
    """Declare that the nodes of a running cluster go over to another release.

    URL is the HTTP address of any of them. Needed when the fingerprints of the two releases differ
    (another SQLite, say); run it from the newer one, then restart node after node with that. The
    exit code of --show is 0 when no upgrade is declared, 1 while one is.
    """
    from rsqlite.cli.asking import address_of, ask, with_timeout
    from rsqlite.cli.upgrading import NEXT_STEPS, PATH, explain, read_state
    from rsqlite.config import Settings
    from rsqlite.statemachine.fingerprint import fingerprint_here

    if bool(to) + abandon + show > 1:
        raise click.UsageError("--to, --abandon and --show exclude each other")
    try:
        address = address_of(url)
        path = with_timeout(PATH, timeout)
        if show:
            state = read_state(address, timeout)
            for line in explain(state):
                click.echo(line)
            sys.exit(0 if state["to"] is None else 1)
        if abandon:
            ask(address, "DELETE", path, timeout_s=timeout + 5)
            click.echo("No upgrade is declared any more.")
            return
        target = to or fingerprint_here(Settings())
        state = read_state(address, timeout)
        if state["to"] is None and state["fingerprint"] == target:
            click.echo(f"The cluster computes SQL as {target} already: nothing is to be declared.")
            return
        ask(address, "POST", path, body={"to": target}, timeout_s=timeout + 5)
    except (RequestError, Unavailable) as error:
        click.echo(f"rsqlite: {error}", err=True)
        sys.exit(Exit.USAGE)
    click.echo(f"Declared: nodes may come to {target}.")
    click.echo(NEXT_STEPS)


@main.command()
def fingerprint() -> None:
    """Print how this release computes SQL: what the nodes of a cluster must have in common."""
    from rsqlite.config import Settings
    from rsqlite.statemachine.fingerprint import fingerprint_here

    click.echo(fingerprint_here(Settings()))


if __name__ == "__main__":
    main()
