"""Outages played against the router with a clock and dice of their own: `python -m tests.router.storms` prints them.

200 requests a second, 50 ms a call, one after the other: nothing overlaps. What counts is how many calls go upstream,
how many requests are answered, and how long after an outage the first answer comes.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator
from functools import partial

from msgspec import Struct
from tests.router.world import world

from lilliput.neutral import Problem
from lilliput.router.attempts import Budget, attempts
from lilliput.router.health import Outcome
from lilliput.router.plan import Facts, plan
from lilliput.router.routes import Deployment, Route

RATE = 200
CALL_S = 0.05
FROM_S, TO_S = 20.0, 80.0
DOWN = ("provider", "down", None)
Answer = Callable[[str, float, random.Random], tuple[str, str, float | None] | None]


class Storm(Struct, frozen=True):
    name: str
    answer: Answer


def during(now: float) -> bool:
    return FROM_S <= now < TO_S


STORMS = (
    Storm("calm", lambda id, now, dice: None),
    Storm("429 storm, no Retry-After", lambda id, now, dice: ("limit", "slow", None) if during(now) else None),
    Storm("429 storm, Retry-After 1", lambda id, now, dice: ("limit", "slow", 1.0) if during(now) else None),
    Storm("one of three dead", lambda id, now, dice: DOWN if id == "a/m" and during(now) else None),
    Storm("all dead", lambda id, now, dice: DOWN if during(now) else None),
    Storm("one flapping, 5 s up, 5 s down", lambda id, now, dice: DOWN if id == "a/m" and now % 10 < 5 else None),
    Storm("each call fails one time in ten", lambda id, now, dice: DOWN if dice.random() < 0.1 else None),
)


class Result(Struct):
    requests: int = 0
    calls: int = 0
    answered: int = 0
    sent: int = 0
    recovered_s: float | None = None

    @property
    def amplification(self) -> float:
        """Calls for each request that went upstream at all: what a request refused here costs a provider is nothing."""
        return self.calls / max(1, self.sent)

    @property
    def success(self) -> float:
        return self.answered / max(1, self.requests)


def play(storm: Storm, seed: int, seconds: float = 100.0, policy: str = "weighted") -> Result:
    """The whole run; requests come evenly, dice are seeded."""
    dice = random.Random(seed)
    rows = tuple(Deployment(model=f"{p}/m") for p in "abc")
    w = world({"r": Route(deployments=rows, policy=policy)})  # type: ignore[arg-type]
    budget, facts, result = Budget(), Facts(), Result()
    for i in range(int(seconds * RATE)):
        began = now = i / RATE
        result.requests += 1
        budget.earn()
        try:
            p = plan(["r"], facts, w, now, dice.random)
            steps = attempts(
                p.targets,
                dice.random,
                budget=budget,
                clock=partial(float, began),
                deadline=began + 1.0,
            )
            step = next(steps)
            result.sent += 1
            while True:
                now += step.wait_s
                w.health.begin(step.target.id, now)
                result.calls += 1
                said = storm.answer(step.target.id, now, dice)
                now += CALL_S
                if said is None:
                    w.health.note(step.target.id, Outcome(first_token_s=CALL_S), now)
                    break
                problem = Problem(said[0], said[1], retry_after_s=said[2])  # type: ignore[arg-type]
                w.health.note(step.target.id, Outcome(problem), now)
                step = steps.send(problem)
        except Problem:
            continue
        result.answered += 1
        if began >= TO_S and result.recovered_s is None:
            result.recovered_s = now - TO_S
    return result


def crowd(seed: int, dead_s: float = CALL_S, requests: int = 3000, at_once: int = 64) -> Result:
    """`requests` by callers that each ask again once answered, on a fresh start with the first of three dead, which
    takes `dead_s` to fail: everything overlaps."""
    dice = random.Random(seed)
    rows = tuple(Deployment(model=f"{p}/m") for p in "abc")
    w = world({"r": Route(deployments=rows)})
    budget, result, clock, down = Budget(), Result(), [0.0], Problem("provider", "down")

    def caller() -> Iterator[float]:
        """One caller's waits in seconds, until all requests are made."""
        while result.requests < requests:
            result.requests += 1
            budget.earn()
            made = plan(["r"], Facts(), w, clock[0], dice.random)
            steps = attempts(
                made.targets,
                dice.random,
                budget=budget,
                clock=lambda: clock[0],
                is_well=lambda t: w.health.is_well(t.id, clock[0]),
            )
            step = next(steps)
            try:
                while True:
                    yield step.wait_s
                    id = step.target.id
                    if not step.is_early:
                        w.health.begin(id, clock[0])
                        result.calls += 1
                        is_dead = id == "a/m"
                        yield dead_s if is_dead else CALL_S
                        w.health.note(id, Outcome(down if is_dead else None), clock[0])
                        if not is_dead:
                            result.answered += 1
                            break
                    step = steps.send(down)
            except Problem:
                continue

    queue = [(0.0, i, caller()) for i in range(at_once)]
    while queue:
        clock[0], i, one = heapq.heappop(queue)
        wait_s = next(one, None)
        if wait_s is not None:
            heapq.heappush(queue, (clock[0] + wait_s, i, one))
    return result


def table(seeds: int = 5) -> list[str]:
    lines = [
        "| storm, 20 s to 80 s of 100 | calls / requests | requests answered | first answer after it |",
        "|---|---|---|---|",
    ]
    for storm in STORMS:
        runs = [play(storm, seed) for seed in range(seeds)]
        total = sum(r.calls for r in runs) / sum(r.requests for r in runs)
        worst = min(r.success for r in runs)
        back = max(r.recovered_s if r.recovered_s is not None else float("inf") for r in runs)
        lines.append(f"| {storm.name} | {total:.3f} | {100 * worst:.2f} % | {back:.2f} s |")
    for dead_s in (0.001, CALL_S, 5.0):
        crowds = [crowd(seed, dead_s) for seed in range(seeds)]
        total = sum(r.calls for r in crowds) / sum(r.requests for r in crowds)
        worst = min(r.success for r in crowds)
        lines.append(f"| 64 callers from the start, one dead, {dead_s:g} s | {total:.3f} | {100 * worst:.2f} % | |")
    return lines


if __name__ == "__main__":
    print("\n".join(table()))
