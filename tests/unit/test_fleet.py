"""Servers are read from the settings, or every problem is named at once."""

from __future__ import annotations

import pytest

from modules.ai.fleet import FleetError, read_fleet
from modules.ai.http_exchange import authorization


def problems_of(*urls: str, keys: tuple[str, ...] = (), vram_gb: tuple[float, ...] = ()) -> tuple[str, ...]:
    with pytest.raises(FleetError) as caught:
        read_fleet(urls, keys=keys, vram_gb=vram_gb)
    return caught.value.problems


@pytest.mark.parametrize(
    ("url", "name", "clean"),
    [
        ("http://127.0.0.1:8188", "127.0.0.1:8188", "http://127.0.0.1:8188"),
        (" http://gpu1.lan:8188/ ", "gpu1.lan:8188", "http://gpu1.lan:8188"),
        ("HTTPS://Abc-8188.Proxy.RunPod.net", "abc-8188.proxy.runpod.net", "https://abc-8188.proxy.runpod.net"),
        ("https://x.ngrok.app:443/", "x.ngrok.app", "https://x.ngrok.app"),
        ("http://x.example:443", "x.example:443", "http://x.example:443"),
        ("http://[::1]:8188", "[::1]:8188", "http://[::1]:8188"),
    ],
)
def test_a_server_is_named_after_its_host_and_port(url: str, name: str, clean: str) -> None:
    [server] = read_fleet([url])
    assert (server.name, server.url) == (name, clean)


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("192.168.1.5:8188", "http://"),
        ("localhost:8188", "http://"),
        ("ftp://gpu:8188", "ftp"),
        ("http://", "host"),
        ("http://gpu one:8188", "blanks"),
        ("http://gpu:99999", "port"),
        ("http://gpu:abc", "port"),
        ("http://gpu:0", "port 0"),
        ("http://[::1:8188", "brackets"),
        ("http://gpu:8188/comfy", "root"),
        ("http://gpu:8188/?token=secret", "?"),
        ("http://gpu:8188#x", "#"),
        ("http://ann:hunter2@gpu:8188", "COMFY_API_KEY"),
    ],
)
def test_an_address_that_cannot_work_is_told_with_the_way_out(url: str, word: str) -> None:
    [problem] = problems_of(url)
    assert word in problem
    assert "secret" not in problem
    assert "hunter2" not in problem


def test_no_address_at_all_is_a_problem() -> None:
    assert "COMFY_URLS is empty" in problems_of()[0]


@pytest.mark.parametrize(
    "twins",
    [
        ("http://gpu:8188", "http://gpu:8188/"),
        ("http://GPU:8188", "http://gpu:8188"),
        ("http://localhost:8188", "http://127.0.0.1:8188"),
        ("https://gpu", "http://gpu"),
        ("https://gpu", "https://gpu:443"),
    ],
)
def test_one_server_written_twice_is_found(twins: tuple[str, str]) -> None:
    [problem] = problems_of("http://other:8188", *twins)
    assert problem == "COMFY_URLS, address 3: the same server as address 2"


def test_every_problem_is_named_at_once() -> None:
    found = problems_of("gpu1:8188", "http://gpu2/x", "http://gpu3", keys=("a", "b"), vram_gb=(0,))
    assert len(found) == 4


def test_one_key_serves_all_and_a_list_goes_in_order() -> None:
    urls = ["http://a:1", "http://b:2"]
    assert [server.key for server in read_fleet(urls, keys=["k"])] == ["k", "k"]
    assert [server.key for server in read_fleet(urls, keys=["ann:pw", ""])] == ["ann:pw", None]
    assert [server.vram_bytes for server in read_fleet(urls, vram_gb=[8, 24])] == [8 * 2**30, 24 * 2**30]
    assert [server.vram_bytes for server in read_fleet(urls)] == [None, None]


def test_a_key_never_shows() -> None:
    assert "hunter2" not in repr(read_fleet(["http://a:1"], keys=["ann:hunter2"]))


def test_a_key_with_a_colon_is_basic_and_any_other_bearer() -> None:
    assert authorization("ann:hunter2") == "Basic YW5uOmh1bnRlcjI="
    assert authorization("abc") == "Bearer abc"
    assert authorization("") is authorization(None) is None
