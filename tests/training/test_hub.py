"""`push_to_hub` against a server that speaks the Hub's protocol: which files arrive, with which messages."""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import transformers.utils.hub
from huggingface_hub import HfApi, ModelCard
from small import picture_dataset
from test_captioner_trainer import xe_trainer
from tiny import tiny_encoder_decoder

import captioners
from rlcap.training import checkpoints, run

pytest.importorskip("pycocoevalcap", reason="evaluation needs pycocoevalcap: pip install 'rlcap[coco]'")


class Hub(ThreadingHTTPServer):
    """Takes every file in the commit itself; `commits`: (message, path -> content)."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.commits: list[tuple[str, dict[str, bytes]]] = []
        self.created: list[dict[str, Any]] = []
        self.endpoint = f"http://127.0.0.1:{self.server_port}"


class _Answers(BaseHTTPRequestHandler):
    server: Hub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        address = self.server.endpoint
        if self.path == "/api/repos/create":
            self.server.created.append(json.loads(body))
            self._answer({"url": f"{address}/me/{json.loads(body)['name']}"})
        elif self.path == "/api/validate-yaml":
            self._answer({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            names = [file["path"] for file in json.loads(body)["files"]]
            files = [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]
            self._answer({"files": files})
        else:
            lines = [json.loads(line) for line in body.splitlines()]
            (head,) = [line["value"] for line in lines if line["key"] == "header"]
            files = [line["value"] for line in lines if line["key"] == "file"]
            content = {file["path"]: base64.b64decode(file["content"]) for file in files}
            self.server.commits.append((head["summary"], content))
            self._answer({"commitUrl": f"{address}/me/run/commit/{'0' * 40}", "commitOid": "0" * 40})

    def _answer(self, value: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(value).encode())

    def log_message(self, *arguments: Any) -> None:
        """Nothing on the terminal."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub() as server:
        monkeypatch.setattr(transformers.utils.hub, "_hf_api", HfApi(endpoint=server.endpoint, token="hf_of_a_test"))
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_run_ends_on_the_hub_with_its_best_captioner(hub: Hub, tmp_path: Path) -> None:
    dataset = picture_dataset(tmp_path, 4)
    options = {"eval_strategy": "steps", "eval_steps": 2, "eval_max_new_tokens": 5, "val": dataset}
    saving = {"save_strategy": "steps", "save_steps": 2, "push_to_hub": True, "hub_private_repo": True}
    saving |= {"hub_model_id": "run", "hub_strategy": "checkpoint"}
    trainer = xe_trainer(tiny_encoder_decoder(), dataset, tmp_path / "run", **options, **saving)
    run.train(trainer, "xe", {"data": "captions.jsonl"})

    (repository,) = hub.created
    assert repository["name"] == "run"
    assert repository.get("visibility") == "private" or repository.get("private")  # huggingface_hub 2 and 1
    messages = [message for message, _ in hub.commits]
    progress = "Training in progress, step 2"
    assert sorted(messages) == ["End of training", progress, f"{progress}, checkpoint"]
    assert messages[-1] == "End of training"
    commits = dict(hub.commits)

    saved = tmp_path / "run" / "best"
    expected = {path.relative_to(saved).as_posix() for path in saved.rglob("*") if path.is_file()}
    assert commits["End of training"].keys() == expected - {checkpoints.MARKER}
    assert commits[progress].keys() == expected - {checkpoints.MARKER, "README.md"}
    assert "last-checkpoint/optimizer.pt" in commits[f"{progress}, checkpoint"]
    for name, content in commits["End of training"].items():
        target = tmp_path / "downloaded" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    there, here = (captioners.load(folder).state_dict() for folder in (tmp_path / "downloaded", saved))
    assert all(there[name].equal(here[name]) for name in here)

    card = ModelCard.load(tmp_path / "downloaded" / "README.md")
    assert {own.metric_type for own in card.data.eval_results} >= {"cider", "length"}
    assert "command `rlcap xe`, step 2" in card.content
    assert checkpoints.damage(saved) is None


def test_pushing_by_hand_saves_first_and_takes_metadata(hub: Hub, tmp_path: Path) -> None:
    dataset = picture_dataset(tmp_path, 4)
    trainer = xe_trainer(tiny_encoder_decoder(), dataset, tmp_path / "mine")
    pushed = trainer.push_to_hub("by hand", license="mit", tags="mine")
    assert pushed.oid == "0" * 40
    ((message, files),) = hub.commits
    assert message == "by hand"
    assert [own["name"] for own in hub.created] == ["mine"]
    card = ModelCard(files["README.md"].decode())
    assert (card.data.license, card.data.tags[-1]) == ("mit", "mine")
    assert checkpoints.damage(tmp_path / "mine" / "final") is None
