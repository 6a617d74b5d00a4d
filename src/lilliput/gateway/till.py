"""What a request may take, put aside before it goes out: its share of the rate limits, and the most it may cost.

It is settled once from what the answer really used, before the caller learns that the answer is over; a request that
came to nothing gets both back. Whoever has no ledger and no limits pays nothing for this.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from lilliput.catalogue.price import cost_nusd, rates
from lilliput.catalogue.rows import LOCAL, Model, Price
from lilliput.gateway.limit_headers import lines
from lilliput.gateway.limits import Limiter, may_pass
from lilliput.gateway.observe import Record
from lilliput.money import Hold, Ledger, Settlement
from lilliput.neutral import Key, Problem, Target, Usage

FREE = Price(input=0, output=0)
"""Of what runs on this machine."""
LEASE_S = 900.0
"""A hold outlives every honest request; what dies with its process is freed after this."""
UNSAID_TOKENS = 16_384
"""The longest answer that is reckoned with when neither the caller nor the catalogue bounds it."""
BYTES_A_TOKEN = 4
MOST_KNOWN = 4096
STAYS = "request %s stays held: %s"
_MTOK = 1_000_000
log = logging.getLogger("lilliput")


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
        goes_on: bool = False,
    ) -> None:
        """With `goes_on` a ledger that is down does not keep this machine's own models from answering for nothing."""
        self.goes_on = goes_on
        self.limiter, self.ledger = limiter, ledger
        self.holds = self.held_nusd = 0
        """Of requests under way, and what they put aside."""
        self._bounds: dict[str, tuple[Price, int, int, int, int]] = {}
        """By model: its price, its context, its longest answer, and what a token costs at most, read and written."""
        self._price, self._model, self._snapshot, self._clock = price, model, snapshot, clock

    async def open(self, key: Key, target: Target, record: Record, prompt_bytes: int, most: int | None) -> None:
        """`open_any` for a request that goes to one place."""
        await self.open_any(key, (target,), record, prompt_bytes, most)

    async def open_any(
        self, key: Key, targets: Sequence[Target], record: Record, prompt_bytes: int, most: int | None
    ) -> Sequence[Target]:
        """Takes the request's share of its limits and holds what it may cost at the dearest of the targets; raises
        Problem (400, 402, 429, 503). Gives the targets that it may go to: where a budget stands above the key, none
        whose price is not known.

        `most` is the longest answer, in tokens, that the caller asked for; None where it set no bound.
        """
        record.prompt_tokens = prompt_bytes // BYTES_A_TOKEN
        amount, is_priced = 0, True
        if self.ledger is not None:
            for target in targets:
                ceiling = self._ceiling(target.id, prompt_bytes, most)
                if ceiling is None:
                    is_priced = False
                elif ceiling > amount:
                    amount = ceiling
            if not is_priced and not self.ledger.is_unlimited(key.id):
                targets = await self._priced(self.ledger, key, targets)
        if self.limiter is not None:
            record.taken = await self.limiter.take(key, targets[0].id, lambda: (record.prompt_tokens, most))
            if record.taken is not None:
                record.lines += lines(record.taken)
                may_pass(record.taken)
        if self.ledger is not None:
            hold = Hold(
                id=record.request_id.decode(),
                account=key.id,
                amount_nusd=amount,
                lease_s=LEASE_S,
                operation=record.operation,
                model=record.model,
            )
            try:
                if not self.ledger.hold_now(hold):
                    await self.ledger.hold(hold)
            except Problem as problem:
                is_here = not amount and all(target.provider == LOCAL for target in targets)
                if not (self.goes_on and is_here and problem.status == 503):
                    raise
                log.warning("request %s is not on record: %s", record.request_id.decode(), problem.say)
                return targets
            record.is_held, record.held_nusd = True, amount
            self.holds += 1
            self.held_nusd += amount
        return targets

    async def settle(self, record: Record) -> None:
        """Turns what was put aside into what was used; does nothing the second time. Raises Problem (503)."""
        self._settle(record)

    def write_off(self, record: Record) -> None:
        """Ends a call that its caller did not ask for: what it used is put on record, and costs nothing."""
        try:
            self._give_back(record)
            self._settle(record, FREE)
        except Problem as problem:
            log.warning(STAYS, record.request_id.decode(), problem.say)

    def _settle(self, record: Record, price: Price | None = None) -> None:
        if record.taken is not None and self.limiter is not None:
            taken, record.taken = record.taken, None
            if taken.passed:
                usage = record.usage
                self.limiter.settle(taken, None if usage is None else usage.total_tokens)
        if not record.is_held or self.ledger is None:
            return
        self._let_go(record)
        price = price or self._price(record.served_by) or _here(record.served_by)
        usage = record.usage or _estimate(record)
        record.cost_nusd = None if price is None else cost_nusd(price, usage, record.began_at)
        self.ledger.settle_now(record.request_id.decode(), self._told(record, record.cost_nusd, usage))

    def close(self, record: Record) -> None:
        """At the end of every request: what was not settled is settled if something was delivered, else given back.
        What cannot be written down now is swept, at what it held."""
        try:
            if record.usage is not None or record.pieces:
                self._settle(record)
            else:
                self._release(record)
        except Problem as problem:
            log.warning(STAYS, record.request_id.decode(), problem.say)

    def _give_back(self, record: Record) -> None:
        if record.taken is not None and self.limiter is not None:
            taken, record.taken = record.taken, None
            if taken.passed:
                self.limiter.give_back(taken)

    def _release(self, record: Record) -> None:
        self._give_back(record)
        if record.is_held and self.ledger is not None:
            self._let_go(record)
            self.ledger.release_now(record.request_id.decode(), self._told(record, 0, None))

    def _let_go(self, record: Record) -> None:
        record.is_held = False
        self.holds -= 1
        self.held_nusd -= record.held_nusd

    def _ceiling(self, id: str, prompt_bytes: int, most: int | None) -> int | None:
        """The most that the request may cost there: a token has at least a byte, and no prompt is longer than the
        context. None where the price is not known."""
        price = self._price(id) or _here(id)
        if price is None:
            return None
        known = self._bounds.get(id)
        if known is None or known[0] is not price:
            if len(self._bounds) >= MOST_KNOWN:
                self._bounds.clear()
            model = self._model(id)
            longest = (model.max_output_tokens if model is not None else 0) or UNSAID_TOKENS
            known = (price, model.context_tokens if model is not None else 0, longest, *_dearest(price))
            self._bounds[id] = known
        _, context, longest, read, write = known
        prompt = min(prompt_bytes, context) if context else prompt_bytes
        if price.tiers or price.hours:
            price = rates(price, prompt, self._clock())
            read, write = _dearest(price)
        return -(-(prompt * read + (most or longest) * write) // _MTOK) + price.per_request

    async def _priced(self, ledger: Ledger, key: Key, targets: Sequence[Target]) -> Sequence[Target]:
        """The targets whose price is known, all of them where no budget stands above the key; raises Problem (400)
        when that leaves none."""
        at = await _budgeted(ledger, key)
        if at is None:
            return targets
        priced = tuple(target for target in targets if self._price(target.id) or _here(target.id))
        if not priced:
            id = targets[0].id
            say = (
                f"the price of {id!r} is not known and account {at!r} has a budget: "
                f'set [models."{id}".price], or ask another model'
            )
            raise Problem("client", say, code="price_unknown", param="model")
        return priced

    def _told(self, record: Record, cost: int | None, usage: Usage | None) -> Settlement:
        return Settlement(
            cost_nusd=cost,
            usage=usage,
            served=record.served_by,
            price=self._snapshot,
            tries=record.tries,
            status=200 if record.problem is None else record.problem.status,
            latency_ms=_ms(record, self._clock()),
            first_token_ms=None if record.first_at is None else _ms(record, record.first_at),
            left_early=record.left_early,
        )


async def _budgeted(ledger: Ledger, key: Key) -> str | None:
    """The nearest account, from the key up, that has a limit or credits."""
    at: str | None = key.id
    while at is not None:
        account = await ledger.account(at)
        if account is None:
            return None
        if account.limit_nusd is not None or account.credit_nusd is not None:
            return at
        at = account.parent
    return None


def _here(id: str) -> Price | None:
    """The price of a task's student, which no catalogue knows."""
    return FREE if id.startswith(f"{LOCAL}/") else None


def _dearest(p: Price) -> tuple[int, int]:
    """What a token costs at most, read and written."""
    read = max(p.input, *(n or 0 for n in (p.cache_write, p.cache_write_1h, p.input_audio, p.input_image)))
    return read, max(p.output, *(n or 0 for n in (p.reasoning, p.output_audio, p.output_image)))


def _ms(record: Record, at: float) -> int:
    """From the request's arrival; a clock that jumps back makes no negative time."""
    return max(0, round((at - record.began_at) * 1000))


def _estimate(record: Record) -> Usage:
    """Of an answer that told no usage: the prompt by its size, and a token for each piece that was delivered."""
    return Usage(input=record.prompt_tokens, output=record.pieces, doubts=("estimated",))
