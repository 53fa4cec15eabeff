"""The stack's own client in a plain script: `python script.py "Why is the sky blue?"`.

Which stack, of which family, and which identity, is in lightspeed-stack.yaml; with
`use_as_library_client: true` it runs inside the script.
"""

import sys

from lightspeed_azure import AzureEntraIDManager, LlamaStackClientHolder, load_configuration


def main(question: str) -> None:
    """Print the answer as it comes."""
    config = load_configuration()
    AzureEntraIDManager().set_config(config.azure_entra_id)
    with LlamaStackClientHolder() as holder:
        holder.load(config.llama_stack)
        stream = holder.get_client().chat.completions.create(
            model="azure/gpt-4o-mini",
            messages=[{"role": "user", "content": question}],
            stream=True,
        )
        for chunk in stream:
            for choice in chunk.choices:
                sys.stdout.write(choice.delta.content or "")


if __name__ == "__main__":
    main(sys.argv[1])
