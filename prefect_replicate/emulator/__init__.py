"""A local Replicate: a real HTTP server that speaks Replicate's published API.

In tests, the fixture starts it once, resets it before each test, and points the environment at it:

```python
pytest_plugins = ["prefect_replicate.emulator.fixtures"]  # in the conftest.py at the root

def test_a_lost_reply(replicate_emulator):
    replicate_emulator.clock.speed = 0  # time stands still
    replicate_emulator.faults.add("lost_reply", method="POST", path="/predictions$")
    ...
    replicate_emulator.clock.advance(60)
    assert len(replicate_emulator.predictions.live()) == 0
```

`emulator/timer` is the model for tests: its input says how long it takes, how it ends and what it
returns. `emulator/community-timer` is the same with versions, and `acme/timer` is a deployment of
it. The video models have the names and inputs of real ones and return an MP4 that shows the prompt.
`emulator/picture` and `emulator/language` are official models; `emulator/speech`,
`emulator/embedding`, `emulator/separation` and `emulator/oddities` are community models: one for
each kind of input and output. Add any other model with the schema of one of its versions, which
Replicate returns from `GET /v1/models/OWNER/NAME` as `latest_version.openapi_schema`:

```python
def test_a_photo_is_restored(replicate_emulator):
    schema = json.loads(Path("restore-photo.json").read_text())
    version = replicate_emulator.add_model("acme/restore-photo", schema)
    assert replicate.run(version, input={"image": "https://example.com/old.jpg"})
```

Tests in other processes or languages control it over HTTP;
`prefect_replicate.emulator.api.control` lists the routes.
"""

from importlib.util import find_spec as _find_spec

_NEEDED = ("av", "pillow", "python-multipart", "standardwebhooks", "starlette", "uvicorn")
_MODULES = {"pillow": "PIL", "python-multipart": "python_multipart"}
if _missing := [name for name in _NEEDED if _find_spec(_MODULES.get(name, name)) is None]:
    raise ModuleNotFoundError(
        f"the emulator needs {', '.join(_missing)}: pip install {' '.join(_missing)}"
    )

from prefect_replicate.emulator.behaviour import Behaviour  # noqa: E402 after the check above
from prefect_replicate.emulator.faults import Fault  # noqa: E402
from prefect_replicate.emulator.server import Emulator  # noqa: E402
from prefect_replicate.emulator.serving import serve  # noqa: E402

__all__ = ["Behaviour", "Emulator", "Fault", "serve"]
