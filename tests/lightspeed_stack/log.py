"""Stands in for a module that the wheel of lightspeed-stack 0.7.1 lacks: what its code needs of it."""

import logging


def get_logger(name: str) -> logging.Logger:
    """Return a logger."""
    return logging.getLogger(name)
