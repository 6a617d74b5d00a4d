"""Recorded traffic of Ollama's own dialects: what was said is what we read, what was asked is what we write."""

from __future__ import annotations

from types import ModuleType

import pytest
from tests.wire import chat_recordings as rec
from tests.wire import test_cohere_recordings as kit

from lilliput.wire import ollama
from lilliput.wire.ollama import generate as ollama_generate

ROWS = [("ollama.chat", ollama, 8), ("ollama.generate", ollama_generate, 4)]


@pytest.mark.parametrize(("api", "module", "count"), ROWS)
def test_answers_say_what_was_recorded(api: str, module: ModuleType, count: int) -> None:
    answers = kit.recorded(api)
    assert len(answers) == count
    for i in answers:
        i = i if i["kind"] != "completion" else {**i, "kind": "chat"}
        assert not kit.differences(i, module)
        assert not kit.differences(i, module, kit.cuts_of(i, 17))
        assert not kit.differences(i, module, kit.cuts_of(i, 1))
        assert not kit.rewritten(i, module)
        assert not kit.asked(i, module)
        if i["kind"] == "stream":
            kit.never_clean(i, module, 97)


def test_a_missing_model_is_told_in_its_own_words() -> None:
    (i,) = kit.recorded("ollama.chat", 404)
    p = ollama.read_problem(404, rec.body(i))
    assert (p.status, p.fault) == (404, "missing")
    assert p.say == rec.kit().expect.error_facts(404, rec.body(i))["message"]
