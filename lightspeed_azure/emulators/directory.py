"""The tenants that Entra ID knows, and the applications in each."""

import secrets
import threading
import uuid

from lightspeed_azure.emulators import aadsts
from lightspeed_azure.emulators.applications import Application


class Directory:
    """Applications by tenant and client id; a tenant exists when it has one.

    It begins with one tenant and one application, both with random names. Safe for concurrent
    use.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reset()

    def __repr__(self) -> str:
        return f"Directory(tenant_id={self.tenant_id!r}, applications={len(self._applications)})"

    def reset(self) -> None:
        """Forget everything, and begin again with other names and another secret."""
        first = Application(tenant_id=str(uuid.uuid4()), secrets=[secrets.token_urlsafe(30)])
        with self._lock:
            self._first = (first.tenant_id, first.client_id)
            self._applications = {self._first: first}

    @property
    def tenant_id(self) -> str:
        """The tenant that is there from the start."""
        return self._first[0]

    @property
    def application(self) -> Application:
        """The application that is there from the start, as it is now."""
        with self._lock:
            return self._applications[self._first]

    @property
    def issuers(self) -> frozenset[str]:
        """The claim ``iss`` of the tokens of every tenant."""
        with self._lock:
            return frozenset(issuer_of(tenant_id) for tenant_id, _ in self._applications)

    def register(self, application: Application) -> None:
        """Add the application, in the place of one with the same tenant and client id."""
        with self._lock:
            self._applications[application.tenant_id, application.client_id] = application

    def find(self, tenant_id: str, client_id: str) -> Application:
        """Return an application.

        Raises:
            EntraError: the tenant, or the application in it, is unknown.
        """
        self.know(tenant_id)
        with self._lock:
            found = self._applications.get((tenant_id, client_id))
        if found is None:
            raise aadsts.unknown_application(client_id, tenant_id)
        return found

    def know(self, tenant_id: str, *, discovery: bool = False) -> None:
        """Raise an EntraError when there is no such tenant; `discovery` words it differently."""
        with self._lock:
            known = any(tenant_id == each for each, _ in self._applications)
        if not known:
            raise aadsts.unknown_tenant(tenant_id, discovery=discovery)


def issuer_of(tenant_id: str) -> str:
    """Return the claim ``iss`` of a tenant's version 1.0 tokens."""
    return f"https://sts.windows.net/{tenant_id}/"
