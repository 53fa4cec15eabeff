"""An agent of pydantic-ai on the stack: `python pydantic_ai_agent.py "Why is the sky blue?"`.

Needs `pip install 'pydantic-ai-slim[openai]'`. Which stack, and which identity, is in
lightspeed-stack.yaml.
"""

import asyncio
import sys

from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from lightspeed_azure import AzureEntraIDManager, load_configuration
from lightspeed_azure.transports.httpx2 import async_http_client


async def main(question: str) -> None:
    """Print the agent's answer."""
    config = load_configuration()
    if config.llama_stack is None:
        sys.exit("llama_stack: is missing")
    AzureEntraIDManager().set_config(config.azure_entra_id)
    async with async_http_client(config.llama_stack) as http:
        provider = OpenAIProvider(
            base_url=f"{config.llama_stack.url}/v1", api_key="none", http_client=http
        )
        agent = Agent(OpenAIChatModel("azure/gpt-4o-mini", provider=provider))
        answer = await agent.run(question)
        sys.stdout.write(f"{answer.output}\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
