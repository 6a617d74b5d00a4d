"""Choices, as pure functions: where a request goes next. Clock and dice are arguments."""
