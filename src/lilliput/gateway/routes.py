"""The route table: every path the gateway answers, its permission, and who answers it. The one place to add a route.

Hot routes run on `exchange` over raw connections; cold ones on Starlette. Both are admitted by the same rule, from
the same row, whichever server is in front.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Literal
from urllib.parse import unquote

from msgspec import Struct, structs

from lilliput.gateway.chat import Chat
from lilliput.gateway.convert import Convert
from lilliput.gateway.count import Count
from lilliput.gateway.exchange import Operation
from lilliput.gateway.files import Files
from lilliput.gateway.gates import Gate, Headers, admit, may_scrape
from lilliput.neutral import Key, Problem
from lilliput.wire.gemini import embeddings as gemini_embeddings
from lilliput.wire.operations import files

Permission = Literal["open", "key", "metrics"]
Cold = Callable[..., object]
"""A Starlette endpoint."""

NOBODY = Key(id="-")


class Route(Struct, frozen=True, eq=False):
    """`operation` for a hot route, `name` of the endpoint in `cold` for a cold one."""

    method: Literal["GET", "POST", "DELETE"]
    path: str
    permission: Permission
    operation: Operation | None = None
    name: str = ""

    @property
    def dialect(self) -> str:
        """The one that problems are told in."""
        if self.operation is not None:
            return self.operation.dialect
        mounts = {"/v1beta/": "gemini", "/anthropic/": "anthropic"}
        return next((dialect for mount, dialect in mounts.items() if self.path.startswith(mount)), "openai_chat")


CHAT = Chat("chat", "openai_chat")
RESPONSES = Chat("responses", "openai_responses")
MESSAGES = Chat("messages", "anthropic")
GENERATE = Chat("generate", "gemini")
COMPLETIONS = Chat("completions", "openai_completions")
FILES = Files()
EMBED = Convert("embeddings", "gemini", turned_in=gemini_embeddings.to_openai, turned_out=gemini_embeddings.from_openai)

_OPENAI: tuple[Route, ...] = (
    Route("POST", "/v1/chat/completions", "key", CHAT),
    Route("POST", "/v1/responses", "key", RESPONSES),
    Route("POST", "/v1/completions", "key", COMPLETIONS),
    Route("POST", "/v1/embeddings", "key", Convert("embeddings")),
    Route("POST", "/v1/rerank", "key", Convert("rerank")),
    Route("POST", "/v1/audio/transcriptions", "key", Convert("transcription")),
    Route("POST", "/v1/audio/translations", "key", Convert("translation")),
    Route("POST", "/v1/audio/speech", "key", Convert("speech")),
    Route("POST", "/v1/images/generations", "key", Convert("images")),
    Route("POST", "/v1/images/edits", "key", Convert("image_edits")),
    Route("POST", "/v1/moderations", "key", Convert("moderation")),
    *(Route(method, f"/v1{path.replace('{id}', '{id:path}')}", "key", FILES) for method, path in files.PATHS),
    Route("GET", "/v1/models", "key", name="models"),
    Route("GET", "/v1/models/{id:path}", "key", name="model"),
)
"""Also answered under /openai, the path of many clients' settings."""

