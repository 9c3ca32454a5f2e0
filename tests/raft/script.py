"""The language of `scripts/*.txt`: several cores, moved by hand, and what each of them did.

A line that begins with `> ` is a command; the lines below it, up to an empty one, are what it
printed (the golden part, `pytest tests/raft --rewrite` writes it anew); `#` begins a comment.
Numbers name nodes. Nothing moves by itself: messages wait until they are delivered or dropped,
works of a slow disk until they are synced. Entries are applied at once.

    nodes 1 2 3 [learners 4] [spare 5]   a cluster; spare ones have an empty configuration
    log 1 1 1 4 [term 7] [vote 2]  node 1's disk holds entries of terms 1 1 4 (before any command
                                   that lets time pass); its current term is the last or `term`
    timeout 1 15          node 1's next election timeouts (10 to 19 ticks; node n draws 10 + n)
    tick 1 [20]           time passes for node 1
    campaign 1            do not wait for the timeout
    elect 1 [without 3]   campaign and settle, quietly; the messages left are those of nobody
    propose 1 TEXT        a command
    change 1 voters 1,2,4 [learners 3]
    read 1 7              read 7 arrives at node 1
    transfer 1 2          hand leadership from 1 to 2
    flush 1               tell the commit index
    close 1 2             node 1 sees its connection to 2 break
    stall 1 on|off        node 1's disk does not answer
    room 1 ample|short|none   what node 1's disk still takes
    disk 1 slow|fast      works wait for `sync`, or are durable at once
    sync 1 [2]            the oldest work(s) are durable, and their replies leave
    sync 1 untold         the same, but the core does not hear of it yet
    told 1 TOKEN          the core hears that a work is durable
    deliver [1>2] [Kind] [xN] | drop … | repeat …   all that match, or the first N of them
    settle [without 3,4]   deliver until nothing is left; messages of 3 and 4 are lost
    send RequestVote 3>1 term=2 last_log_index=1   a message that no node sent;
                          `entries=2@1,3@4` are commands
    crash 1               power loss: what was not synced is gone
    start 1               begin again with what the disk holds
    quietly COMMAND       do it and print nothing
    network               the messages that wait
    state [1 2]           the nodes as they stand
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rsqlite.raft import messages
from rsqlite.raft.describe import message_text, output_lines, raft_lines
from rsqlite.raft.messages import Message
from rsqlite.raft.types import Configuration, Entry, EntryKind, HardState, Room
from tests.raft.cluster import Cluster, MemoryLog, Server, configuration, entries

COMMAND = "> "
STEPS_MAX = 10_000
"""A script whose messages never end is wrong."""


class Dice(random.Random):
    """Draws what the script says: an election timeout has to be known to be waited for."""

    def __init__(self, face: int) -> None:
        super().__init__(0)
        self.face = face

    def randrange(self, n: int, *_: object) -> int:  # type: ignore[override]
        return min(self.face, n - 1)

    def getrandbits(self, k: int, /) -> int:
        return 0


class Script:
    """One run of a script's commands."""

    def __init__(self) -> None:
        self.cluster = Cluster(())
        self.slow: set[int] = set()
        self.lines: list[str] = []
        self.is_quiet = False

    def execute(self, line: str) -> list[str]:
        """What the command printed."""
        name, *words = line.split()
        command: Callable[..., None] = getattr(self, f"do_{name}")
        self.lines = []
        command(*words)
        return self.lines

    # -- the world ------------------------------------------------------------------------------

    def do_bound(self, name: str, value: str) -> None:
        self.cluster.settings = replace(self.cluster.settings, **{name: int(value)})

    def do_nodes(self, *words: str) -> None:
        groups: dict[str, list[int]] = {"voters": [], "learners": [], "spare": []}
        group = "voters"
        for word in words:
            if word in groups:
                group = word
            else:
                groups[group].append(int(word))
        initial = configuration(groups["voters"], learners=groups["learners"])
        for node_id in sorted(groups["voters"] + groups["learners"] + groups["spare"]):
            mine = Configuration() if node_id in groups["spare"] else initial
            self.cluster.servers[node_id] = Server(
                node_id, mine, Dice(node_id), settings=self.cluster.settings
            )

    def do_log(self, node: str, *words: str) -> None:
        terms: list[int] = []
        options: dict[str, int] = {}
        rest = list(words)
        while rest:
            word = rest.pop(0)
            if word in ("term", "vote"):
                options[word] = int(rest.pop(0))
            else:
                terms.append(int(word))
        old = self.cluster.servers[int(node)]
        log = entries(*terms)
        term = options.get("term", terms[-1] if terms else 0)
        self.cluster.servers[old.node_id] = Server(
            old.node_id,
            old.database.initial,
            old.random,
            settings=old.settings,
            log=MemoryLog(log, HardState(term, options.get("vote"))),
        )
        # The oracle knows these entries as if they had been appended.
        previous = 0
        for entry in log:
            fact = (previous, entry.kind, entry.data)
            self.cluster.oracle.seen[entry.term, entry.index] = fact  # type: ignore[index]
            previous = entry.term

    def do_timeout(self, node: str, ticks: str) -> None:
        server = self.server(node)
        server.random.face = int(ticks) - self.cluster.settings.election_ticks  # type: ignore[attr-defined]
        server.core._state.draw_election_ticks()

    def do_disk(self, node: str, speed: str) -> None:
        server = self.server(node)
        if speed == "slow":
            self.slow.add(server.node_id)
        else:
            self.slow.discard(server.node_id)
            if server.raft is not None:
                self.acted(server)

    def do_quietly(self, name: str, *words: str) -> None:
        self.is_quiet = True
        getattr(self, f"do_{name}")(*words)
        self.is_quiet = False
        self.lines.clear()

    # -- what happens to one node -----------------------------------------------------------------

    def do_tick(self, node: str, n: str = "1") -> None:
        # One at a time, as a host that does not sleep.
        for _ in range(int(n)):
            self.server(node).core.tick()
            self.acted(self.server(node))

    def do_sleep(self, node: str, n: str) -> None:
        self.server(node).core.tick(int(n))
        self.acted(self.server(node))

    def do_campaign(self, node: str) -> None:
        self.server(node).core.campaign()
        self.acted(self.server(node))

    def do_elect(self, node: str, *words: str) -> None:
        self.do_quietly("campaign", node)
        self.do_quietly("settle", *words)
        self.do_state(node)

    def do_propose(self, node: str, *words: str) -> None:
        server = self.server(node)
        self.answer(server, server.core.propose(" ".join(words).encode()))

    def do_change(self, node: str, *words: str) -> None:
        parts = dict(zip(words[::2], words[1::2], strict=True))
        voters = map(int, parts["voters"].split(","))
        learners = map(int, parts["learners"].split(",")) if "learners" in parts else ()
        server = self.server(node)
        target = configuration(voters, learners=learners)
        self.answer(server, server.core.propose_configuration(target))

    def answer(self, server: Server, entry_id: object) -> None:
        if entry_id is None:
            self.print(server, "refused")
        self.acted(server)

    def do_read(self, node: str, context: str) -> None:
        server = self.server(node)
        self.cluster.oracle.read_begins(server, int(context))
        server.core.read_index(int(context))
        self.acted(server)

    def do_transfer(self, node: str, target: str = "") -> None:
        server = self.server(node)
        if not server.core.transfer_leadership(int(target) if target else None):  # type: ignore[arg-type]
            self.print(server, "refused")
        self.acted(server)

    def do_flush(self, node: str) -> None:
        self.server(node).core.flush_commit()
        self.acted(self.server(node))

    def do_close(self, node: str, peer: str) -> None:
        self.server(node).core.peer_closed(int(peer))  # type: ignore[arg-type]
        self.acted(self.server(node))

    def do_stall(self, node: str, state: str) -> None:
        self.server(node).core.disk_stalled(state == "on")
        self.acted(self.server(node))

    def do_room(self, node: str, room: str) -> None:
        self.server(node).core.room_left(Room[room.upper()])

    def do_sync(self, node: str, how: str = "1") -> None:
        server = self.server(node)
        for _ in range(1 if how == "untold" else int(how)):
            work = self.cluster.sync(server, tell=how != "untold")
            self.print(server, f"work {work.token} is durable")
        self.acted(server)

    def do_told(self, node: str, token: str) -> None:
        self.server(node).core.appended(int(token))
        self.acted(self.server(node))

    def do_crash(self, node: str) -> None:
        self.server(node).crash()

    def do_start(self, node: str) -> None:
        server = self.server(node)
        server.start()
        self.acted(server)

    # -- the network ------------------------------------------------------------------------------

    def do_send(self, kind: str, link: str, *fields: str) -> None:
        source, target = map(int, link.split(">"))
        values: dict[str, object] = {}
        for name, _, value in (field.partition("=") for field in fields):
            values[name] = _entries(value) if name == "entries" else int(value)
        self.cluster.network.append(getattr(messages, kind)(source, target, **values))

    def do_deliver(self, *words: str) -> None:
        for message in self.take(*words):
            self.give(message)

    def do_drop(self, *words: str) -> None:
        for message in self.take(*words):
            self.lines.append(f"lost: {message_text(message)}")

    def do_repeat(self, *words: str) -> None:
        self.cluster.network += [replace(one) for one in self.take(*words, keep=True)]

    def do_settle(self, *words: str) -> None:
        cut = set(map(int, words[1].split(","))) if words else set()
        network = self.cluster.network
        for _ in range(STEPS_MAX):
            if not network:
                break
            message = network.pop(0)
            if not {message.source, message.target} & cut:
                self.give(message)
            network = self.cluster.network
        else:
            raise AssertionError("the messages never end")

    def do_network(self) -> None:
        self.lines += [message_text(message) for message in self.cluster.network]

    def do_state(self, *nodes: str) -> None:
        for server in self.cluster.servers.values():
            if not nodes or str(server.node_id) in nodes:
                if server.raft is None:
                    self.lines.append(f"{server.node_id} is down")
                else:
                    self.lines += raft_lines(server.raft)

    # -- how it is done ---------------------------------------------------------------------------

    def server(self, node: str) -> Server:
        return self.cluster.servers[int(node)]

    def print(self, server: Server, line: str) -> None:
        if not self.is_quiet:
            self.lines.append(f"{server.node_id}: {line}")

    def take(self, *words: str, keep: bool = False) -> list[Message]:
        link, kind, count = None, None, STEPS_MAX
        for word in words:
            if ">" in word:
                link = tuple(map(int, word.split(">")))
            elif re.fullmatch(r"x\d+", word):
                count = int(word[1:])
            else:
                kind = word
        network = self.cluster.network
        found = [
            message
            for message in network
            if (link is None or (message.source, message.target) == link)
            and (kind is None or type(message).__name__ == kind)
        ][:count]
        assert found, f"nothing to take: {' '.join(words)}"
        if not keep:
            chosen = set(map(id, found))
            self.cluster.network = [m for m in network if id(m) not in chosen]
        return found

    def give(self, message: Message) -> None:
        server = self.cluster.servers[message.target]
        if server.raft is None:
            return
        server.raft.step(message)
        self.acted(server)

    def acted(self, server: Server) -> None:
        """Print and carry out what a node has to say, until it has nothing more."""
        while True:
            outputs = self.cluster.poll(server)
            for output in outputs:
                for line in output_lines(output):
                    self.print(server, line)
            if server.node_id not in self.slow and server.log.pending:
                while server.log.pending:
                    self.cluster.sync(server)
                continue
            server.apply()
            if not outputs:
                return


def _entries(text: str) -> tuple[Entry, ...]:
    """`2@1,3@4`: commands at 2 and 3, of terms 1 and 4, with the content that `log` gives them."""
    found = []
    for one in filter(None, text.split(",")):
        index, term = map(int, one.split("@"))
        found.append(Entry(term, index, EntryKind.COMMAND, one.encode()))  # type: ignore[arg-type]
    return tuple(found)


def run(path: Path) -> tuple[str, str]:
    """(the script as it is, the script with what its commands print now)."""
    text = path.read_text()
    script = Script()
    made: list[str] = []
    is_golden = False
    for line in text.splitlines():
        if line.startswith(COMMAND):
            if is_golden and made and made[-1] and not made[-1].startswith(COMMAND):
                made.append("")
            made.append(line)
            try:
                made += script.execute(line.removeprefix(COMMAND))
            except Exception as error:
                error.add_note(f"{path.name}: {line}")
                raise
            is_golden = True
        elif is_golden and line and not line.startswith("#"):
            continue
        else:
            is_golden = False
            if line or (made and made[-1]):
                made.append(line)
    return text, "\n".join(made).rstrip("\n") + "\n"
