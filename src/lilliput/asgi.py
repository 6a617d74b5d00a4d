"""The whole gateway as an ASGI app: `uvicorn lilliput.asgi:app`, or mounted in an app of your own.

It reads LILLIPUT_HOME, and the configuration file from LILLIPUT_CONFIG or the home. Everything starts with the
server's lifespan and ends with it.
"""

from __future__ import annotations

from lilliput.cli.mounted import app

__all__ = ["app"]
