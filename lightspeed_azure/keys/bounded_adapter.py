"""A transport for `requests` that bounds a whole exchange, and not only each wait for bytes.

The time-outs of requests and urllib3 restart with every byte, so a server that sends one byte at a
time can block a thread for ever. This adapter closes the connection at the limit.
"""

import contextlib
import socket
import threading
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool


class BoundedAdapter(HTTPAdapter):  # type: ignore[misc]  # requests has no types
    """Sends a request and reads its response within the request's `timeout`.

    A response is read completely before it is returned. Safe for any number of threads.
    """

    def send(
        self, request: Any, stream: bool = False, timeout: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        """Send a request.

        Raises:
            requests.ReadTimeout: the exchange was not complete in time.
            requests.RequestException: it failed otherwise.
        """
        parts = timeout if isinstance(timeout, tuple) else (timeout,)
        exchange = _Exchange()
        timer = threading.Timer(max(part or _DEFAULT for part in parts), exchange.cut)
        timer.daemon = True
        timer.start()
        _current.exchange = exchange
        failure: Exception
        try:
            response = super().send(request, stream, timeout, *args, **kwargs)
            _ = response.content
        except requests.RequestException as error:
            failure = error
        else:
            if not exchange.is_cut:  # a body without a length only looks complete
                return response
        finally:
            timer.cancel()
            _current.exchange = None
        if exchange.is_cut:
            raise requests.ReadTimeout("the exchange took too long", request=request)
        raise failure

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Use connections that can be cut."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        """Use connections that can be cut, through a proxy too."""
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager


def bounded_session() -> requests.Session:
    """Return a session whose exchanges end in time."""
    session = requests.Session()
    for scheme in ("https://", "http://"):
        session.mount(scheme, BoundedAdapter())
    return session


_DEFAULT = 5.0
"""Seconds for a request without a time-out."""


class _Exchange:
    """One request and its response."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards the rest
        self._lines: list[socket.socket] = []
        self.is_cut = False

    def use(self, line: socket.socket) -> None:
        """Add a connection; a late one is closed at once."""
        with self._lock:
            self._lines.append(line)
            if self.is_cut:
                _shut(line)

    def cut(self) -> None:
        """Close the connections, which ends every wait."""
        with self._lock:
            self.is_cut = True
            for line in self._lines:
                _shut(line)


def _shut(line: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it is closed already
        line.shutdown(socket.SHUT_RDWR)


class _Current(threading.local):
    exchange: _Exchange | None = None


_current = _Current()


class _Connection(HTTPConnection):
    """Keeps a second handle of its socket, which stays valid when TLS wraps the first."""

    _line: socket.socket | None = None

    def _new_conn(self) -> socket.socket:
        connected = super()._new_conn()
        self._line = connected.dup()
        self._note()
        return connected

    def request(self, *args: Any, **kwargs: Any) -> None:
        self._note()
        super().request(*args, **kwargs)

    def close(self) -> None:
        super().close()
        if self._line is not None:
            self._line.close()
            self._line = None

    def _note(self) -> None:
        if self._line is not None and _current.exchange is not None:
            _current.exchange.use(self._line)


class _SecureConnection(_Connection, HTTPSConnection):
    """The same with TLS."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


_POOLS = {"http": _Pool, "https": _SecurePool}
