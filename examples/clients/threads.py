"""One client and one token for many threads: `python threads.py one two three`.

Which stack, and which identity, is in lightspeed-stack.yaml.
"""

import sys
from concurrent.futures import ThreadPoolExecutor

import httpx

from lightspeed_azure import AzureEntraIDManager, load_configuration
from lightspeed_azure.transports import http_client


def ask(client: httpx.Client, question: str) -> str:
    """Return the answer to one question."""
    body = {"model": "azure/gpt-4o-mini", "messages": [{"role": "user", "content": question}]}
    answer = client.post("/v1/chat/completions", json=body).raise_for_status()
    return str(answer.json()["choices"][0]["message"]["content"])


def main(questions: list[str]) -> None:
    """Print the answers, in the order of the questions."""
    config = load_configuration()
    if config.llama_stack is None:
        sys.exit("llama_stack: is missing")
    AzureEntraIDManager().set_config(config.azure_entra_id)
    with http_client(config.llama_stack) as client, ThreadPoolExecutor(16) as threads:
        for answer in threads.map(lambda question: ask(client, question), questions):
            sys.stdout.write(f"{answer}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
