"""A service that asks a model on Azure through Llama Stack, without any Azure key.

uvicorn app:app          (in this folder; which stack, and which identity, is in lightspeed-stack.yaml)
"""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, Field

from lightspeed_azure.fastapi import ClientDep, RuntimeDep, lifespan

app = FastAPI(
    title="Questions to Azure, without a key",
    lifespan=lifespan(Path(__file__).with_name("lightspeed-stack.yaml")),
)


class Query(BaseModel):
    """A question."""

    query: Annotated[str, Field(min_length=1)]
    model: str = "azure/gpt-4o-mini"

    def request(self) -> dict[str, Any]:
        """Return the question as the client takes it."""
        return {"model": self.model, "messages": [{"role": "user", "content": self.query}]}


@app.post("/query")
async def query(query: Query, client: ClientDep) -> dict[str, str]:
    """Answer a question in one piece."""
    completion = await client.chat.completions.create(**query.request())
    return {"response": completion.choices[0].message.content or ""}


@app.post("/query/stream")
async def query_stream(query: Query, client: ClientDep) -> StreamingResponse:
    """Answer a question as it is written, as server-sent events."""
    chunks = await client.chat.completions.create(**query.request(), stream=True)

    async def events() -> AsyncIterator[str]:
        async for chunk in chunks:
            for choice in chunk.choices:
                yield f"data: {json.dumps({'response': choice.delta.content or ''})}\n\n"
        yield "data: [DONE]\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


@app.get("/readyz")
async def readyz(runtime: RuntimeDep) -> JSONResponse:
    """Say whether questions can be answered; reads memory only."""
    readiness = runtime.readiness()
    return JSONResponse(readiness, status_code=200 if readiness["ready"] else 503)
