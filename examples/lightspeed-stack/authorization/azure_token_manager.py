"""Replaces src/authorization/azure_token_manager.py of lightspeed-stack."""

from lightspeed_azure import AzureEntraIDManager

__all__ = ["AzureEntraIDManager"]
