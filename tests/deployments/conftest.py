import tempfile
from collections.abc import Callable, Iterator

import pytest
from endings.house import House
from endings.witness import Witness
from prefect import flow
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags

from prefect_replicate import create_prediction, engine
from prefect_replicate.demo.prefect_server import PrefectServer
from prefect_replicate.emulator import Emulator
from prefect_replicate.ledger.flow_runs import OPEN_TAG
from prefect_replicate.settings import DESTINATION_FOLDERS, INPUT_FOLDERS

Command = Callable[[str], tuple[object, str, str]]


@pytest.fixture(scope="session")
def replicate() -> Iterator[Emulator]:
    """A local Replicate in this process, which other processes can reach."""
    with Emulator() as emulator:
        yield emulator


@pytest.fixture(scope="session")
def run_env(prefect_server: PrefectServer, replicate: Emulator) -> dict[str, str]:
    """The environment of a process that runs flows on that server and that Replicate."""
    return prefect_server.env | {
        "REPLICATE_API_TOKEN": replicate.token,
        "REPLICATE_BASE_URL": replicate.base_url,
        INPUT_FOLDERS: "~/campaigns",
        DESTINATION_FOLDERS: tempfile.gettempdir(),
    }


@pytest.fixture(scope="module")
def house(
    prefect_server: PrefectServer, replicate: Emulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    """Where users' processes run, with a witness before Replicate."""
    with Witness(replicate.base_url) as witness:
        house = House(
            prefect_server, replicate, witness, tmp_path_factory.mktemp("campaigns"), served=[]
        )
        yield house
        house.stop()


@pytest.fixture
def account(prefect_api: None, replicate: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of `run_env`, for the flows of this process."""
    monkeypatch.setenv("REPLICATE_API_TOKEN", replicate.token)
    monkeypatch.setenv("REPLICATE_BASE_URL", replicate.base_url)


@pytest.fixture
def command(account: None, command: Command) -> Command:
    """Run a command line in this process, on that account."""
    return command


@flow
def abandoning() -> str:
    return create_prediction("emulator/timer", {"seconds": 600}).id


@pytest.fixture
def orphan(prefect_server: PrefectServer, account: None) -> str:
    """A prediction that a flow run has left running, the only one that the ledger tells of."""
    tagged = FlowRunFilter(tags=FlowRunFilterTags(all_=[OPEN_TAG]))
    with prefect_server.client() as client:
        for one in client.read_flow_runs(flow_run_filter=tagged):
            client.delete_flow_run(one.id)
    prediction = abandoning()
    engine._running_engine().state.pop("ledgers")  # whoever looks for it is another process
    return prediction
