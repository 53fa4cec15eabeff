"""`lightspeed-azure proxy`: the same token for clients that are not Python.

One request through it::

    server.py         a connection, its limits; drains on SIGTERM
    service.py        which path is it? own endpoints, who may call (inbound/), errors, times
      routes.py         what of the stack is let through
    forwarding.py     the body of an inference call is read, to know its model
      headers.py        what the caller sent is cleaned
      clients/          Calls.of() → Call.header(), as for the Python clients
    upstream.py       sent; the answer is passed on byte for byte as it comes
"""
