"""A command line brought over from rqlited: what becomes of each of its 68 flags."""

from __future__ import annotations

import re

import pytest

from rsqlite.cli.options import configure, options, read_flags
from rsqlite.cli.rqlited_flags import FLAGS, judge

# Of rqlited 10, `rqlited -help`.
RQLITED = re.findall(
    r"\S+",
    """
version extensions-path cdc-config otlp-endpoint otlp-interval otlp-insecure otlp-no-verify
otlp-ca-cert otlp-cert otlp-key http-addr http-adv-addr http-allow-origin auth auto-backup
auto-restore http-ca-cert http-cert http-key http-verify-client http-verify-common-name
node-ca-cert node-cert node-key node-no-verify node-verify-client node-verify-server-name
node-verify-common-name node-id compress-snap-transport raft-addr raft-adv-addr join join-attempts
join-interval join-as bootstrap-expect bootstrap-expect-timeout disco-mode disco-key disco-config
fk db-max-ro-conns auto-vacuum-int auto-optimize-int raft-log-level raft-non-voter raft-snap
raft-snap-wal-size raft-snap-int raft-leader-lease-timeout raft-heartbeat-timeout
raft-election-timeout raft-commit-timeout raft-apply-timeout raft-remove-shutdown
raft-cluster-remove-shutdown raft-shutdown-stepdown raft-reap-node-timeout
raft-reap-read-only-node-timeout cluster-connect-timeout write-queue-capacity
write-queue-batch-size write-queue-timeout write-queue-tx cpu-profile mem-profile trace-profile
""",
)


def test_every_flag_of_rqlited_is_known_under_exactly_one_head() -> None:
    ours = {one.flag for one in options()} | {"version"}
    assert len(RQLITED) == 68
    assert set(RQLITED) - ours == set(FLAGS)


def test_a_tuning_flag_without_meaning_here_is_accepted_and_noted() -> None:
    configuration = configure(
        read_flags(["-raft-snap-wal-size", "1024", "-raft-log-level=INFO"]).values, {}
    )
    assert configuration.problems == ()
    assert len(configuration.notes) == 2
    assert configuration.notes[1].startswith("-raft-log-level has no effect")


@pytest.mark.parametrize("name", [name for name, flag in FLAGS.items() if not flag.without_effect])
def test_a_flag_that_would_be_missed_is_an_error_unless_it_asks_for_nothing(name: str) -> None:
    problem, note = judge(name, "something")
    assert name in problem
    assert not note
    assert judge(name, FLAGS[name].default) == ("", "")


def test_a_renamed_flag_names_ours() -> None:
    known = {one.flag for one in options()}
    for name, flag in FLAGS.items():
        if flag.renamed:
            assert flag.renamed in known
            assert f"-{flag.renamed}" in judge(name, "3s")[0]


def test_a_switch_takes_no_value_from_the_next_word() -> None:
    line = read_flags(["-raft-non-voter", "dir"])
    assert line.values == {"raft-non-voter": "true"}
    assert line.arguments == ["dir"]
