"""Chains by a real server on this machine: many at once, outages, nonsense."""

import json
import threading
from typing import Any

import pytest
from chat_server import said, server

from rlcap.degrading.chain import Start
from rlcap.degrading.conversation import Limits
from rlcap.degrading.endpoint import Endpoint

pytest.importorskip("httpx", reason="needs httpx: pip install 'rlcap[chains]'")
COLOURS = ["red", "blue", "green", "pink"]
LIMITS = Limits(length=4, tries=2)


def units(number: int) -> list[list[Start]]:
    return [
        [Start(row, f"v{row}", f"v{row}#0", f"cat {row} is red , dog is red , cow is red")] for row in range(number)
    ]


def recolour(body: dict[str, Any]) -> tuple[int, Any]:
    """Paints the first red animal blue."""
    caption = body["messages"][-1]["content"].split("Caption:\n")[1]
    return said(json.dumps({"kind": "attribute", "caption": caption.replace("red", "blue", 1)}))


def test_many_in_flight_make_all_chains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLCAP_API_KEY", "secret")
    together = threading.Barrier(8, timeout=20)

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        if "cat" in body["messages"][-1]["content"] and not body["messages"][-1]["content"].startswith("Changed"):
            together.wait()  # passes only where eight are asked at once
        return recolour(body)

    with server(answer) as (url, requests):
        degrader = Endpoint(url, "a-model", LIMITS, seed=1, in_flight=8, temperature=0.2)
        made = {start.row: chain for unit in degrader.chains(units(16)) for start, chain in unit}
    assert sorted(made) == list(range(16))
    assert made[5].captions[-1] == "cat 5 is blue , dog is blue , cow is blue"
    assert [edit.at for edit in made[5].edits] == [9, 23, 37]
    assert len(requests) == 48
    assert {request["key"] for request in requests} == {"Bearer secret"}
    assert {(request["model"], request["temperature"]) for request in requests} == {("a-model", 0.2)}
    assert len({request["seed"] for request in requests}) == 48
    assert max(request["at once"] for request in requests) == 8


def test_an_outage_is_waited_out() -> None:
    failed: set[str] = set()

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        key = str(body["seed"])
        if key not in failed:
            failed.add(key)
            return 503, "busy"
        return recolour(body)

    with server(answer) as (url, requests):
        (unit,) = Endpoint(url, "m", Limits(length=2), in_flight=2).chains(units(1))
    assert len(unit[0][1].captions) == 2
    assert unit[0][1].failures == {}
    assert len(requests) == 2


NONSENSE = [said("I cannot."), said(None), (200, "<html>"), (200, {"choices": []}), (200, [])]


@pytest.mark.parametrize("nonsense", NONSENSE)
def test_nonsense_is_refused_and_counted(nonsense: tuple[int, Any]) -> None:
    with server(lambda body: nonsense) as (url, requests):
        made = [unit[0][1] for unit in Endpoint(url, "m", LIMITS, in_flight=2).chains(units(3))]
    assert [len(chain.captions) for chain in made] == [1, 1, 1]
    assert all(sum(chain.failures.values()) == 3 for chain in made)
    assert len(requests) == 6


def test_a_refusal_stops_with_what_the_server_says_and_keeps_what_is_done() -> None:
    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        return (401, {"error": "no such key"}) if "cat 3 " in body["messages"][-1]["content"] else recolour(body)

    made = []
    told = r"HTTP 401.*no such key.*what is finished is kept"
    with server(answer) as (url, _), pytest.raises(ValueError, match=told):  # noqa: PT012  (it is what was yielded)
        for unit in Endpoint(url, "m", LIMITS, in_flight=1).chains(units(6)):
            made.append(unit[0][0].row)
    assert {0, 1, 2} <= set(made)
    assert 3 not in made


def test_nobody_there() -> None:
    with server(recolour) as (url, _):
        pass
    with pytest.raises(ValueError, match=r"127.0.0.1.*gives no answers \(ConnectError"):
        list(Endpoint(url, "m", LIMITS, attempts=2).chains(units(1)))
