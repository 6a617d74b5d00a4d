"""A provider that lies in every way that providers do, and a judge of what a gateway's callers are told of it.

Speaks to any gateway over HTTP alone: nothing of ours is imported here.
"""
