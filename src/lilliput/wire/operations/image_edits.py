"""Images made over: OpenAI's form alone, as JSON with links or as multipart with files."""

from __future__ import annotations

from lilliput.neutral import Sent, Target
from lilliput.wire.operations import multipart
from lilliput.wire.operations.images import read_passing, watch
from lilliput.wire.operations.images_form import Body, Filled, check_edit
from lilliput.wire.operations.modality import JSON, Adapter, Operation, endpoint, openai_form, rewrite
from lilliput.wire.port import Headers

PATH = "/images/edits"


def _endpoint(target: Target, asked: Body | Filled) -> tuple[str, Headers]:
    kind = multipart.content_type(asked.form.boundary) if isinstance(asked, Filled) else JSON
    return endpoint(target, PATH, kind)


def _write(body: bytes, asked: Body | Filled, target: Target) -> Sent:
    if isinstance(asked, Body):
        return rewrite(body, asked, target)
    return Sent(multipart.write(multipart.with_text(asked.form, "model", target.model), asked.form.boundary))


ADAPTERS: dict[str, Adapter[Body | Filled]] = openai_form(
    Adapter(_endpoint, _write, read_passing, varies=True, watch=watch)
)
OPERATION: Operation[Body | Filled] = Operation("image edit", PATH, check_edit, ADAPTERS, form=True)
