"""The errors that callers should see, by name: after the failure taxonomy in docs/reliability.md."""

from __future__ import annotations

from lilliput.chaos.scenario import Fault

_BAD = ("upstream_truncated", "upstream_invalid")

TRUNCATED = Fault(502, ("upstream_truncated",))
INVALID = Fault(502, ("upstream_invalid",))
BROKEN = Fault(502, _BAD)
"""Ended early or not to be read: where both are true, either is said."""
UNREACHABLE = Fault(502, ("upstream_unreachable",))
LOST = Fault(502, ("upstream_unreachable", *_BAD))
STALLED = Fault(504, ("upstream_stalled",), "timeout_error")
LATE = Fault(504, ("upstream_timeout",), "timeout_error")
LIMITED = Fault(429, ("rate_limit_exceeded",), "rate_limit_error")
QUOTA = Fault(429, ("insufficient_quota",), "rate_limit_error")
OUR_KEY = Fault(502, ("provider_auth",))
"""The gateway's own key or credit at the provider: never shown as the caller's."""
REFUSED = Fault(400, ("invalid_value",), "invalid_request_error")
TOO_LONG = Fault(400, ("context_length_exceeded",), "invalid_request_error")
NO_MODEL = Fault(404, ("model_not_found",), "not_found_error")
FAILED = Fault(502, ("upstream_error",))
AWAY = Fault(503, (), "overloaded_error", statuses=(529,))

HOUSE = frozenset(code for fault in (BROKEN, LOST, STALLED, LATE, OUR_KEY, FAILED) for code in fault.codes)
"""Words of our own making: another gateway may say it in its own."""
