"""Chains by a real server on this machine: many at once, outages, nonsense."""

import json
import threading
from typing import Any

import pytest
from chat_server import said, server

from rlcap.degrading.chain import Start
from rlcap.degrading.conversation import Limits
from rlcap.degrading.endpoint import IN_A_ROW, Endpoint

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
    assert [change.at for edit in made[5].edits for change in edit.changes] == [9, 23, 37]
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


def caption_of(body: dict[str, Any]) -> str:
    return body["messages"][-1]["content"].split("Caption:\n")[1]


@pytest.mark.parametrize("status", [400, 413, 422, 500])
def test_a_caption_that_is_refused_ends_its_own_chain(status: int) -> None:
    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        return (status, {"error": "filtered"}) if "cat 3 " in caption_of(body) else recolour(body)

    with server(answer) as (url, requests):
        degrader = Endpoint(url, "m", LIMITS, in_flight=2, attempts=2)
        made = {start.row: chain for unit in degrader.chains(units(6)) for start, chain in unit}
    assert [len(made[row].captions) for row in range(6)] == [4, 4, 4, 1, 4, 4]
    assert made[3].failures == {f"refused by the endpoint: HTTP {status}": 2, "given up": 1}
    assert len(requests) == 5 * 3 + 2 * (2 if status == 500 else 1)


def test_an_answer_that_does_not_come_is_no_outage() -> None:
    hold = threading.Event()

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        if "cat 1 " in caption_of(body):
            hold.wait(20)
        return recolour(body)

    with server(answer) as (url, _):
        degrader = Endpoint(url, "m", Limits(length=2, tries=1), in_flight=1, attempts=1, timeout=2.0)
        made = {start.row: chain for unit in degrader.chains(units(3)) for start, chain in unit}
        hold.set()
    assert made[1].failures == {"refused by the endpoint: no answer in time": 1, "given up": 1}
    assert [len(made[row].captions) for row in range(3)] == [2, 1, 2]


@pytest.mark.parametrize("number", [2, 60])
def test_a_server_that_refuses_all_stops_the_run_and_makes_no_chain(number: int) -> None:
    made: list[Any] = []
    told = "gives no answers .HTTP 400: no such setting"
    with server(lambda body: (400, "no such setting")) as (url, requests), pytest.raises(ValueError, match=told):
        made.extend(Endpoint(url, "m", LIMITS, in_flight=1).chains(units(number)))
    assert made == []
    assert min(2 * number, IN_A_ROW) <= len(requests) <= IN_A_ROW + 1  # the next caption may have begun


def test_a_long_caption_has_room_for_its_answer_and_what_is_cut_is_told() -> None:
    long = Start(1, "v", "v#0", "a red cat sits here . " * 400)

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        status, value = said('{"kind": "attribute", "caption": "a blue')
        value["choices"][0]["finish_reason"] = "length"
        return status, value

    with server(answer) as (url, requests):
        degrader = Endpoint(url, "m", Limits(length=2, tries=1), in_flight=1)
        made = {start.row: chain for unit in degrader.chains([*units(1), [long]]) for start, chain in unit}
    assert [request["max_tokens"] for request in requests] == [512, 64 + len(long.caption) // 2]
    assert made[1].failures == {"answer cut off": 1, "given up": 1}


def test_after_an_interrupt_nothing_more_is_asked() -> None:
    hold = threading.Event()

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        if "cat 0 " not in caption_of(body):
            hold.wait(20)
        return recolour(body)

    with server(answer) as (url, requests):
        going = Endpoint(url, "m", LIMITS, in_flight=2).chains(units(20))
        assert next(going)[0][0].row == 0
        going.close()  # what the interpreter does with it after Ctrl-C
        under_way = len(requests)
        assert under_way < 8
        hold.set()
        for thread in threading.enumerate():
            if thread.name.startswith("rlcap-chains"):
                thread.join(20)
    assert len(requests) <= under_way + 1  # which was asked, and had not arrived


@pytest.mark.parametrize("url", ["localhost:8000/v1", "my-server", "ftp://a/v1", "http://", ""])
def test_an_address_is_one_of_a_web_server(url: str) -> None:
    with pytest.raises(ValueError, match=r"--endpoint is .*; it must be an address, http://HOST:PORT/v1"):
        Endpoint(url, "m", LIMITS)


def test_nobody_there() -> None:
    with server(recolour) as (url, _):
        pass
    with pytest.raises(ValueError, match=r"127.0.0.1.*gives no answers \(ConnectError"):
        list(Endpoint(url, "m", LIMITS, attempts=2).chains(units(1)))
