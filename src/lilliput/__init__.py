"""lilliput: one endpoint for every language model, and small models of your own that learn the big ones' work."""

__version__ = "0.1.0"
