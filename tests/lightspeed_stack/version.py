"""Stands in for a module that the wheel of lightspeed-stack 0.7.1 lacks."""

__version__ = "0.7.1"
