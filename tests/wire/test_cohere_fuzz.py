"""Damaged answers of Cohere, Ollama and legacy completions: only a Problem comes of them."""

from __future__ import annotations

import random
from types import ModuleType

import pytest
from tests.wire import chat_recordings as rec
from tests.wire import test_cohere_recordings as kit
from tests.wire.test_openai_chat_fuzz import _damaged, _twisted

from lilliput.neutral import Ended, fold
from lilliput.wire import cohere, ollama
from lilliput.wire import completions as openai_completions
from lilliput.wire.cohere import v1 as cohere_v1
from lilliput.wire.ollama import generate as ollama_generate
from lilliput.wire.openai import reply as openai_reply

MODULES = {
    "cohere.v2": cohere,
    "cohere.v1": cohere_v1,
    "ollama.chat": ollama,
    "ollama.generate": ollama_generate,
    "openai.completions": openai_completions,
}


def _fuzz(api: str, module: ModuleType, times: int, seed: int) -> None:
    rng = random.Random(seed)
    answers = [i for i in rec.kit().interactions if i["api"] == api and len(rec.body(i)) < 30_000]
    for _ in range(times):
        i = rng.choice(answers)
        raw = rng.choice([_damaged, _twisted, _twisted])(rec.body(i), rng)
        cuts = sorted(rng.randrange(len(raw) + 1) for _ in range(rng.randrange(4)))
        events, trouble = kit.feed(module, raw, rng.random() < (0.9 if i["kind"] == "stream" else 0.2), cuts)
        reply = fold(events)
        ended = [e for e in events if isinstance(e, Ended)]
        assert trouble is not None or ended
        assert len({e.choice for e in ended}) == len(ended)
        assert all(e.id and e.name for c in reply.choices for e in c.calls)
        write = openai_reply.writer(kit.ASKED)
        assert b"".join(map(write, events)) + write.end()
        assert openai_reply.write_reply(reply, kit.ASKED)
        p = module.read_problem(rng.choice([200, 400, 401, 429, 500]), raw)
        assert len(p.say) <= 2000


@pytest.mark.parametrize("api", MODULES)
def test_only_problems_come_of_damage(api: str) -> None:
    _fuzz(api, MODULES[api], 2000, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 4))
@pytest.mark.parametrize("api", MODULES)
def test_only_problems_come_of_much_damage(api: str, seed: int) -> None:
    _fuzz(api, MODULES[api], 5000, seed)


@pytest.mark.parametrize("api", MODULES)
def test_half_a_whole_answer_is_cut(api: str) -> None:
    for i in kit.recorded(api)[:12]:
        raw = rec.body(i).strip()
        if i["kind"] != "stream" and len(raw) < 5000:
            for size in range(1, len(raw), 7):
                events, trouble = kit.feed(MODULES[api], raw[:size], False)
                assert trouble is not None, (i["id"], size)
                assert (trouble.code, events) == ("upstream_truncated", []), (i["id"], size)
