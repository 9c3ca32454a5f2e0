"""`python -m bench`: throughput and latency, `failover` and `elections`. `--help` says more."""

from __future__ import annotations

import argparse
import fnmatch
import sys
from contextlib import AbstractContextManager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench import elections, failover
from bench.floors import EchoServer
from bench.generator import WrongAnswer
from bench.harness import Observation, Round, Target, given_servers, own_cluster, prepare_reads
from bench.report import machine, print_table, summarize, summary_json, write_json
from bench.workloads import Workload, all_workloads

TABLE_WIDTH = 150


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
    failover.add_arguments(commands.add_parser("failover", parents=[common], help=failover.__doc__))
    elections.add_arguments(
        commands.add_parser("elections", parents=[common], help=elections.__doc__)
    )
    return top


def chosen(arguments: argparse.Namespace, has_follower: bool) -> list[Workload]:
    """The workloads asked for; those through a follower need one."""
    patterns = arguments.only or ["*"]
    return [
        workload
        for workload in all_workloads()
        if any(fnmatch.fnmatch(workload.name, pattern) for pattern in patterns)
        and (has_follower or workload.through == "leader")
    ]


def target(arguments: argparse.Namespace) -> AbstractContextManager[Target]:
    if arguments.url:
        return given_servers(arguments.url, arguments.directory)
    return own_cluster(arguments.option, arguments.directory, arguments.keep)


def run(arguments: argparse.Namespace, console: Console) -> int:
    if arguments.quick:
        arguments.rounds, arguments.seconds, arguments.warmup = 1, 1.0, 0.3
    workloads = chosen(arguments, has_follower=not arguments.url or "," in arguments.url)
    if arguments.list:
        for workload in workloads:
            console.print(workload.name, highlight=False)
        return 0
    if not workloads:
        console.print("no workload has such a name; see --list")
        return 2
    # Nothing is drawn while something is measured: the progress is refreshed between steps only.
    progress = Progress(
        TextColumn("{task.description:<44}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        auto_refresh=False,
    )
    observations: list[Observation] = []
    with progress, EchoServer() as echo:
        task = progress.add_task("", total=arguments.rounds * len(workloads))

        def report(text: str) -> None:
            progress.update(task, description=text)
            progress.refresh()

        for number in range(arguments.rounds):
            report(f"round {number + 1}: starting")
            with target(arguments) as one:
                round_ = Round(one, echo, arguments.seconds, arguments.warmup, report)
                prepare_reads(one)
                for workload in workloads:
                    observations.append(round_.run(workload))
                    progress.advance(task)
                if arguments.url:
                    round_.clean()
    summaries = summarize(observations)
    print_table(console, summaries)
    if arguments.json:
        write_json(
            arguments.json,
            {
                "command": ["python", "-m", "bench", *sys.argv[1:]],
                "machine": machine(),
                "summary": [summary_json(one) for one in summaries],
                "rounds": [one.as_json() for one in observations],
            },
        )
    return 1 if arguments.asserts and not all(one.is_met for one in summaries) else 0


def main() -> int:
    given = sys.argv[1:]
    if not given or (given[0].startswith("-") and given[0] not in ("-h", "--help")):
        given = ["run", *given]
    arguments = parser().parse_args(given)
    # In a file or a pipe there is no width; the table wants this much.
    console = Console(width=None if sys.stdout.isatty() else TABLE_WIDTH)
    try:
        match arguments.command:
            case "failover":
                return failover.run(arguments, console)
            case "elections":
                return elections.run(arguments, console)
            case _:
                return run(arguments, console)
    except WrongAnswer as error:
        console.print(f"[bold red]no result:[/] {error}", highlight=False)
        return 3


if __name__ == "__main__":
    sys.exit(main())