TABLE: tuple[Route, ...] = (
    *_OPENAI,
    *(structs.replace(r, path=f"/openai{r.path}") for r in _OPENAI),
    *(
        Route("POST", f"/{v}/models/{{id:path}}:{method}", "key", GENERATE)
        for v in ("v1beta", "v1")
        for method in ("generateContent", "streamGenerateContent")
    ),
    *(
        Route("POST", f"/{v}/models/{{id:path}}:{method}", "key", EMBED)
        for v in ("v1beta", "v1")
        for method in ("embedContent", "batchEmbedContents")
    ),
    *(
        Route("POST", f"/{v}/models/{{id:path}}:countTokens", "key", Count("gemini", "count_generate"))
        for v in ("v1beta", "v1")
    ),
    Route("GET", "/v1beta/models", "key", name="models"),
    Route("GET", "/v1beta/models/{id:path}", "key", name="model"),
    *(Route("POST", f"{mount}/v1/messages", "key", MESSAGES) for mount in ("", "/anthropic")),
    *(Route("POST", f"{mount}/v1/messages/count_tokens", "key", Count("anthropic")) for mount in ("", "/anthropic")),
    Route("GET", "/anthropic/v1/models", "key", name="models"),
    Route("GET", "/v1/responses/{id:path}", "key", name="response"),
    Route("DELETE", "/v1/responses/{id:path}", "key", name="delete_response"),
    Route("GET", "/v1/usage", "key", name="usage"),
    Route("GET", "/v1/credits", "key", name="credits"),
    Route("GET", "/v1/tasks", "key", name="tasks"),
    Route("POST", "/v1/tasks", "key", name="create_task"),
    Route("POST", "/v1/tasks/{id:path}/state", "key", name="task_state"),
    Route("POST", "/v1/tasks/{id:path}/student", "key", name="task_student"),
    Route("POST", "/v1/tasks/{id:path}/feedback", "key", name="task_feedback"),
    Route("POST", "/v1/tasks/{id:path}/rows", "key", name="add_task_rows"),
    Route("GET", "/v1/tasks/{id:path}/rows", "key", name="task_rows"),
    Route("GET", "/v1/tasks/{id:path}/audits", "key", name="task_audits"),
    Route("GET", "/v1/tasks/{id:path}/savings", "key", name="task_savings"),
    Route("GET", "/v1/tasks/{id:path}", "key", name="task"),
    Route("DELETE", "/v1/tasks/{id:path}", "key", name="delete_task"),
    Route("POST", "/v1/forget", "key", name="forget"),
    Route("GET", "/", "open", name="root"),
    Route("GET", "/healthz", "open", name="healthz"),
    Route("GET", "/readyz", "open", name="readyz"),
    Route("GET", "/version", "open", name="version"),
    Route("GET", "/metrics", "metrics", name="metrics"),
    Route("GET", "/openapi.json", "open", name="openapi"),
)


class Routes:
    """`TABLE` made ready for look-up: a dict for plain paths, patterns for those with a parameter."""

    def __init__(self, table: Sequence[Route] = TABLE) -> None:
        self.table = table
        self._plain: dict[tuple[str, str], Route] = {(r.method, r.path): r for r in table if "{" not in r.path}
        self._raw = {(method.encode(), path.encode()): route for (method, path), route in self._plain.items()}
        self._patterns = [(r, _pattern(r.path)) for r in table if "{" in r.path]

    def find_raw(self, method: bytes, target: bytes) -> Route:
        """The route for a request line's own bytes; raises Problem like `find`, also 400 for a bad target."""
        route = self._raw.get((method, target))
        if route is not None:
            return route
        return self.find("GET" if method == b"HEAD" else method.decode("latin-1"), path_of(target))

    def find(self, method: str, path: str) -> Route:
        """The route for a decoded path; raises Problem 404 (with the nearest path) or 405 (with those allowed)."""
        route = self._plain.get((method, path))
        if route is not None:
            return route
        for route, pattern in self._patterns:
            if route.method == method and pattern.fullmatch(path):
                return route
        allowed = sorted({r.method for r in self.table if r.path == path})
        allowed += sorted({r.method for r, pattern in self._patterns if pattern.fullmatch(path)})
        if allowed:
            say = f"{method} is not answered at {path!r}; use {' or '.join(allowed)}"
            raise Problem("client", say, 405, code="method_not_allowed", allow=", ".join(allowed))
        near = get_close_matches(path, [r.path for r in self.table], 1, 0.5)
        hint = f"; did you mean {near[0]!r}?" if near else "; GET /openapi.json lists what is"
        raise Problem("missing", f"nothing is at {path[:200]!r}{hint}", code="not_found")


def path_of(raw: bytes) -> str:
    """The decoded path of a request target, origin form or absolute; raises Problem (400) for any other."""
    if raw[:1] != b"/":
        scheme, colon, rest = raw.partition(b"://")
        if not colon or scheme.lower() not in (b"http", b"https"):
            raise Problem("client", "the request target must be a path", code="bad_target")
        raw = b"/" + rest.partition(b"/")[2]
    path = raw.partition(b"?")[0].partition(b"#")[0]
    if b"%" not in path:
        return path.decode("latin-1")
    return unquote(path.decode("latin-1"))


def enter(gate: Gate, route: Route, headers: Headers) -> Key:
    """The key under which this request runs; raises Problem (401, 403). Each permission is spelt out here."""
    if route.permission == "open":
        return NOBODY
    if route.permission == "metrics":
        return may_scrape(gate, headers) or NOBODY
    return admit(gate, headers)


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.escape(path).replace(r"\{id:path\}", "(.+)"), re.DOTALL)
