"""Resolvers for OpenBao or HashiCorp Vault (extra `vault`) and Azure Key Vault (extra `keyvault`)."""
