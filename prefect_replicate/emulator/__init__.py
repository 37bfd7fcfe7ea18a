"""A local Replicate: a real HTTP server that speaks Replicate's published API."""

from importlib.util import find_spec as _find_spec

_NEEDED = ("av", "PIL", "python_multipart", "standardwebhooks", "starlette", "uvicorn")
if _missing := [name for name in _NEEDED if _find_spec(name) is None]:
    raise ModuleNotFoundError(
        f"the emulator needs {', '.join(_missing)}: pip install 'prefect-replicate[emulator]'"
    )

from prefect_replicate.emulator.behaviour import Behaviour  # noqa: E402 after the check above
from prefect_replicate.emulator.faults import Fault  # noqa: E402
from prefect_replicate.emulator.server import Emulator  # noqa: E402
from prefect_replicate.emulator.serving import serve  # noqa: E402

__all__ = ["Behaviour", "Emulator", "Fault", "serve"]
