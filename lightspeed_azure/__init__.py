"""Azure Entra ID tokens, always fresh, on every Llama Stack inference request."""
