"""Several keys of one provider: whose turn it is, and which are put aside for how long."""

from __future__ import annotations

from lilliput.neutral import Problem, Secret, Target
from lilliput.router.keys import Rotation

A = tuple(Target(provider="a", model="m", key=Secret(k)) for k in "xyz")
LONE = Target(provider="b", model="m", key=Secret("q"))


def rotation() -> Rotation:
    return Rotation(lambda t: A if t.provider == "a" else ())


def shown(rotation: Rotation, now: float, turns: int) -> str:
    keys = (rotation.turn(A[0], now).key for _ in range(turns))
    return "".join(key.reveal() for key in keys if key is not None)


def test_in_turn() -> None:
    assert shown(rotation(), 0.0, 7) == "xyzxyzx"


def test_one_that_is_limited_or_refused_is_put_aside_and_comes_back() -> None:
    r = rotation()
    assert r.note(A[1], Problem("limit", "slow", retry_after_s=7), 0.0) == 0.0
    assert r.note(A[2], Problem("provider_auth", "bad key"), 0.0) == 0.0
    assert set(shown(r, 1.0, 6)) == {"x"}
    assert set(shown(r, 8.0, 6)) == {"x", "y"}
    assert set(shown(r, 61.0, 6)) == {"x", "y", "z"}


def test_with_all_put_aside_the_deployment_waits_for_the_first_of_them() -> None:
    r = rotation()
    told = [r.note(t, Problem("limit", "slow", retry_after_s=s), 0.0) for t, s in zip(A, (9, 4, 7), strict=True)]
    assert told == [0.0, 0.0, 4.0]
    assert r.others(A[0], 1.0) == []
    assert r.turn(A[0], 1.0) is A[1]


def test_other_faults_and_a_lone_key_are_not_a_matter_of_keys() -> None:
    r = rotation()
    assert r.note(A[0], Problem("provider", "down"), 0.0) is None
    assert r.note(LONE, Problem("limit", "slow"), 0.0) is None
    assert r.turn(LONE, 0.0) is LONE
    assert shown(r, 0.0, 3) == "xyz"
