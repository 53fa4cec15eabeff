"""A script as people write it: it asks, forks, asks again, and leaves a thread behind that asks late.

Reads what it needs from stdin; closes nothing.
"""

import json
import os
import sys
import threading
import time
import warnings

from lightspeed_azure import AzureEntraIDManager, LlamaStackClientHolder
from lightspeed_azure.transports import http_client

warnings.simplefilter("ignore", DeprecationWarning)  # a process with threads forks: that is meant
GIVEN = json.load(sys.stdin)
MANAGER = AzureEntraIDManager()
MANAGER.set_config(GIVEN["azure_entra_id"])
HOLDER = LlamaStackClientHolder()
HOLDER.load(GIVEN["llama_stack"])
CLIENT = HOLDER.get_client()
URL = GIVEN["llama_stack"].get("url")
HTTP = http_client(URL) if URL else None


def ask(who: str) -> None:
    """Ask with each client that there is."""
    question = {"model": "azure/gpt-4o-mini", "messages": [{"role": "user", "content": who}]}
    assert who in CLIENT.chat.completions.create(**question).choices[0].message.content
    if HTTP is not None:
        assert who in HTTP.post("/v1/chat/completions", json=question).text
    sys.stderr.write(f"answered {who}\n")


def late() -> None:
    """Ask once the main thread has ended, over new connections."""
    threading.main_thread().join()
    if HTTP is not None:
        with http_client(URL.replace("127.0.0.1", "localhost")) as client:
            assert client.get("/v1/models").status_code == 200
    ask("late")


ask("first")
if HTTP is None:
    time.sleep(1)  # SQLite's locks do not survive a fork; the stack inside notes its answer
child = os.fork()
if child == 0:
    try:
        ask("child")
        os._exit(0)
    finally:
        os._exit(1)
assert os.waitpid(child, 0)[1] == 0
ask("parent")
threading.Thread(target=late).start()
