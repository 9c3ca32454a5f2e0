"""What the plot of each command shows. Nothing here imports matplotlib: a figure is handed in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Content = dict[str, Any]
Drawing = Callable[["Figure", Content], None]

COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#000000")
"""Told apart by everybody (Okabe and Ito)."""
GOAL_STYLE: dict[str, Any] = {"color": "#d55e00", "linestyle": "--", "linewidth": 1.0}
MEGABYTE = 1e6


def marks(lists: Sequence[Sequence[float]]) -> tuple[list[float], list[list[float]]]:
    """The median of each list, and how far the least and the greatest are from it."""
    middles = [median(values) for values in lists]
    below = [middle - min(values) for middle, values in zip(middles, lists, strict=True)]
    above = [max(values) - middle for middle, values in zip(middles, lists, strict=True)]
    return middles, [below, above]


def bars(
    axes: Axes, names: Sequence[str], groups: Mapping[str, Sequence[Sequence[float]]], unit: str
) -> None:
    """Bars side by side for each name, one per group: medians, with the spread."""
    width = 0.8 / len(groups)
    for number, (label, lists) in enumerate(groups.items()):
        middles, errors = marks(lists)
        places = [at + (number - (len(groups) - 1) / 2) * width for at in range(len(names))]
        color = COLORS[number % len(COLORS)]
        axes.bar(places, middles, width, yerr=errors, label=label, color=color, capsize=2)
    axes.set_xticks(range(len(names)), names, fontsize=8)
    axes.set_ylabel(unit)
    axes.legend(fontsize=8)


def dots(axes: Axes, names: Sequence[str], groups: Mapping[str, Sequence[Sequence[float]]]) -> None:
    """A line for each name, from the top down, with a dot for each group: medians, with the
    spread. For a scale that has no zero, from which a bar would begin anywhere."""
    for number, (label, lists) in enumerate(groups.items()):
        middles, errors = marks(lists)
        color = COLORS[number % len(COLORS)]
        places = range(len(names))
        axes.errorbar(middles, places, xerr=errors, fmt="o", label=label, color=color, capsize=2)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_xscale("log")
    axes.margins(y=0.5 / len(names))
    axes.invert_yaxis()
    axes.grid(axis="x", which="both", linewidth=0.3)


def curve(
    axes: Axes, xs: Sequence[float], lists: Sequence[Sequence[float]], label: str, number: int
) -> None:
    """Medians joined by a line, with the spread."""
    middles, errors = marks(lists)
    color = COLORS[number % len(COLORS)]
    axes.errorbar(
        xs, middles, yerr=errors, fmt="o-", label=label, color=color, markersize=3, capsize=2
    )


def draw_run(figure: Figure, content: Content) -> None:
    axes = figure.subplots()
    summary = content["summary"]
    names = [one["workload"] for one in summary]
    rates: dict[str, list[float]] = {name: [] for name in names}
    for one in content["rounds"]:
        rates[one["workload"]].append(one["requests_per_second"])
    dots(axes, names, {"": list(rates.values())})
    axes.set_xlabel("requests a second (log scale)")
    for at, one in enumerate(summary):
        text = f"   {one['ratio']:.2f} x {one['floor']}"
        axes.text(max(rates[one["workload"]]), at, text, va="center", fontsize=7)
    axes.margins(x=0.3)
    axes.set_title("throughput, and its ratio to the floor of the same round")


def draw_failover(figure: Figure, content: Content) -> None:
    axes = figure.subplots()
    signals = ("SIGKILL", "SIGSTOP")
    for at, signal in enumerate(signals):
        seconds = content[signal]["seconds"]
        axes.plot(seconds, [at] * len(seconds), "o", alpha=0.6, color=COLORS[at])
        axes.plot(median(seconds), at, "|", markersize=30, color="black")
        goal = content[signal]["goal"]
        axes.plot([goal, goal], [at - 0.3, at + 0.3], **GOAL_STYLE)
    axes.set_yticks(range(len(signals)), signals)
    axes.set_ylim(-0.6, len(signals) - 0.4)
    axes.set_xlim(left=0)
    axes.set_xlabel("seconds from the signal to the next acknowledged write; | median, -- goal")
    axes.set_title("the leader is killed, or paused")


def draw_restart(figure: Figure, content: Content) -> None:
    axes = figure.subplots()
    rows = content["rows"]
    names = [row["what"].replace(": ", ":\n").replace(", WAL", ",\nWAL") for row in rows]
    groups = {
        "no rows": [row["empty_seconds"] for row in rows],
        f"{content['table_rows']:,} rows": [row["full_seconds"] for row in rows],
    }
    bars(axes, names, groups, "seconds")
    axes.set_title("restart")


def draw_catchup(figure: Figure, content: Content) -> None:
    upper, lower = figure.subplots(2, 1, sharex=True)
    # The round whose return took as long as the median.
    rounds = sorted(content["rounds"], key=lambda one: float(one["seconds"]))
    one = rounds[len(rounds) // 2]
    at, times, rates, behind = 0.0, [], [], []
    for look in one["timeline"]:
        at += look["seconds"]
        times.append(at)
        rates.append(look["writes_per_second"])
        behind.append(look["entries_behind"])
    upper.plot(times, rates, color=COLORS[0], linewidth=1)
    upper.set_ylim(bottom=0)
    upper.set_ylabel("writes a second")
    known = [(time, value) for time, value in zip(times, behind, strict=True) if value is not None]
    lower.plot([time for time, _ in known], [value for _, value in known], color=COLORS[1])
    lower.set_ylabel("entries behind")
    lower.set_xlabel("seconds")
    begin = one["before_seconds"]
    for axes in (upper, lower):
        axes.axvspan(begin, begin + one["image_seconds"], color=COLORS[4], alpha=0.3)
        axes.axvspan(
            begin + one["image_seconds"], begin + one["seconds"], color=COLORS[2], alpha=0.3
        )
    upper.set_title(
        f"a follower comes back by an image of {one['database_bytes'] / MEGABYTE:.0f} MB "
        "(blue: until it is installed, green: the log behind it)"
    )


def draw_cost(figure: Figure, content: Content) -> None:
    left, right = figure.subplots(1, 2)
    rows = content["rows"]
    names = [row["workload"].removesuffix("-leader") for row in rows]
    nodes = ("leader", "follower")
    dots(left, names, {who: [row[f"{who}_cpu_seconds"] for row in rows] for who in nodes})
    left.set_xlabel("CPU seconds (log scale)")
    disk = [[value / MEGABYTE for value in row["device_bytes"]] for row in rows]
    if all(disk):
        dots(right, names, {"all nodes, with the journal": disk})
    right.set_xlabel("MB to the disk (log scale)")
    for axes in (left, right):
        axes.legend(fontsize=8)
    figure.suptitle(f"what {content['unit']:,} rows cost")


def draw_endurance(figure: Figure, content: Content) -> None:
    panels = figure.subplots(2, 2, sharex=True)
    intervals = content["intervals"]
    at, times = 0.0, []
    for one in intervals:
        at += one["seconds"] / 60
        times.append(at)

    def line(axes: Axes, values: Sequence[float], label: str, number: int) -> None:
        axes.plot(times, values, "o-", markersize=3, label=label, color=COLORS[number])

    def largest(name: str) -> list[float]:
        return [max(node[name] for node in one["nodes"]) / MEGABYTE for one in intervals]

    line(panels[0][0], [one["rows_per_second"] for one in intervals], "rows a second", 0)
    line(panels[0][1], [one["p99_ms"] for one in intervals], "p99, ms", 1)
    line(panels[0][1], [one["p50_ms"] for one in intervals], "p50, ms", 4)
    line(panels[1][0], largest("memory_bytes"), "memory, MB", 0)
    line(panels[1][0], largest("log_bytes"), "log, MB", 1)
    line(panels[1][0], largest("wal_bytes"), "WAL, MB", 2)
    line(panels[1][1], largest("database_bytes"), "database, MB", 3)
    for axes in panels.flat:
        axes.set_ylim(bottom=0)
        axes.legend(fontsize=8, loc="best")
    for axes in panels[1]:
        axes.set_xlabel("minutes")
    rows = sum(one["rows"] for one in intervals)
    figure.suptitle(f"{rows:,} rows by {content['clients']} clients; sizes of the largest node")


def draw_nodes(figure: Figure, content: Content) -> None:
    axes = figure.subplots()
    rows = content["rows"]
    names = list(dict.fromkeys(row["workload"] for row in rows))
    counts = sorted({row["nodes"] for row in rows})
    by_key = {(row["workload"], row["nodes"]): row["ratio"] for row in rows}
    groups = {
        f"{count} node{'s' * (count > 1)}": [by_key[name, count] for name in names]
        for count in counts
    }
    bars(axes, [name.removesuffix("-leader") for name in names], groups, "requests/s, ratio")
    axes.axhline(1.0, color="black", linewidth=0.8)
    axes.set_title("requests a second in times of those of 3 nodes, all on this machine")


def draw_delay(figure: Figure, content: Content) -> None:
    axes = figure.subplots()
    rows = [row for row in content["rows"] if row["round_trip_ms"] is not None]
    trips = sorted({row["round_trip_ms"] for row in rows})
    for number, name in enumerate(dict.fromkeys(row["workload"] for row in rows)):
        mine = {row["round_trip_ms"]: row["p50_ms"] for row in rows if row["workload"] == name}
        curve(axes, trips, [mine[trip] for trip in trips], name, number)
    for factor in (1, 2):
        ends = [min(trip for trip in trips if trip > 0), trips[-1]]
        axes.plot(ends, [factor * one for one in ends], color="#999999", linewidth=0.8)
    axes.set_xscale("symlog", linthresh=1)
    axes.set_yscale("log")
    axes.set_xlabel("added round trip between nodes, ms")
    axes.set_ylabel("p50 of a request, ms (log scale)")
    axes.legend(fontsize=8)
    axes.set_title("what a round trip adds (grey: one and two of it)")


def draw_sizes(figure: Figure, content: Content) -> None:
    left, right = figure.subplots(1, 2)
    rows = content["rows"]
    for number, name in enumerate(dict.fromkeys(row["operation"] for row in rows)):
        mine = [row for row in rows if row["operation"] == name]
        sizes = [row["payload_bytes"] for row in mine]
        rates = [row["requests_per_second"] for row in mine]
        curve(left, sizes, rates, name, number)
        megabytes = [
            [rate * size / MEGABYTE for rate in one] for one, size in zip(rates, sizes, strict=True)
        ]
        curve(right, sizes, megabytes, name, number)
    for axes, unit in ((left, "requests a second"), (right, "MB of payload a second")):
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("payload, bytes")
        axes.set_ylabel(unit)
        axes.legend(fontsize=8)
    figure.suptitle("payload sizes")


def draw_compare(figure: Figure, content: Content) -> None:
    axes = figure.subplots()
    rows = content["rows"]
    dots(axes, [row["workload"] for row in rows], {"": [row["ratio"] for row in rows]})
    axes.set_xlabel("ours / theirs (log scale)")
    axes.axvline(1.0, color="black", linewidth=0.8)
    for at, row in enumerate(rows):
        ours, theirs = (median(row[side]["requests_per_second"]) for side in ("ours", "theirs"))
        text = f"   {ours:,.0f} / {theirs:,.0f} a second"
        axes.text(max(row["ratio"]), at, text, va="center", fontsize=7)
    axes.margins(x=0.3)
    axes.set_title("requests a second in times of theirs, in turns")


def draw_client(figure: Figure, content: Content) -> None:
    axes = figure.subplots()
    summary = content["summary"]
    names = [f"{one['name']} / {one['floor']}" for one in summary]
    lists = [[one["ratio_spread"][0], one["ratio"], one["ratio_spread"][1]] for one in summary]
    dots(axes, names, {"": lists})
    axes.set_xlabel("the client's figure in times of its floor (log scale)")
    axes.axvline(1.0, color="black", linewidth=0.8)
    for at, one in enumerate(summary):
        text = f"   {one['figure']:,.0f} / {one['floor_figure']:,.0f} {one['unit']}"
        axes.text(one["ratio_spread"][1], at, text, va="center", fontsize=7)
    axes.margins(x=0.3)
    axes.set_title("the Python client")


DRAWINGS: dict[str | None, Drawing] = {
    "run": draw_run,
    "failover": draw_failover,
    "restart": draw_restart,
    "catchup": draw_catchup,
    "cost": draw_cost,
    "endurance": draw_endurance,
    "nodes": draw_nodes,
    "delay": draw_delay,
    "sizes": draw_sizes,
    "compare": draw_compare,
    "client": draw_client,
}
