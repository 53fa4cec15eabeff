"""Clock, timer, threads, event loops on threads and forks: shared by all rooms above."""
