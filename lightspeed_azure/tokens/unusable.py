"""A credential that cannot even be tried, found out when a token is asked for."""

from lightspeed_azure.errors import CredentialRejectedError, InvalidConfigurationError


class UnusableCredentialError(CredentialRejectedError, InvalidConfigurationError):
    """What is configured is no credential: its file never was good, or its factory fails.

    To whoever waits for a token it is a permanent `TokenError`, to whoever looks for mistakes in a
    configuration an `InvalidConfigurationError`.
    """
