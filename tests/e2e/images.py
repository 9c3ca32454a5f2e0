"""Acceptance of images: a follower is stopped while a million rows are written, its log position is
cut away on the others, and it comes back by an image, under load.

    python tests/e2e/images.py [--rows 1000000] [--cuts 10] [--kills 60] [--results DIR]

Three parts, one after the other, on one cluster of three processes:

rate    the median of the writes a second, in windows of one second, from the follower's start until
        the image is installed, must be at least half of that of the minute before.
cuts    the same with the transfer broken at a random byte, in one of the ways of `relay.py`.
kills   the same with the receiver killed: when it has the manifest, in the middle of the transfer,
        and right after each call that makes a name or data durable, from the image's own sync to
        where it serves again; and every other time once more at its next start.

After each the nodes hold the same as of one entry, and nothing is left of how it came to that. In
the end all acknowledged rows are there, and the files of the stopped nodes are sound and equal.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from rsqlite.testing.cluster import ClusterError, NodeState, wait_for  # noqa: E402
from tests.e2e import tracing  # noqa: E402
from tests.e2e.accept import conclude, machine, say  # noqa: E402
from tests.e2e.files import database_path  # noqa: E402
from tests.e2e.left_behind import (  # noqa: E402
    COME_BACK_S,
    LeftBehind,
    events,
    names_in,
    wait_event,
)
from tests.e2e.load import median_rate, rates  # noqa: E402
from tests.e2e.relay import CUTS, Relays  # noqa: E402

RATIO_MIN = 0.5
"""Writes during a transfer against those before it."""
WARM_UP_S = 5.0
AFTER_S = 10.0
GENTLE_CLIENTS, GENTLE_PAUSE_S = 4, 0.02
"""The load beside cuts and kills: it is there to be lost, not to fill the disk."""
SECOND_KILL_CALLS = 25
"""A second kill comes after one of so many calls of the next life."""
INSTALLED = "image installed"


# The rate


def measure_rate(scene: LeftBehind, *, clients: int, before_s: float) -> dict[str, Any]:
    """Writes a second before and while the receiver comes back."""
    leader, receiver = scene.leader(), scene.receiver
    busy = os.getloadavg()[0]
    with scene.load(clients=clients) as load:
        time.sleep(WARM_UP_S)
        begin = time.time()
        time.sleep(before_s)
        started = time.time()
        receiver.start()
        installed = wait_event(receiver, INSTALLED, started, COME_BACK_S)
        scene.wait_level()
        level = time.time()
        time.sleep(AFTER_S)
        end = time.time()
    assert scene.leader() is leader, "the leader changed while it was measured"
    seen = events(receiver, started)
    offered, size = seen["image offered"][0], seen["image is there"][1]["bytes"]
    times = load.acknowledged.times
    before = median_rate(times, begin, started)
    coming_back = rates(times, started, installed)
    return {
        "clients": clients,
        "load_average_at_begin": round(busy, 2),
        "image_bytes": size,
        "seconds": {
            "making": round(offered - started, 2),
            "transfer": round(installed - offered, 2),
            "catching_up": round(level - installed, 2),
        },
        "rate_before": before,
        "rate_during": median(coming_back),
        "rate_during_making": median_rate(times, started, offered),
        "rate_during_transfer": median_rate(times, offered, installed),
        "rate_after": median_rate(times, level, end),
        "windows_during": coming_back,
        "ratio": round(median(coming_back) / before, 3),
        "ratio_of_transfer": round(median_rate(times, offered, installed) / before, 3),
        "troubles": load.troubles,
    }


# Cuts


def cut_transfer(scene: LeftBehind, number: int, chance: random.Random) -> dict[str, Any]:
    """Break one transfer; it must go on where it was, once the network is well."""
    cut = CUTS[number % len(CUTS)]
    leader, receiver = scene.leader(), scene.receiver
    size = database_bytes(scene)
    relay = scene.relay_of(leader)
    after, carried = chance.randrange(size), relay.image_bytes
    happened = relay.cut(cut, after)
    started = time.time()
    receiver.start()
    wait_event(receiver, INSTALLED, started, COME_BACK_S)
    scene.wait_level()
    carried = relay.image_bytes - carried
    what = f"{cut} after {after} of {size} bytes"
    if not happened.is_set():
        scene.problems.append(f"{what}: the transfer was never cut")
    # What a break costs is a chunk; the digests of the manifest come twice.
    if carried > size * 1.02 + (8 << 20):
        scene.problems.append(f"{what}: {carried} bytes were sent, so it began anew")
    scene.check(what)
    return {
        "cut": cut,
        "after_bytes": after,
        "image_bytes": size,
        "carried_bytes": carried,
        "seconds": round(events(receiver, started)[INSTALLED][0] - started, 2),
    }


def database_bytes(scene: LeftBehind) -> int:
    """What an image of the leader's database will hold, about."""
    return database_path(scene.leader().directory).stat().st_size


