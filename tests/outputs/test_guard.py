import pytest

from prefect_replicate.outputs.fetch import AccessRules, is_internal, parse_url

RULES = AccessRules.make("https://api.replicate.com", ["CDN.example.com", "minio.example.com:9000"])
LOCAL_RULES = AccessRules.make("http://127.0.0.1:5000", [])


@pytest.mark.parametrize(
    "url",
    [
        "https://replicate.delivery/a",
        "https://pbxt.replicate.delivery:443/a",
        "https://api.replicate.com/v1/files/x/download",
        "https://cdn.example.com/a",
        "https://minio.example.com:9000/a",
        "https://REPLICATE.delivery/a",
    ],
)
def test_trusted_hosts_are_allowed(url: str) -> None:
    assert RULES.refusal(parse_url(url)) is None


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://replicate.delivery/a", "only https"),
        ("ftp://replicate.delivery/a", "only https"),
        ("https://evilreplicate.delivery/a", "evilreplicate.delivery is not allowed"),
        ("https://replicate.delivery.evil.com/a", "not allowed"),
        ("https://replicate.delivery@evil.com/a", "evil.com is not allowed"),
        ("https://replicate.delivery:8443/a", "add 'replicate.delivery:8443' to `allowed_hosts`"),
        ("https://sub.cdn.example.com/a", "not allowed"),
        ("https://minio.example.com/a", "not allowed"),
        ("https://169.254.169.254/latest", "not allowed"),
        ("https://2130706433/", "not allowed"),
    ],
)
def test_other_hosts_are_refused_with_the_way_to_allow_them(url: str, reason: str) -> None:
    refusal = RULES.refusal(parse_url(url))

    assert refusal is not None
    assert reason in refusal


def test_http_is_allowed_where_the_api_itself_uses_it() -> None:
    assert LOCAL_RULES.refusal(parse_url("http://127.0.0.1:5000/v1/files/a")) is None
    assert LOCAL_RULES.refusal(parse_url("http://127.0.0.1:5001/a")) is None
    assert LOCAL_RULES.refusal(parse_url("http://localhost:5000/a")) is not None


@pytest.mark.parametrize(
    ("url", "sees"),
    [
        ("https://api.replicate.com/x", True),
        ("https://api.replicate.com:443/x", True),
        ("http://api.replicate.com/x", False),
        ("https://api.replicate.com:8443/x", False),
        ("https://replicate.delivery/x", False),
    ],
)
def test_only_the_exact_origin_of_the_api_sees_the_token(url: str, sees: bool) -> None:
    assert RULES.is_of_api(parse_url(url)) is sees


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "ff02::1",
        "::ffff:10.0.0.1",
        "2002:7f00:1::",
    ],
)
def test_addresses_off_the_internet_are_internal(address: str) -> None:
    assert is_internal(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_addresses_on_the_internet_are_not_internal(address: str) -> None:
    assert not is_internal(address)
