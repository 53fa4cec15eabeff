"""The fixtures, used by somebody else's tests."""

import pytest

pytest_plugins = ["pytester"]

FIXTURES = """
    import os, httpx

    def test_all(azure_emulators, entra_emulator, imds_emulator, azure_openai_emulator):
        assert azure_emulators.entra is entra_emulator
        assert azure_emulators.imds is imds_emulator
        assert azure_emulators.azure is azure_openai_emulator
        assert entra_emulator.token_lifetime == {lifetime}
        entra_emulator.token_lifetime = 1.0
        azure_openai_emulator.deployments = ()

    def test_fresh(azure_emulators):
        assert azure_emulators.entra.token_lifetime == {lifetime}
        assert azure_emulators.azure.deployments
        assert "AZURE_CLIENT_SECRET" not in os.environ

    def test_environment(azure_environment, azure_emulators):
        assert dict(azure_environment) == azure_emulators.environment()
        for name, value in azure_environment.items():
            assert os.environ[name] == value
        url = azure_environment["AZURE_API_BASE"] + "/models"
        assert httpx.get(url).status_code == 401
        assert azure_emulators.azure.requests.rejected == 1
"""


@pytest.fixture(autouse=True)
def _alone(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run without other settings of this project, and without its environment."""
    monkeypatch.delenv("AZURE_CLIENT_SECRET", raising=False)
    pytester.makeini("[pytest]\naddopts = -p no:cacheprovider -p no:asyncio -W error")


def test_the_fixtures(pytester: pytest.Pytester) -> None:
    """Each is what it says, and new for each test."""
    pytester.makepyfile(FIXTURES.format(lifetime=3600.0))
    pytester.runpytest_subprocess().assert_outcomes(passed=3)


def test_the_lifetime_by_option_and_ini_file(pytester: pytest.Pytester) -> None:
    """The option wins over the ini-file."""
    with (pytester.path / "tox.ini").open("a") as ini:
        ini.write("\nazure_token_lifetime = 20\n")
    pytester.makepyfile(FIXTURES.format(lifetime=20.0))
    pytester.runpytest_subprocess().assert_outcomes(passed=3)
    pytester.makepyfile(FIXTURES.format(lifetime=5.0))
    pytester.runpytest_subprocess("--azure-token-lifetime=5").assert_outcomes(passed=3)


def test_a_lifetime_that_is_none(pytester: pytest.Pytester) -> None:
    """The message says what is wrong."""
    pytester.makepyfile("def test_it(azure_emulators): pass")
    result = pytester.runpytest_subprocess("--azure-token-lifetime=soon")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*azure_token_lifetime must be seconds above 0; it is 'soon'*"])


def test_without_the_extra(pytester: pytest.Pytester) -> None:
    """Pytest starts, tests that need no emulator pass, and the others say what to install."""
    pytester.makeconftest("import sys; sys.modules['aiohttp'] = None")
    pytester.makepyfile("def test_one(azure_emulators): pass\ndef test_two(): pass")
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(errors=1, passed=1)
    result.stdout.fnmatch_lines(
        ["*need the module 'aiohttp': pip install 'lightspeed-azure?demo?'*"]
    )


def test_the_fixtures_are_listed(pytester: pytest.Pytester) -> None:
    """`pytest --fixtures` describes each."""
    result = pytester.runpytest_subprocess("--fixtures")
    result.stdout.fnmatch_lines_random(
        [
            "azure_emulators -- *",
            "entra_emulator -- *",
            "imds_emulator -- *",
            "azure_openai_emulator -- *",
            "azure_environment -- *",
        ]
    )
