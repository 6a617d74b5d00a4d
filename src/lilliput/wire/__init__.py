"""Bytes <-> neutral, one module of pure functions per dialect. No I/O, clock, log or environment belongs here."""