# Kills


def kill_when(scene: LeftBehind, point: str, chance: random.Random) -> str | None:
    """Start the receiver and kill it at a point that is seen from outside, in `incoming`. What was
    seen; None if it was over before anybody looked."""
    receiver = scene.receiver
    incoming = receiver.directory / "incoming"
    started = time.time()
    wanted = 0 if point == "manifest" else chance.randrange(1, database_bytes(scene))
    receiver.start()

    def look() -> str | None:
        if INSTALLED in events(receiver, started):
            return ""
        for name in names_in(incoming):
            size = (incoming / name).stat().st_size if (incoming / name).exists() else 0
            if size >= wanted:
                return f"{point}: {size} bytes of {name}"
        return None

    seen = wait_for(look, COME_BACK_S, receiver.log_tail, receiver.check_alive)
    if seen:
        receiver.kill()
    return seen or None


def kill_after_call(scene: LeftBehind, is_it: Callable[[str, int], bool]) -> str | None:
    """Start the receiver, and kill it after the first call for which `is_it(call, number)`; number
    1 is what makes the whole image durable. The call; None if it is installed and served before."""
    receiver, seen = scene.receiver, 0
    started = time.time()

    def goes_on() -> bool:
        return not (INSTALLED in events(receiver, started) and receiver.is_ready())

    with tracing.traced(receiver) as calls:
        for call in calls.until(goes_on, COME_BACK_S):
            if seen or (call.startswith("fsync(") and ".part" in call):
                seen += 1
                if is_it(call, seen):
                    receiver.kill()
                    return call
    return None


def kill_in_next_life(scene: LeftBehind, chance: random.Random) -> str:
    """Start the receiver, and kill it after some of its first calls."""
    receiver, seen = scene.receiver, 0
    number = chance.randint(1, SECOND_KILL_CALLS)
    with tracing.traced(receiver) as calls:
        for call in calls.until(lambda: not receiver.is_ready(), COME_BACK_S):
            seen += 1
            if seen == number:
                receiver.kill()
                return call
    return "ready"


def kill_receiver(
    scene: LeftBehind, point: str | int, chance: random.Random
) -> dict[str, Any] | None:
    """One kill, perhaps a second one, and the way back; None when there is no such point."""
    if isinstance(point, int):
        call = kill_after_call(scene, lambda _, number: number == point)
    else:
        call = kill_when(scene, point, chance)
    again = kill_in_next_life(scene, chance) if call and chance.random() < 0.5 else None
    if scene.receiver.state is NodeState.DOWN:
        scene.receiver.start()
    scene.wait_level()
    scene.check(f"killed at {point} ({call}), then at {again}")
    return None if call is None else {"point": point, "after": call, "again_after": again}


def kills(scene: LeftBehind, chance: random.Random, most: int) -> list[dict[str, Any]]:
    """Every point, in order, but no more than so many."""
    points: list[str | int] = ["manifest", "chunk", "chunk", "chunk", *range(1, most)]
    done = []
    for point in points[:most]:
        scene.leave_behind()
        one = kill_receiver(scene, point, chance)
        say(f"  killed: {one}")
        if one is not None:
            done.append(one)
        elif isinstance(point, int):
            return done  # it was past everything
    scene.problems.append(f"there are more points than {most}")
    return done


# All of it


def run(arguments: argparse.Namespace, directory: Path) -> dict[str, Any]:
    """The parts that are asked for; what was found, with the problems."""
    chance = random.Random(arguments.seed)
    scene = LeftBehind(directory, rows=arguments.rows, row_bytes=arguments.row_bytes, chance=chance)
    found: dict[str, Any] = {"rows": arguments.rows, "seed": arguments.seed}
    begin = time.monotonic()
    try:
        scene.start()
        run_parts(scene, arguments, chance, found)
    except (ClusterError, OSError) as error:
        scene.problems.append(str(error))
    finally:
        scene.cluster.close()
    found["acknowledged"] = scene.acknowledged
    found["seconds"] = round(time.monotonic() - begin, 1)
    found["problems"] = scene.problems
    return found


