import pytest
from prefect.blocks.core import Block
from prefect.testing.standard_test_suites import BlockStandardTestSuite

from prefect_replicate import ReplicateCredentials, ReplicateModel


@pytest.mark.parametrize("block", [ReplicateCredentials, ReplicateModel])
class TestBlocks(BlockStandardTestSuite):
    @pytest.fixture
    def block(self, request: pytest.FixtureRequest) -> type[Block]:
        return request.param

    @pytest.mark.skip(reason="it downloads the logo from GitHub, and tests reach no other host")
    def test_has_a_valid_image(self, block: type[Block]) -> None: ...

    def test_has_a_logo_by_https(self, block: type[Block]) -> None:
        assert str(block._logo_url).startswith("https://")

    def test_the_form_has_a_title_and_a_description_for_each_field(
        self, block: type[Block]
    ) -> None:
        properties = block.model_json_schema()["properties"]

        assert [name for name, one in properties.items() if not one.get("title")] == []
        assert [name for name, one in properties.items() if not one.get("description")] == []
