"""Recorded provider traffic through a running gateway, by every client dialect: `python -m tests.conformance FOLDER`.

The folder brings its own replay server and parser (`replay.py`, `expect.py`); nothing of it is copied here. A gateway
runs over a generated configuration with a provider row for every interaction and every way of sending it.
`tests.conformance.offline` judges one dialect's modules alone, without a gateway.
"""