def run_parts(
    scene: LeftBehind, arguments: argparse.Namespace, chance: random.Random, found: dict[str, Any]
) -> None:
    found["rates"], found["cuts"], found["kills"] = [], [], []
    rows = arguments.rows
    for _ in range(arguments.repeat):
        scene.leave_behind(rows=rows)
        rows = 0  # all are there from now on
        one = measure_rate(scene, clients=arguments.clients, before_s=arguments.before)
        scene.check("after a measurement")
        found["rates"].append(one)
        say(f"  rate: {json.dumps(one)}")
    if found["rates"] and (ratio := ratio_of(found["rates"])) < RATIO_MIN:
        scene.problems.append(f"writes fell to {ratio:.2f} of those before")
    with Relays() as relays:
        if arguments.cuts or arguments.kills:
            scene.use_relays(relays)
            with scene.load(clients=GENTLE_CLIENTS, pause_s=GENTLE_PAUSE_S):
                scene.write_rows(rows)
                run_faults(scene, arguments, chance, found)
        scene.finish()


def run_faults(
    scene: LeftBehind, arguments: argparse.Namespace, chance: random.Random, found: dict[str, Any]
) -> None:
    for number in range(arguments.cuts):
        scene.leave_behind()
        found["cuts"].append(cut_transfer(scene, number, chance))
        say(f"  cut: {found['cuts'][-1]}")
    if arguments.kills:
        found["kills"] = kills(scene, chance, arguments.kills)


def ratio_of(measured: Sequence[dict[str, Any]]) -> float:
    """Of the repetitions, the one in the middle: other work on the machine spoils single ones."""
    return float(median(one["ratio"] for one in measured))


def write_results(directory: Path, command: list[str], found: dict[str, Any]) -> None:
    """`images.json` and `images.md`."""
    directory.mkdir(parents=True, exist_ok=True)
    content = {"command": " ".join(command), "machine": machine(), **found}
    (directory / "images.json").write_text(json.dumps(content, indent=2) + "\n")
    lines = [
        "# Images: a follower that was left behind comes back",
        "",
        f"`{content['command']}` on {', '.join(f'{k} {v}' for k, v in machine().items())}.",
        "",
        "Writes acknowledged a second, medians of windows of one second. `during` is from the start"
        " of the follower's process until the image is installed.",
        "",
        "| clients | image MB | before | during | ratio | in the transfer | after | seconds |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for one in found["rates"]:
        lines.append(
            f"| {one['clients']} | {one['image_bytes'] / 1e6:.0f} | {one['rate_before']:.0f} "
            f"| {one['rate_during']:.0f} | {one['ratio']} | {one['ratio_of_transfer']} "
            f"| {one['rate_after']:.0f} | {sum(one['seconds'].values()):.1f} |"
        )
    lines += ["", "| transfer cut by | after MB | of | seconds to the end |", "| --- " * 4 + "|"]
    for one in found["cuts"]:
        lines.append(
            f"| {one['cut']} | {one['after_bytes'] / 1e6:.0f} | {one['image_bytes'] / 1e6:.0f} "
            f"| {one['seconds']} |"
        )
    lines += ["", "| receiver killed after | and again after |", "| --- | --- |"]
    for one in found["kills"]:
        lines.append(f"| `{one['after']}` | {one['again_after'] or ''} |")
    verdict = "FAILED" if found["problems"] else "passed"
    lines += ["", f"{found['acknowledged']} acknowledged rows, all there. Result: {verdict}.", ""]
    lines += [f"- {problem.splitlines()[0]}" for problem in found["problems"]]
    (directory / "images.md").write_text("\n".join(lines).rstrip() + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--row-bytes", type=int, default=300)
    parser.add_argument("--clients", type=int, default=16, help="of the load that is measured")
    parser.add_argument("--before", type=float, default=60.0, help="seconds measured before")
    parser.add_argument("--repeat", type=int, default=3, help="times that the rate is measured")
    parser.add_argument("--cuts", type=int, default=10)
    parser.add_argument("--kills", type=int, default=80, help="the most kills; 0 for none")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--results", type=Path, help="write images.json and images.md there")
    parser.add_argument("--directory", type=Path, help="where data goes")
    arguments = parser.parse_args()
    if arguments.kills and not tracing.is_available():
        say("strace is not there, so the receiver can be killed at no step")
        return 2
    directory = Path(tempfile.mkdtemp(prefix="rsqlite-images-", dir=arguments.directory))
    say(f"seed {arguments.seed}, in {directory}")
    found = run(arguments, directory)
    say(json.dumps(found, indent=2))
    if arguments.results:
        write_results(arguments.results, ["python", "tests/e2e/images.py", *sys.argv[1:]], found)
    return conclude(directory, found["problems"])


if __name__ == "__main__":
    sys.exit(main())
