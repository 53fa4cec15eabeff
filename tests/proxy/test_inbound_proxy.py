"""JWTs through the command itself: let in, rotated, expired, and never passed on."""

import asyncio
import time
from pathlib import Path

import issuer as issuers
from fake_stack import serving, stack
from proxying import CHAT, QUESTION, Recording, command


async def test_jwt_through_the_command(tmp_path: Path) -> None:
    """A caller with a good token is answered, one with another is not; keys may rotate meanwhile."""
    seen = Recording()
    with issuers.serving() as issuer:
        issuer.publish([issuers.key(number=0)])
        inbound = {
            "kind": "jwt",
            "issuer": issuer.issuer,
            "audience": "llm-proxy",
            "leeway": 0,
            "key_cooldown": 0.01,
        }

        def token(number: int = 0, *, lives: float = 60, aud: str = "llm-proxy") -> str:
            end = int(time.time() + lives)
            claims = issuers.claims(iss=issuer.issuer, aud=aud, exp=end)
            return issuers.sign(claims, by=issuers.key(number=number))

        async with (
            serving(stack(seen)) as url,
            command(url, tmp_path, inbound=inbound) as running,
            running.client() as http,
        ):

            async def asked(shown: str) -> int:
                headers = {"Authorization": f"Bearer {shown}"}
                return (await http.post(CHAT, json=QUESTION, headers=headers)).status_code

            good = token()
            assert (await http.post(CHAT, json=QUESTION)).status_code == 401
            assert await asked(good) == await asked(good) == 200
            assert await asked(token(aud="another")) == 401
            assert await asked(token(1)) == 401  # nobody has published its key
            issuer.publish([issuers.key(number=1)])
            async with asyncio.timeout(10):
                while await asked(token(1)) != 200:  # noqa: ASYNC110 - after the cool-down
                    await asyncio.sleep(0.01)
            assert await asked(good) == 401  # remembered, and its key is withdrawn
            expires = token(1, lives=2)
            assert await asked(expires) == 200
            while (status := await asked(expires)) == 200:
                pass
            assert status == 401  # remembered, and expired
    assert not any("eyJ" in repr(request) for request in seen.requests)
