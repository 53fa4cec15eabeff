"""Clock, timer, threads, event loops on threads, forks and refreshed values: used by all rooms."""
