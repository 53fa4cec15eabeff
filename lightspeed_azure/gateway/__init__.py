"""The LLM proxy: the same token for clients that are not Python."""
