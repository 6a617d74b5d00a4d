"""What a request may take, put aside before it goes out: its share of the rate limits, and the most it may cost.

It is settled once from what the answer really used, before the caller learns that the answer is over; a request that
came to nothing gets both back. Whoever has no ledger and no limits pays nothing for this.
"""

from __future__ import annotations

from collections.abc import Callable

from lilliput.catalogue.price import cost_nusd, rates
from lilliput.catalogue.rows import Model, Price
from lilliput.gateway.limit_headers import lines
from lilliput.gateway.limits import Limiter, may_pass
from lilliput.gateway.observe import Record
from lilliput.money import Hold, Ledger, Settlement
from lilliput.neutral import Key, Problem, Target, Usage

LEASE_S = 900.0
"""A hold outlives every honest request; what dies with its process is freed after this."""
UNSAID_TOKENS = 16_384
"""The longest answer that is reckoned with when neither the caller nor the catalogue bounds it."""
BYTES_A_TOKEN = 4
_MTOK = 1_000_000


class Till:
    """The rate limits and the ledger of one gateway; either may be missing. `price` and `model` ask the catalogue by
    `provider/model`; `snapshot` names the prices."""

    def __init__(
        self,
        *,
        limiter: Limiter | None = None,
        ledger: Ledger | None = None,
        price: Callable[[str], Price | None] = lambda id: None,
        model: Callable[[str], Model | None] = lambda id: None,
        snapshot: str = "",
        clock: Callable[[], float],
    ) -> None:
        self.limiter, self.ledger = limiter, ledger
        self._price, self._model, self._snapshot, self._clock = price, model, snapshot, clock

    async def open(self, key: Key, target: Target, record: Record, prompt_bytes: int, most: int | None) -> None:
        """Takes the request's share of its limits and holds what it may cost; raises Problem (400, 402, 429, 503).

        `most` is the longest answer, in tokens, that the caller asked for; None where it set no bound.
        """
        record.prompt_tokens = prompt_bytes // BYTES_A_TOKEN
        if self.limiter is not None:
            record.taken = await self.limiter.take(key, target.id, lambda: (record.prompt_tokens, most))
            if record.taken is not None:
                record.lines = lines(record.taken)
                may_pass(record.taken)
        if self.ledger is not None:
            amount = await self._ceiling(self.ledger, key, target.id, prompt_bytes, most)
            hold = Hold(
                id=record.request_id.decode(),
                account=key.id,
                amount_nusd=amount,
                lease_s=LEASE_S,
                operation=record.operation,
                model=record.model,
            )
            await self.ledger.hold(hold)
            record.is_held = True

    async def settle(self, record: Record) -> None:
        """Turns what was put aside into what was used; does nothing the second time."""
        if record.taken is not None and self.limiter is not None:
            taken, record.taken = record.taken, None
            if taken.passed:
                usage = record.usage
                self.limiter.settle(taken, None if usage is None else usage.total_tokens)
        if not record.is_held or self.ledger is None:
            return
        record.is_held = False
        price = self._price(record.served_by)
        usage = record.usage or _estimate(record)
        record.cost_nusd = None if price is None else cost_nusd(price, usage, record.began_at)
        await self.ledger.settle(record.request_id.decode(), self._told(record, record.cost_nusd, usage))

    async def close(self, record: Record) -> None:
        """At the end of every request: what was not settled is settled if something was delivered, else given back."""
        if record.usage is not None or record.pieces:
            await self.settle(record)
            return
        if record.taken is not None and self.limiter is not None:
            taken, record.taken = record.taken, None
            if taken.passed:
                self.limiter.give_back(taken)
        if record.is_held and self.ledger is not None:
            record.is_held = False
            await self.ledger.release(record.request_id.decode(), self._told(record, 0, None))

    async def _ceiling(self, ledger: Ledger, key: Key, id: str, prompt_bytes: int, most: int | None) -> int:
        """The most that the request may cost: a token has at least a byte, and no prompt is longer than the context."""
        price = self._price(id)
        if price is None:
            await _refuse_unpriced(ledger, key, id)
            return 0
        model = self._model(id)
        context = model.context_tokens if model is not None else 0
        prompt = min(prompt_bytes, context) if context else prompt_bytes
        longest = most or (model.max_output_tokens if model is not None else 0) or UNSAID_TOKENS
        p = rates(price, prompt, self._clock())
        read = max(p.input, *(n or 0 for n in (p.cache_write, p.cache_write_1h, p.input_audio, p.input_image)))
        write = max(p.output, *(n or 0 for n in (p.reasoning, p.output_audio, p.output_image)))
        return -(-(prompt * read + longest * write) // _MTOK) + p.per_request

    def _told(self, record: Record, cost: int | None, usage: Usage | None) -> Settlement:
        return Settlement(
            cost_nusd=cost,
            usage=usage,
            served=record.served_by,
            price=self._snapshot,
            tries=record.tries,
            status=200 if record.problem is None else record.problem.status,
            latency_ms=max(0, round((self._clock() - record.began_at) * 1000)),
            left_early=record.left_early,
        )


async def _refuse_unpriced(ledger: Ledger, key: Key, id: str) -> None:
    """Raises Problem (400) for a model without a price where a limit or credits stand above the key."""
    at: str | None = key.id
    while at is not None:
        account = await ledger.account(at)
        if account is None:
            return
        if account.limit_nusd is not None or account.credit_nusd is not None:
            say = (
                f"the price of {id!r} is not known and account {at!r} has a budget: "
                f'set [models."{id}".price], or ask another model'
            )
            raise Problem("client", say, code="price_unknown", param="model")
        at = account.parent


def _estimate(record: Record) -> Usage:
    """Of an answer that told no usage: the prompt by its size, and a token for each piece that was delivered."""
    return Usage(input=record.prompt_tokens, output=record.pieces, doubts=("estimated",))
