"""Clients of the stack whose requests carry the current token.

`holder.py` holds the client of the process; `generation.py` is the table of where the generations of
the stack differ, `generations.py` says which one is in use, `stainless_clients.py` and
`ogx_clients.py` know their clients, by who made them; `inference_call.py` decides what one request
carries, asking `stack_catalog.py` which provider serves its model; `refusal.py` recognises Azure's refusal of a token;
`pinned_transport.py` keeps tokens at the configured origin.
"""
