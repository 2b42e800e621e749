"""Measures of the network itself, beside its kernel, from the room of complexity."""

AVAILABLE = ()
