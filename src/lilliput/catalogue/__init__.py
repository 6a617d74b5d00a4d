"""Facts about providers, models and prices, as data.

No behaviour of a provider belongs here: odd wire forms live in `wire`.
"""
