"""What a process holds on one account for requests that run and for those to come, as the process sees it."""

from __future__ import annotations

from msgspec import Struct

from lilliput.store.book import Allotted, Line, Want
from lilliput.store.budget import MOST_NUSD

IDLE = 4
"""Flushes after which what nobody uses goes back."""
FRESH_S = 1.0
"""A process admits requests on its own for so long after the database last said what there is: a limit that another
process sets binds within this, and a database that is away is noticed."""
LEASE_S = 60.0
"""What a machine that is gone for good put aside is free after this."""
NEVER = float("-inf")


class Allotment(Struct, eq=False):
    """`most_nusd` is the dearest request since it last landed, `until` when it has to hear from the database again;
    `idle` counts flushes since it was used. Of an unlimited one `free_nusd` is no more than what can be counted."""

    id: str
    account: str
    chain: int = 0
    is_kept: bool = False
    open_nusd: int = 0
    free_nusd: int = 0
    most_nusd: int = 0
    typical_nusd: int = 0
    until: float = NEVER
    lease_ends: float = NEVER
    is_unlimited: bool = False
    is_used: bool = True
    idle: int = 0

    @property
    def spare_nusd(self) -> int:
        """What is held for requests to come."""
        return 0 if self.is_unlimited else self.free_nusd

    @property
    def is_over(self) -> bool:
        """Whether it may be forgotten."""
        return not self.is_kept and not self.is_used and not self.open_nusd

    def give_back(self) -> None:
        if self.spare_nusd:
            self.free_nusd, self.is_used = 0, True

    def tell(self, wants: list[Want], is_quiet: bool) -> Line:
        """What the database is told of it; while it `is_quiet` nothing is kept for requests to come."""
        self.typical_nusd = max([self.most_nusd, *(w.amount_nusd for w in wants)]) or self.typical_nusd
        self.most_nusd, self.is_used = 0, False
        typical_nusd = 0 if is_quiet or self.idle >= IDLE else self.typical_nusd
        place = (self.id, self.account, self.chain, self.is_kept)
        return Line(*place, self.open_nusd, self.spare_nusd, typical_nusd, wants)

    def hear(self, allotted: Allotted, began: float, is_shut: bool) -> None:
        """What the database answers to that, which was asked at `began`."""
        spare_nusd, self.is_unlimited = self.spare_nusd, allotted.is_unlimited
        self.chain, self.is_kept = allotted.chain, allotted.is_kept
        self.until = NEVER if is_shut or allotted.has_moved else began + FRESH_S
        self.lease_ends = began + LEASE_S
        if allotted.is_unlimited:
            self.free_nusd = MOST_NUSD - self.open_nusd
        elif allotted.has_moved or allotted.is_tight or allotted.is_lost:
            self.is_used |= spare_nusd > 0
            self.free_nusd = 0
        else:
            self.free_nusd = spare_nusd + allotted.spare_nusd
