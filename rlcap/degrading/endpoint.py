"""A chat model behind an OpenAI-compatible endpoint (a vLLM server, for one), many requests in flight."""

import os
import random
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any
from urllib.parse import urlsplit

from rlcap.degrading.chain import Chain, Start
from rlcap.degrading.conversation import CUT, Answer, Limits, Request, conversation

KEY = "RLCAP_API_KEY"  # the environment variable with the key, where the endpoint wants one
BROKEN = (500, 502, 503, 504)  # of this request, or of the server: asked again, then this answer has failed
BUSY = (408, 409, 425, 429)  # of the server: asked again, then the run stops
REFUSED = (400, 413, 422)  # of this request: a filter, a text too long
FIRST_WAIT, LONGEST_WAIT = 0.5, 20.0  # seconds; doubled each time
IN_A_ROW = 32  # requests that fail with none answered between: then it is the server
BY_ITSELF = "refused by the endpoint"  # begins the reason of an answer that failed


class EndpointError(ValueError):
    """The endpoint answers nothing, so that the run stops."""


def require_address(url: str) -> str:
    """The address without a slash at its end; ValueError where it is none of a web server."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"--endpoint is {url!r}; it must be an address, http://HOST:PORT/v1 or https://HOST/v1")
    return url.rstrip("/")


class Endpoint:
    """Chains by an endpoint, one caption a unit and up to `in_flight` of them at a time.

    The same for the same (seed, row) as far as the server honours the `seed` of a request. A request that is refused or
    fails by itself is an answer that failed. Raises ValueError where the endpoint cannot be reached, wants another key,
    model or address, or fails IN_A_ROW times running; chains that were finished by then have been yielded.
    """

    batch = 1

    def __init__(
        self,
        url: str,
        model: str,
        limits: Limits,
        *,
        seed: int = 0,
        in_flight: int = 64,
        temperature: float = 0.7,
        timeout: float = 120.0,
        attempts: int = 6,
    ) -> None:
        """url: up to and with /v1. timeout: seconds for an answer. attempts: how often an outage is waited out."""
        try:
            import httpx
        except ImportError as error:
            raise ValueError(f"an endpoint needs httpx ({error}): pip install 'rlcap[chains]'") from error
        self.url, self.model, self.limits, self.seed = require_address(url), model, limits, seed
        self.in_flight, self.temperature, self.attempts = in_flight, temperature, attempts
        self._error, self._slow = httpx.HTTPError, httpx.ReadTimeout
        self._counts = threading.Lock()  # of what follows
        self._answered = self._failed_in_row = 0
        self._told = ""  # of the last request that failed
        key = os.environ.get(KEY)
        self._client = httpx.Client(
            timeout=timeout,
            limits=httpx.Limits(max_connections=in_flight, max_keepalive_connections=in_flight),
            headers={"Authorization": f"Bearer {key}"} if key else {},
        )

    def chains(self, units: Iterable[list[Start]]) -> Iterator[list[tuple[Start, Chain]]]:
        """The chains as they are finished. At the first error nothing new is asked; what is under way is finished.

        Where the iterator is left (Ctrl-C) no request is made any more. Chains with failed requests wait for the
        next one that is answered: a server that refuses everything makes no chain.
        """
        waiting: set[Future[tuple[Start, Chain]]] = set()
        doubtful: list[tuple[Start, Chain]] = []
        left = iter(units)
        failure: EndpointError | None = None
        stopped = threading.Event()
        pool = ThreadPoolExecutor(self.in_flight, thread_name_prefix="rlcap-chains")
        try:
            while True:
                while failure is None and len(waiting) < 2 * self.in_flight and (unit := next(left, None)) is not None:
                    waiting.update(pool.submit(self._chain, start, stopped) for start in unit)
                if not waiting:
                    break
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    try:
                        made = future.result()
                    except EndpointError as error:
                        if failure is None:
                            failure = error
                            waiting = {other for other in waiting if not other.cancel()}
                        continue
                    if any(reason.startswith(BY_ITSELF) for reason in made[1].failures):
                        doubtful.append(made)
                    else:
                        yield [made]
                if not self._failed_in_row:
                    yield from ([made] for made in doubtful)
                    doubtful = []
        finally:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
        if failure is not None:
            raise failure
        if doubtful and not self._answered:
            raise self._no_answers(self._told)
        yield from ([made] for made in doubtful)

    def _chain(self, start: Start, stopped: threading.Event) -> tuple[Start, Chain]:
        talk = conversation(start, self.seed, self.limits)
        try:
            request = next(talk)
            while True:
                request = talk.send(self._answer(request, stopped))
        except StopIteration as end:
            return start, end.value

    def _answer(self, request: Request, stopped: threading.Event) -> Answer:
        body = {
            "model": self.model,
            "messages": list(request.messages),
            "temperature": self.temperature,
            "max_tokens": _budget(request),
            "seed": request.seed,
        }
        told, alone = "", False  # alone: it may be this request
        for attempt in range(self.attempts):
            # Not all at once again; how long is no part of any result.
            seconds = min(LONGEST_WAIT, FIRST_WAIT * 2 ** (attempt - 1)) * random.uniform(0.5, 1.0) if attempt else 0.0
            if stopped.wait(seconds):
                raise EndpointError("stopped")
            try:
                response = self._client.post(f"{self.url}/chat/completions", json=body)
            except self._slow:
                told, alone = "no answer in time", True
                continue
            except self._error as error:
                told, alone = f"{type(error).__name__}: {error}", False
                continue
            status = response.status_code
            if status == 200:
                self._note("")
                return _said(response)
            told, alone = f"HTTP {status}: {response.text[:200]}", status in (*BROKEN, *REFUSED)
            if status not in (*BROKEN, *BUSY):
                break
        if alone and self._note(told) < IN_A_ROW:
            return Answer("", f"{BY_ITSELF}: {told.partition(':')[0]}")
        raise self._no_answers(told)

    def _note(self, failed: str) -> int:
        """How many requests have failed in a row, after one that was answered (""), or of which this was told."""
        with self._counts:
            if failed:
                self._failed_in_row, self._told = self._failed_in_row + 1, failed
            else:
                self._failed_in_row, self._answered = 0, self._answered + 1
            return self._failed_in_row

    def _no_answers(self, told: str) -> EndpointError:
        return EndpointError(
            f"{self.url}/chat/completions gives no answers ({told}); what is finished is kept: the same command goes "
            "on from there once the endpoint answers"
        )


def _budget(request: Request) -> int:
    """The most tokens of an answer, which repeats the caption. English has a token in four bytes or so."""
    return max(512, 64 + len(request.caption.encode()) // 2)


def _said(response: Any) -> Answer:
    """The answer in a response; "" where it is none of the protocol."""
    try:
        choice = response.json()["choices"][0]
        content = choice["message"]["content"]
        cut = choice.get("finish_reason") == "length"
    except (ValueError, LookupError, TypeError, AttributeError):
        return Answer("")
    return Answer(content if isinstance(content, str) else "", CUT if cut else "")
