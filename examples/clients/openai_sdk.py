"""The OpenAI SDK, pointed at the stack's /v1: `python openai_sdk.py "Why is the sky blue?"`.

Which stack, and which identity, is in lightspeed-stack.yaml. The SDK's own key is the stack's, if it
wants one; Azure's never passes through here.
"""

import asyncio
import sys

from openai import AsyncOpenAI

from lightspeed_azure import AzureEntraIDManager, load_configuration
from lightspeed_azure.transports.httpx2 import async_http_client


async def main(question: str) -> None:
    """Print the answer as it comes."""
    config = load_configuration()
    if config.llama_stack is None:
        sys.exit("llama_stack: is missing")
    AzureEntraIDManager().set_config(config.azure_entra_id)
    http = async_http_client(config.llama_stack, follow_redirects=True)
    async with AsyncOpenAI(
        base_url=f"{config.llama_stack.url}/v1", api_key="none", http_client=http
    ) as client:
        stream = await client.chat.completions.create(
            model="azure/gpt-4o-mini",
            messages=[{"role": "user", "content": question}],
            stream=True,
        )
        async for chunk in stream:
            for choice in chunk.choices:
                sys.stdout.write(choice.delta.content or "")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
