"""`python -m bench`: throughput and latency beside floors; `--help` names the other commands."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from rich.console import Console

from bench import (
    catchup,
    client,
    compare,
    cost,
    delay,
    elections,
    endurance,
    failover,
    nodes,
    plot,
    restart,
    sizes,
)
from bench.floors import EchoServer
from bench.generator import WrongAnswer
from bench.harness import (
    Extent,
    Observation,
    Round,
    Target,
    drop_reads,
    given_servers,
    own_cluster,
    prepare_reads,
)
from bench.report import header, print_table, steps, summarize, summary_json, write_json
from bench.workloads import workloads_matching

TABLE_WIDTH = 150


class Command(Protocol):
    """A module that is a command; its docstring's first line is the help."""

    __doc__: str | None

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, arguments: argparse.Namespace, console: Console) -> int: ...


COMMANDS: dict[str, Command] = {
    "failover": failover,
    "client": client,
    "elections": elections,
    "restart": restart,
    "catchup": catchup,
    "cost": cost,
    "endurance": endurance,
    "nodes": nodes,
    "delay": delay,
    "sizes": sizes,
    "compare": compare,
}
"""Those that measure; `run` is in this module, and `plot` starts nothing."""


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    common.add_argument(
        "--directory", type=Path, help="where data goes; default: the temporary one"
    )
    common.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="FLAG",
        help="give rsqlited FLAG, such as --option=-http-shortcut=off",
    )
    common.add_argument("--keep", action="store_true", help="keep the data of our own cluster")
    common.add_argument(
        "--assert", action="store_true", dest="asserts", help="exit with 1 if a goal is missed"
    )
    commands = top.add_subparsers(dest="command")
    run = commands.add_parser("run", parents=[common], help="the default: workloads with floors")
    run.add_argument("--url", help="measure these servers: leader[,follower], e.g. an rqlite's")
    run.add_argument(
        "--quick", action="store_true", help="one round of 1 s each: a look, no figure"
    )
    run.add_argument("--seconds", type=float, default=3.0, help="measured time of each workload")
    run.add_argument("--warmup", type=float, default=0.5)
    run.add_argument("--rounds", type=int, default=3, help="rounds, each with a fresh cluster")
    run.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="GLOB",
        help="workloads whose name matches, such as 'insert-*-leader'; may be repeated",
    )
    run.add_argument("--list", action="store_true", help="print the names of the workloads")
    for name, command in COMMANDS.items():
        text = (command.__doc__ or "").partition("\n")[0]
        command.add_arguments(
            commands.add_parser(name, parents=[common], help=text, description=text)
        )
    plot.add_arguments(commands.add_parser("plot", help=plot.HELP, description=plot.HELP))
    return top


def target(arguments: argparse.Namespace) -> AbstractContextManager[Target]:
    if arguments.url:
        return given_servers(arguments.url, arguments.directory)
    return own_cluster(arguments.option, arguments.directory, arguments.keep)


def run(arguments: argparse.Namespace, console: Console) -> int:
    if arguments.quick:
        arguments.rounds, arguments.seconds, arguments.warmup = 1, 1.0, 0.3
    has_follower = not arguments.url or "," in arguments.url
    workloads = workloads_matching(arguments.only or ["*"], has_follower)
    if arguments.list:
        for workload in workloads:
            console.print(workload.name, highlight=False)
        return 0
    if not workloads:
        console.print("no workload has such a name; see --list")
        return 2
    extent = Extent(arguments.seconds, warmup=arguments.warmup)
    first = header(arguments)
    observations: list[Observation] = []
    with steps(console, arguments.rounds * len(workloads)) as progress, EchoServer() as echo:
        for number in range(arguments.rounds):
            progress.tell(f"round {number + 1}: starting")
            with target(arguments) as one:
                round_ = Round(one, echo, extent, progress.tell)
                prepare_reads(one)
                for workload in workloads:
                    observations.append(round_.run(workload))
                    progress.advance()
                if arguments.url:
                    drop_reads(one)
    summaries = summarize(observations)
    print_table(console, summaries)
    if arguments.json:
        write_json(
            arguments.json,
            {
                **first,
                "summary": [summary_json(one) for one in summaries],
                "rounds": [one.as_json() for one in observations],
            },
        )
    return 1 if arguments.asserts and not all(one.is_met for one in summaries) else 0


def main(given: Sequence[str]) -> int:
    words = list(given)
    if not words or (words[0].startswith("-") and words[0] not in ("-h", "--help")):
        words.insert(0, "run")
    arguments = parser().parse_args(words)
    arguments.given = given
    # In a file or a pipe there is no width; the table wants this much.
    console = Console(width=None if sys.stdout.isatty() else TABLE_WIDTH)
    try:
        if arguments.command == "run":
            return run(arguments, console)
        if arguments.command == "plot":
            return plot.run(arguments, console)
        return COMMANDS[arguments.command].run(arguments, console)
    except WrongAnswer as error:
        console.print(f"[bold red]no result:[/] {error}", highlight=False)
        return 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
