"""The code of lightspeed-stack that its wheel carries, with two of its modules replaced by ours.

The wheel lacks the modules beside its packages (`configuration`, `constants`, `log`, `version`,
`client`, `transcripts`). tests/lightspeed_stack stands in for those; `client/ogx.py` and
`authorization/azure_token_manager.py` are the replacements that examples/lightspeed-stack shows.
"""

import importlib.util
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

STAND_INS = Path(__file__).parents[1] / "lightspeed_stack"
REPLACEMENTS = Path(__file__).parents[2] / "examples" / "lightspeed-stack"


def is_installed() -> bool:
    """Return whether this is the environment of lightspeed-stack."""
    return importlib.util.find_spec("pydantic_ai_lightspeed") is not None


def prepare(configuration: dict[str, Any]) -> Any:
    """Let its modules be imported; return its own `Configuration`.

    Args:
        configuration: the content of lightspeed-stack.yaml.
    """
    for folder in (REPLACEMENTS, STAND_INS):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
    name = "authorization.azure_token_manager"
    if name not in sys.modules:
        file = REPLACEMENTS / "authorization" / "azure_token_manager.py"
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    held = import_module("configuration").configuration
    held.init_from_dict(configuration)
    return held.configuration
