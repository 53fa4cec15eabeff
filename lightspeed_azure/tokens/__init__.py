"""Tokens of Entra ID: where they come from, how long they are used, when they are refreshed.

`source.py` is the protocol of a token source; `entra.py` implements it with azure-identity.
`cache.py` keeps a token and refreshes it; it knows no Azure and no HTTP. `tokens/manager.py` is the public
entry point.
"""
