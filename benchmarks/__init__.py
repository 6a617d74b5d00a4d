"""Measures lilliput beside nginx, a bare call and other gateways, on one machine, in one run: `python -m benchmarks`.

Two C programs stand at the ends: `load.c` asks, `mock.c` is the provider. They share one core with the driver; the
server between them has another to itself. What is quoted elsewhere is a ratio of neighbours in one run, never a lone
time. How to run it and how to read it: README.md beside this file.
"""
