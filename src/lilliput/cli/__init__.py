"""The `lilliput` command, one file a subcommand. `serve.py` is the composition root."""
