"""A small catalogue to choose from, and the requests that the tables make of it."""

from __future__ import annotations

from collections.abc import Mapping

from lilliput.catalogue.find import Catalogue
from lilliput.catalogue.rows import LOCAL, Model, Price, Provider, Status
from lilliput.neutral import Target
from lilliput.router.plan import World
from lilliput.router.routes import Route, Terms

USD = 10**9


def model(id: str, usd: float | None = 1.0, **facts: object) -> Model:
    price = None if usd is None else Price(input=int(usd * USD), output=int(usd * USD))
    return Model(id=id, price=price, context_tokens=8000, **facts)  # type: ignore[arg-type]


ROWS = {
    "a": (model("a/m", 1.0), model("a/big", 9.0)),
    "b": (model("b/m", 2.0, tools=False),),
    "c": (model("c/m", 4.0, input=("text",)),),
    "d": (model("d/blind", None),),
    LOCAL: (model(f"{LOCAL}/mini", 0),),
}
TERMS = {"a": Terms(region="us"), "b": Terms(region="eu", zdr=True, data_collection="deny", quantization="fp8")}


def world(routes: Mapping[str, Route] | None = None, aliases: Mapping[str, str] | None = None) -> World:
    statuses = {name: Status(name, Provider(title=name), True, "") for name in ROWS}
    targets = {name: Target(provider=name, model="", drop=("seed",) if name == "c" else ()) for name in ROWS}
    return World(Catalogue(statuses, targets, ROWS), routes, aliases, TERMS)
