"""Plans as truth tables: who may serve, in what order, and what is said when nobody may."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import msgspec
import pytest
from tests.router.world import world

from lilliput.catalogue.rows import LOCAL, Model
from lilliput.neutral import Problem
from lilliput.router.health import Outcome
from lilliput.router.plan import Facts, Plan, World, plan
from lilliput.router.routes import Deployment, Route, check
from lilliput.router.wish import Rules, Wish, read_wish

DOWN = Problem("provider", "down")


def route(policy: str = "priority", **more: Any) -> Route:
    rows = tuple(Deployment(model=f"{p}/m", priority=i, tags=(p,)) for i, p in enumerate("abc"))
    return Route(deployments=rows, policy=policy, **more)  # type: ignore[arg-type]


def made(w: World, name: str = "r", wish: Wish | None = None, rules: Rules | None = None, **facts: Any) -> Plan:
    return plan([name], Facts(**facts), w, 100.0, lambda: 0.5, wish=wish, rules=rules or Rules())


def ids(p: Plan) -> str:
    return " ".join(t.provider for t in p.targets)


def lacks_tools(m: Model | None) -> Problem | None:
    return Problem("client", "no tools", code="unsupported_value") if m is not None and m.tools is False else None


FILTERS: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any], str]] = [
    ("nothing asked", {}, {}, {}, "a b c"),
    ("the wish's region", {"regions": ("eu",)}, {}, {}, "b"),
    ("the key's region", {}, {"regions": ("us",)}, {}, "a"),
    ("the route's region", {}, {}, {"regions": ("us", "eu")}, "a b"),
    ("zdr", {"zdr": True}, {}, {}, "b"),
    ("the key's zdr", {}, {"zdr": True}, {}, "b"),
    ("the route's zdr", {}, {}, {"zdr": True}, "b"),
    ("data_collection", {"data_collection": "deny"}, {}, {}, "b"),
    ("the key's data_collection", {}, {"data_collection": "deny"}, {}, "b"),
    ("quantization", {"quantizations": ("fp8",)}, {}, {}, "b"),
    ("only", {"only": ("a", "c/m")}, {}, {}, "a c"),
    ("ignore", {"ignore": ("a",)}, {}, {}, "b c"),
    ("order", {"order": ("c", "b")}, {}, {}, "c b a"),
    ("order without fallbacks", {"order": ("c", "b"), "allow_fallbacks": False}, {}, {}, "c"),
    ("no fallbacks", {"allow_fallbacks": False}, {}, {}, "a"),
    ("sort by price", {"sort": "price"}, {}, {}, "a b c"),
    ("tags", {"tags": ("c",)}, {}, {}, "c"),
    ("scope by model", {}, {"models": ("a/m", "c/*")}, {}, "a c"),
    ("scope by the route's name", {}, {"models": ("r",)}, {}, "a b c"),
    ("the route's max_usd", {}, {}, {"max_usd": 0.0015}, "a b"),
]


@pytest.mark.parametrize(("name", "wish", "rules", "of_route", "want"), FILTERS, ids=[f[0] for f in FILTERS])
def test_filters(name: str, wish: dict[str, Any], rules: dict[str, Any], of_route: dict[str, Any], want: str) -> None:
    p = made(world({"r": route(**of_route)}), wish=Wish(**wish), rules=Rules(**rules))
    assert ids(p) == want
    assert len(p.chosen) + len(p.excluded) == 3 or "allow_fallbacks" in wish
    assert all(e.why for e in p.excluded)


def test_parameters_and_abilities() -> None:
    w = world({"r": route()})
    assert ids(made(w, wish=Wish(require_parameters=True), fields=("seed",))) == "a b"
    assert ids(made(w, fields=("seed",))) == "a b c"
    assert ids(made(w, lack=lacks_tools)) == "a c"


@pytest.mark.parametrize(
    ("given", "want"), [({"prompt": "2"}, "a b"), ({"completion": 1}, "a"), ({"request": 0}, "a b c")]
)
def test_max_price_is_per_million_and_may_be_text(given: dict[str, Any], want: str) -> None:
    wish, _ = read_wish({"provider": msgspec.Raw(msgspec.json.encode({"max_price": given}))})
    assert ids(made(world({"r": route()}), wish=wish)) == want


REFUSED: list[tuple[str, dict[str, Any], dict[str, Any], int, str]] = [
    ("r", {"regions": ("mars",)}, {}, 503, "no_compliant_target"),
    ("r", {}, {"local_only": True}, 503, "no_compliant_target"),
    ("r", {"zdr": True, "only": ("a",)}, {}, 503, "no_compliant_target"),
    ("r", {"only": ("zz",)}, {}, 400, "no_fitting_target"),
    ("r", {}, {"models": ("other/x",)}, 403, "model_not_allowed"),
    ("a/m", {"zdr": True}, {}, 503, "no_compliant_target"),
    ("nowhere", {}, {}, 404, "model_not_found"),
]


@pytest.mark.parametrize(("name", "wish", "rules", "status", "code"), REFUSED)
def test_refusals_say_whom_what_left_out(
    name: str, wish: dict[str, Any], rules: dict[str, Any], status: int, code: str
) -> None:
    with pytest.raises(Problem) as e:
        made(world({"r": route()}), name, Wish(**wish), Rules(**rules))
    assert (e.value.status, e.value.code) == (status, code)
    assert name == "nowhere" or ": " in e.value.say


def test_the_one_deployment_tells_its_own_lack() -> None:
    with pytest.raises(Problem) as e:
        made(world(), "b/m", lack=lacks_tools)
    assert (e.value.status, e.value.code, e.value.say) == (400, "unsupported_value", "no tools")


def test_local_only_is_left_for_nothing() -> None:
    rows = (Deployment(model="a/m"), Deployment(model=f"{LOCAL}/mini"))
    w = world({"r": Route(deployments=rows, local_only=True)})
    assert ids(made(w)) == LOCAL
    for _ in range(5):
        w.health.note(f"{LOCAL}/mini", Outcome(DOWN), 99.0)
    with pytest.raises(Problem) as e:
        made(w)
    assert e.value.code == "no_healthy_target"


def test_names() -> None:
    w = world({"r": route()}, {"gpt": "alias", "alias": "r", "cheap": "m:floor"})
    assert ids(made(w, "gpt")) == "a b c"
    assert made(w, "r:floor").policy == "cheapest"
    assert made(w, "r:nitro").policy == "throughput"
    assert made(w, "cheap").policy == "cheapest"
    assert sorted(ids(made(w, "m")).split()) == ["a", "b", "c"]
    assert plan(["c/m", "r"], Facts(), w, 100.0, lambda: 0.5).targets[0].provider == "c"
    assert len(plan(["c/m", "r"], Facts(), w, 100.0, lambda: 0.5).targets) == 3


def test_balanced_draws_by_the_inverse_square_of_the_price() -> None:
    dice, w = random.Random(1), world()
    first = Counter(plan(["m"], Facts(), w, 100.0, dice.random).targets[0].provider for _ in range(4000))
    assert first["a"] / 4000 == pytest.approx(16 / 21, abs=0.03)
    assert first["b"] / 4000 == pytest.approx(4 / 21, abs=0.03)


def test_balanced_puts_those_with_an_outage_last() -> None:
    w = world()
    for _ in range(2):
        w.health.note("a/m", Outcome(DOWN), 99.0)
    assert ids(made(w, "m")).endswith("a")
    assert ids(plan(["m"], Facts(), w, 131.0, lambda: 0.5)).startswith("a")


def test_breakers_hold_back_and_all_open_says_when() -> None:
    w = world({"r": route()})
    w.health.note("a/m", Outcome(Problem("limit", "slow", retry_after_s=30)), 99.0)
    assert ids(made(w)) == "b c"
    for id in ("b/m", "c/m"):
        w.health.note(id, Outcome(Problem("limit", "slow", retry_after_s=7)), 99.0)
    with pytest.raises(Problem) as e:
        made(w)
    assert (e.value.status, e.value.retry_after_s) == (429, 6.0)


def test_lane() -> None:
    w = world({"r": route(), "a/big": route()}, {"x/y": "r"})
    lane = w.lane("a/m")
    assert lane is not None
    assert w.lane("a/m") is lane
    for name in ("r", "m", "a/big", "x/y", "a/m:floor"):
        assert w.lane(name) is None
    for _ in range(5):
        w.health.note("a/m", Outcome(DOWN), 99.0)
    assert w.lane("a/m") is None


BAD = ['{"sort":"cost"}', '{"onyl":["a"]}', '{"zdr":"yes"}', "[]", '{"max_price":{"prompt":"x"}}', '{"order":"a"}']


@pytest.mark.parametrize("body", BAD)
def test_a_wish_that_is_misspelt_is_refused(body: str) -> None:
    with pytest.raises(Problem) as e:
        read_wish({"provider": msgspec.Raw(body.encode())})
    assert e.value.status == 400


def test_routes_are_checked() -> None:
    check({"r": route()}, {"a": "r"})
    for routes, aliases in (
        ({"r": Route(deployments=(Deployment(model="bare"),))}, {}),
        ({"r:floor": route()}, {}),
        ({}, {"a": "b", "b": "a"}),
    ):
        with pytest.raises(Problem):
            check(routes, aliases)
