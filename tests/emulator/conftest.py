# Only the conftest at the root may name plugins, and these tests also run alone.
from prefect_replicate.emulator.fixtures import (  # noqa: F401 pytest finds them here
    _replicate_emulator_server,
    replicate_emulator,
)
