"""The whole studio on real, public, human-labelled data, held against its bars: `python -m benchmarks.loop`."""
