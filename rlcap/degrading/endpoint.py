"""A chat model behind an OpenAI-compatible endpoint (a vLLM server, for one), many requests in flight."""

import os
import random
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from rlcap.degrading.chain import Chain, Start
from rlcap.degrading.conversation import Limits, Request, conversation

KEY = "RLCAP_API_KEY"  # the environment variable with the key, where the endpoint wants one
AGAIN = (408, 409, 425, 429, 500, 502, 503, 504)  # answers after which it is worth asking again
FIRST_WAIT, LONGEST_WAIT = 0.5, 20.0  # seconds; doubled each time


class Endpoint:
    """Chains by an endpoint, one caption a unit and up to `in_flight` of them at a time.

    The same for the same (seed, row) as far as the server honours the `seed` of a request. Raises ValueError where the
    endpoint cannot be reached or refuses a request; chains that were finished by then have been yielded.
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
        self.url, self.model, self.limits, self.seed = url.rstrip("/"), model, limits, seed
        self.in_flight, self.temperature, self.attempts = in_flight, temperature, attempts
        self._errors: Any = httpx.HTTPError
        key = os.environ.get(KEY)
        self._client = httpx.Client(
            timeout=timeout,
            limits=httpx.Limits(max_connections=in_flight, max_keepalive_connections=in_flight),
            headers={"Authorization": f"Bearer {key}"} if key else {},
        )

    def chains(self, units: Iterable[list[Start]]) -> Iterator[list[tuple[Start, Chain]]]:
        """The chains as they are finished. At the first error nothing new is asked; what is under way is finished."""
        waiting: set[Future[tuple[Start, Chain]]] = set()
        left = iter(units)
        failure: ValueError | None = None
        with ThreadPoolExecutor(self.in_flight, thread_name_prefix="rlcap-chains") as pool:
            while True:
                while failure is None and len(waiting) < 2 * self.in_flight and (unit := next(left, None)) is not None:
                    waiting.update(pool.submit(self._chain, start) for start in unit)
                if not waiting:
                    break
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    try:
                        yield [future.result()]
                    except ValueError as error:
                        if failure is None:
                            failure = error
                            waiting = {other for other in waiting if not other.cancel()}
        if failure is not None:
            raise failure

    def _chain(self, start: Start) -> tuple[Start, Chain]:
        talk = conversation(start, self.seed, self.limits)
        try:
            request = next(talk)
            while True:
                request = talk.send(self._answer(request))
        except StopIteration as end:
            return start, end.value

    def _answer(self, request: Request) -> str | None:
        body = {
            "model": self.model,
            "messages": list(request.messages),
            "temperature": self.temperature,
            "max_tokens": 512,
            "seed": request.seed,
        }
        told = ""
        for attempt in range(self.attempts):
            if attempt:
                # Not all at once again; how long is no part of any result.
                time.sleep(min(LONGEST_WAIT, FIRST_WAIT * 2 ** (attempt - 1)) * random.uniform(0.5, 1.0))
            try:
                response = self._client.post(f"{self.url}/chat/completions", json=body)
            except self._errors as error:
                told = f"{type(error).__name__}: {error}"
                continue
            if response.status_code == 200:
                return _text(response)
            told = f"HTTP {response.status_code}: {response.text[:200]}"
            if response.status_code not in AGAIN:
                break
        raise ValueError(
            f"{self.url}/chat/completions gives no answers ({told}); what is finished is kept: the same command goes "
            "on from there once the endpoint answers"
        )


def _text(response: Any) -> str | None:
    """The answer in a response; None where it is none of the protocol."""
    try:
        content = response.json()["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError):
        return None
    return content if isinstance(content, str) else None
