"""`rlcap caption` for pictures, a folder, a clip and a caption file: what the captioner itself says."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import rlcap
from tiny import pictures, tiny_blip, tiny_encoder_decoder, tiny_grid_transformer

from captioners import EncoderDecoder, GenerationSettings
from captioners.types import VisualContext
from rlcap.cli import main
from rlcap.data import load_captions
from rlcap.data.write_features import write_features


@pytest.fixture(scope="module")
def captioner() -> Any:
    return tiny_encoder_decoder(max_frames=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, captioner: Any) -> Path:
    """A captioner, and five pictures with a caption file."""
    path = tmp_path_factory.mktemp("captioning")
    captioner.save_pretrained(path / "captioner")
    (path / "pictures").mkdir()
    for index, picture in enumerate(pictures(5)):
        picture.save(path / "pictures" / f"{index}.png")
    (path / "pictures" / "notes.txt").write_text("not a picture")
    rows = [
        {"image_id": f"p{i}", "image": f"{i}.png", "references": ["a dog"], "split": "val" if i > 2 else "train"}
        for i in range(5)
    ]
    (path / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(folder: Path, *arguments: Any) -> dict[str, str]:
    output = Path(tempfile.mkdtemp(dir=folder)) / "out.json"
    model = ["--captioner", folder / "captioner", "--max-new-tokens", 9, "--output", output, "--quiet"]
    main(["caption", *map(str, [*arguments, *model])])
    return json.loads(output.read_text())


def said(captioner: Any, visuals: list[Any], num_beams: int = 3) -> list[str]:
    settings = GenerationSettings(max_new_tokens=9, num_beams=num_beams)
    with torch.no_grad():
        context = captioner.encode(captioner.preprocess(visuals))
    tokens = captioner.greedy(context, settings) if num_beams == 1 else captioner.beam_search(context, settings)
    return [texts[0] for texts in captioner.decode(tokens)]


def test_pictures_and_a_folder(folder: Path, captioner: Any) -> None:
    expected = said(captioner, pictures(5))
    assert len(set(expected)) > 1
    everything = {f"{i}.png": caption for i, caption in enumerate(expected)}
    assert run(folder, "--folder", folder / "pictures", "--batch-size", 2) == everything
    two = [folder / "pictures" / "3.png", folder / "pictures" / "1.png"]
    assert run(folder, "--images", *two) == {name: everything[name] for name in ("3.png", "1.png")}
    greedy = said(captioner, pictures(5), num_beams=1)
    assert list(run(folder, "--folder", folder / "pictures", "--num-beams", 1).values()) == greedy


def test_pictures_of_one_name_keep_their_paths(folder: Path) -> None:
    other = folder / "more"
    other.mkdir()
    pictures(1)[0].save(other / "0.png")
    both = [folder / "pictures" / "0.png", other / "0.png"]
    assert list(run(folder, "--images", *both)) == [str(path) for path in both]


def test_a_clip_is_one_caption(folder: Path, captioner: Any) -> None:
    frames = pictures(5)
    files = [folder / "pictures" / f"{i}.png" for i in range(4)]
    (caption,) = run(folder, "--clip", *files).values()
    assert caption == said(captioner, [frames[:4]])[0]
    assert run(folder, "--clip", *reversed(files)).keys() == {"3"}
    clip = folder / "clip"
    clip.mkdir()
    for index in range(4):
        frames[index].save(clip / f"{index}.png")
    assert run(folder, "--clip", clip) == {"clip": caption}


def test_a_split_of_a_caption_file(folder: Path, captioner: Any) -> None:
    expected = said(captioner, pictures(5))
    data = ["--data", folder / "captions.jsonl", "--image-folder", folder / "pictures"]
    assert run(folder, *data) == {f"p{i}": expected[i] for i in range(5)}
    assert run(folder, *data, "--split", "val") == {f"p{i}": expected[i] for i in (3, 4)}


def test_stored_features_open_no_picture(tmp_path: Path) -> None:
    captioner = tiny_grid_transformer("resnet")
    captioner.save_pretrained(tmp_path / "captioner")
    for index, picture in enumerate(pictures(3)):
        picture.save(tmp_path / f"{index}.png")
    rows = [{"image_id": f"p{i}", "image": f"{i}.png", "references": ["a dog"]} for i in range(3)]
    (tmp_path / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = ["--data", tmp_path / "captions.jsonl"]
    expected = run(tmp_path, *data)
    write_features(captioner, load_captions(tmp_path / "captions.jsonl"), tmp_path / "features")
    for file in tmp_path.glob("*.png"):
        file.unlink()
    assert run(tmp_path, *data, "--features", tmp_path / "features").keys() == expected.keys()


def test_what_cannot_be_captioned(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "empty").mkdir()
    cases = [
        (["--images", tmp_path / "none.png"], "none.png: there is no such picture"),
        (["--folder", tmp_path / "none"], "none: there is no such folder"),
        (["--folder", tmp_path / "empty"], "empty holds no pictures"),
        (["--images", tmp_path / "text.jpg", "--max-bad-images", 0], "text.jpg: is not a picture"),
        (["--images", folder / "pictures" / "0.png", "--features", tmp_path], "--features go with --data"),
        (["--clip", *[folder / "pictures" / "0.png"] * 5], "frames"),
    ]
    for arguments, message in cases:
        with pytest.raises(SystemExit) as end:
            run(folder, *arguments)
        assert end.value.code == (1 if "is not a picture" in message else 2)
        assert message in capsys.readouterr().err


def test_captions_are_printed_without_an_output(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = str(folder / "pictures" / "0.png")
    main(["caption", "--images", picture, "--captioner", str(folder / "captioner"), "--max-new-tokens", "9", "--quiet"])
    expected = run(folder, "--images", picture)["0.png"]
    assert f"0.png\t{expected}\n" in capsys.readouterr().out


def test_a_prompt_conditions_the_captions(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_blip().save_pretrained(tmp_path / "captioner")
    (tmp_path / "0.png").write_bytes((folder / "pictures" / "0.png").read_bytes())
    picture = ["--images", tmp_path / "0.png", "--num-beams", 1]
    expected = said(tiny_blip(prompt="the blue ball"), pictures(1), num_beams=1)
    assert run(tmp_path, *picture, "--prompt", "the blue ball")["0.png"] == expected[0]
    assert run(tmp_path, *picture)["0.png"] != expected[0]
    with pytest.raises(SystemExit):
        run(folder, "--images", tmp_path / "0.png", "--prompt", "the blue ball")
    assert "prompt is 'the blue ball', but" in capsys.readouterr().err


def test_ranks_share_the_pictures(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = ["--folder", str(folder / "pictures"), "--captioner", str(folder / "captioner"), "--max-new-tokens", "9"]
    given += ["--batch-size", "2", "--quiet"]
    alone, shared = tmp_path / "alone.json", tmp_path / "shared.json"
    main(["caption", *given, "--output", str(alone)])
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("1", "0"):
        assert not shared.exists()
        monkeypatch.setenv("RANK", rank)
        main(["caption", *given, "--output", str(shared)])
    assert shared.read_text() == alone.read_text()
    with pytest.raises(SystemExit):
        main(["caption", *given])


def test_a_stopped_run_goes_on(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = ["--folder", str(folder / "pictures"), "--captioner", str(folder / "captioner"), "--max-new-tokens", "9"]
    output = tmp_path / "out.json"
    command = ["caption", *given, "--batch-size", "2", "--quiet", "--output", str(output)]
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    main(command)  # the second of three batches; then that machine is gone
    monkeypatch.delenv("WORLD_SIZE")
    monkeypatch.setenv("RANK", "0")
    seen: list[int] = []

    def counted(self: EncoderDecoder, visual: dict[str, torch.Tensor]) -> VisualContext:
        seen.append(len(visual["pixel_values"]))
        return encode(self, visual)

    encode = EncoderDecoder.encode
    monkeypatch.setattr(EncoderDecoder, "encode", counted)
    main(command)
    assert seen == [2, 1]
    assert len(json.loads(output.read_text())) == 5
    main(command)  # nothing is left to do
    assert seen == [2, 1]


def test_other_pictures_of_the_same_names_are_refused(folder: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    shutil.copytree(folder / "pictures", tmp_path / "others")
    given = ["--captioner", str(folder / "captioner"), "--max-new-tokens", "9", "--batch-size", "2", "--quiet"]
    given += ["--output", str(tmp_path / "out.json")]
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    main(["caption", "--folder", str(folder / "pictures"), *given])  # half of them
    monkeypatch.delenv("WORLD_SIZE")
    with pytest.raises(SystemExit):
        main(["caption", "--folder", str(tmp_path / "others"), *given])
    assert "was begun with other settings than these: pictures." in capsys.readouterr().err


def test_pictures_that_fail_are_tried_again(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine, output = tmp_path / "mine", tmp_path / "out.json"
    shutil.copytree(folder / "pictures", mine)
    (mine / "2.png").write_text("no picture")
    command = ["caption", "--folder", str(mine), "--captioner", str(folder / "captioner"), "--max-new-tokens", "9"]
    command += ["--batch-size", "2", "--quiet", "--output", str(output), "--max-bad-images"]
    for _ in range(2):  # the second time nothing but the failed batch is left
        with pytest.raises(SystemExit):
            main([*command, "0"])
        assert "1 of 5 pictures cannot be decoded, more than the 0" in capsys.readouterr().err
        assert not output.exists()
    done = rlcap([word for word in [*command, "0.2"] if word != "--quiet"], tmp_path)
    assert done.out.splitlines()[-1] == f"rlcap: 4 captions in {output}; 1 picture skipped"
    assert "rlcap: skipped a picture: 2.png: " in done.err
    assert len(json.loads(output.read_text())) == 4
    summary = json.loads((tmp_path / "out.json.summary.json").read_text())
    assert list(summary["failed"]) == ["2.png"]
    assert summary["captions"] == 4
    output.unlink()
    shutil.copy(folder / "pictures" / "2.png", mine / "2.png")
    main([*command, "0"])
    assert len(json.loads(output.read_text())) == 5


def test_a_rank_that_comes_late_has_nothing_to_do(folder: Path, tmp_path: Path, monkeypatch) -> None:
    given = ["--folder", str(folder / "pictures"), "--captioner", str(folder / "captioner"), "--max-new-tokens", "9"]
    command = ["caption", *given, "--quiet", "--output", str(tmp_path / "out.json")]
    main(command)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    main(command)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.json", "out.json.summary.json"]
