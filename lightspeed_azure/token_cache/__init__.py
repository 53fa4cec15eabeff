"""The token cache: no request waits for, fails on, or duplicates a token without need.

`cache.py` is what callers see. A token in hand (`held_token.py`, `holding.py`) is fresh, stale or
expired by two clocks (`clock.py`). `renewals.py` decides when a renewal runs, and what becomes of
its answer; one renewal is a flight (`flight.py`), whose `outcome.py` is a token or a typed error;
after an error `backoff.py` keeps everybody away for a while; `rejections.py` limits how often
rejected tokens are replaced. `scheduler.py` wakes the idle renewal.
`derived.py` reads what is made from the token as cheaply as the token. `status.py` and
`renewal_log.py` are for people. Nothing here knows Azure or HTTP.
"""

from lightspeed_azure.token_cache.cache import TokenCache
from lightspeed_azure.token_cache.derived import Derived
from lightspeed_azure.token_cache.held_token import Token
from lightspeed_azure.token_cache.status import CacheStatus

__all__ = ["CacheStatus", "Derived", "Token", "TokenCache"]
