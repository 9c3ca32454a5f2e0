"""/db/execute, /db/query and /db/request as rqlite speaks them; its quirks end here.

A `Plan` is what a request's head says: the route, the flags of its query string, the content type.
It turns a body into a `Request` and an answer into a `Reply`, without I/O; the plain path and the
short cut use the same plans, so they cannot differ. The short cut keeps a plan for each head it
has seen.
"""

from __future__ import annotations

from rsqlite.config import Settings
from rsqlite.errors import NotLeader, RequestError, RsqliteError
from rsqlite.request import Answer, Outcome, ReadLevel, Request, RequestKind
from rsqlite.server.answers import (
    INDEX,
    SERVED_BY,
    WRITE,
    Headers,
    Reply,
    error_reply,
    json_reply,
    text_reply,
)
from rsqlite.server.body import json_statements, text_statement
from rsqlite.server.compact import many_statements
from rsqlite.server.flags import Flags
from rsqlite.server.results import encode_outcome
from rsqlite.server.service import NodeService
from rsqlite.server.typed import typed_parameters

QUEUE_TEXT = "queued writes are not supported: send the request without queue"

DATABASE_PATHS = {
    "/db/execute": RequestKind.EXECUTE,
    "/db/query": RequestKind.QUERY,
    "/db/request": RequestKind.MIXED,
}

_LEADER_LEVELS = frozenset((ReadLevel.WEAK, ReadLevel.STRONG, ReadLevel.AUTO))


class Plan:
    """One kind of request: how to read its body and how to word its answer."""

    __slots__ = (
        "_pattern",
        "flags",
        "is_get",
        "is_text",
        "is_write",
        "kind",
        "settings",
        "target",
    )

    def __init__(
        self,
        kind: RequestKind,
        flags: Flags,
        *,
        content_type: str,
        settings: Settings,
        target: str,
        is_get: bool = False,
    ) -> None:
        self.kind = kind
        self.flags = flags
        self.settings = settings
        self.target = target
        self.is_get = is_get
        # /db/request takes JSON whatever its content type says, as in rqlite.
        self.is_text = content_type.startswith("text/plain") and kind is not RequestKind.MIXED
        self.is_write = kind is not RequestKind.QUERY
        # Copied for each request: that costs a fifth of naming fourteen fields.
        self._pattern = Request(
            kind,
            [],
            [],
            transaction=flags.transaction or flags.many,
            level=flags.level,
            freshness_s=flags.freshness_s,
            freshness_strict=flags.freshness_strict,
            min_index=flags.min_index,
            timeout_s=flags.timeout_s,
            linearizable_timeout_s=flags.linearizable_timeout_s,
            db_timeout_s=flags.db_timeout_s,
            qualify_columns=flags.qualify_columns,
            timings=flags.timings,
        )

    def refusal(self) -> Reply | None:
        """The answer to a request whose flags alone forbid it."""
        if self.flags.queue and self.kind is RequestKind.EXECUTE:
            return self.marked(text_reply(501, QUEUE_TEXT))
        return None

    def marked(self, reply: Reply) -> Reply:
        """A refusal of ours, which says of a write that it was not applied."""
        if not self.is_write:
            return reply
        return reply._replace(headers=(*reply.headers, (WRITE, "not-applied")))

    def may_be_dropped(self, answer: Answer) -> bool:
        """Whether nothing is lost with this answer: it only read."""
        return (
            self.kind is not RequestKind.EXECUTE
            and isinstance(answer, Outcome)
            and not answer.is_logged
        )

    def begin(self, body: bytes, node: NodeService) -> Request | Reply:
        """What to submit, or the answer that needs no node."""
        try:
            request = self.parse_url() if self.is_get else self.parse(body)
        except RsqliteError as error:
            return error_reply(error, is_write=self.is_write)
        return self.redirect(node) or request if self.flags.redirect else request

    def parse(self, body: bytes) -> Request:
        """The request in a body; RequestError says what is wrong with it."""
        if self.flags.many:
            sqls, parameters = many_statements(body, self.settings.statements_max)
        elif self.is_text:
            sqls, parameters = text_statement(body)
        else:
            convert = typed_parameters if self.flags.typed else None
            sqls, parameters = json_statements(body, self.settings.statements_max, convert)
        return self._request(sqls, parameters)

    def parse_url(self) -> Request:
        """The request of a GET, whose SQL is in `q`."""
        if self.flags.q is None:
            raise RequestError("query parameter not set")
        return self._request([self.flags.q], [None])

    def _request(self, sqls: list[str], parameters: list[object]) -> Request:
        request: Request = self._pattern.__copy__()  # type: ignore[attr-defined]
        request.sqls = sqls
        request.parameters = parameters
        return request

    def redirect(self, node: NodeService) -> Reply | None:
        """The answer that sends a client to the leader, where only the leader can serve it."""
        if node.is_leader:
            return None
        if self.is_write:
            # Only SQLite can tell whether a mixed request writes; at level none it may stay here.
            if self.kind is RequestKind.MIXED and self.flags.level is ReadLevel.NONE:
                return None
        elif self.flags.level not in _LEADER_LEVELS:
            return None
        return leader_redirect(node, self.target, is_write=self.is_write)

    def encode(self, outcome: Outcome, elapsed_s: float) -> bytes | Reply:
        """The body of a successful answer, or the error when JSON cannot hold it."""
        try:
            return encode_outcome(outcome, self.flags, elapsed_s)
        except RsqliteError as error:
            return error_reply(error, is_write=self.is_write)

    def reply(self, answer: Answer, here: str, elapsed_s: float) -> Reply:
        """The answer in HTTP. `here` is the address that clients are told."""
        if isinstance(answer, Outcome):
            body = self.encode(answer, elapsed_s)
            if isinstance(body, Reply):
                return body
            headers: Headers = ((SERVED_BY, answer.served_by or here),)
            if answer.index:
                headers = (*headers, (INDEX, str(answer.index)))
            return json_reply(body, headers)
        return error_reply(answer, is_write=self.is_write, is_pretty=self.flags.pretty)


def find_database_path(path: str, method: str) -> RequestKind | None:
    """What a path (without escapes) and method of /db/* ask for. Paths match by their beginning."""
    if method == "POST" or method == "GET":
        for start, kind in DATABASE_PATHS.items():
            if path.startswith(start) and (method == "POST" or kind is RequestKind.QUERY):
                return kind
    return None


def split_target(target: str) -> tuple[str, str]:
    """Path and query of a request target that begins with a slash."""
    path, _, query = target.partition("#")[0].partition("?")
    return path, query


def leader_redirect(node: NodeService, target: str, *, is_write: bool) -> Reply:
    """301 to the leader's address with the same path and query, or 503 when nobody leads."""
    leader = node.leader
    if leader is None or not leader.http_addr:
        return error_reply(NotLeader(), is_write=is_write)
    address = leader.http_addr
    if "://" not in address:
        address = f"http://{address}"
    location = "".join(c if " " < c < "\x7f" else "" for c in target)
    return Reply(301, b"", "", (("Location", f"{address.rstrip('/')}{location}"),))
