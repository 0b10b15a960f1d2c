"""ActivityNet-FOIL (Shi et al. 2022, EMScore): paragraphs on videos against the same paragraphs with wrong words.

The real files were not at hand: the layout is that which EMScore's code reads, and is tested on small files made so.
"""

from typing import Any

from rlcap.data.annotation_files import find, picture_folder, read_json
from rlcap.data.video import FrameChoice
from rlcap.evaluation.agreement.benchmark import Benchmark, Candidate, Pair
from rlcap.evaluation.agreement.readers import Reading

NAME = "activitynet-foil"
PROTOCOL = (
    "each sentence is scored on its segment of the video, a paragraph by the mean of its sentences; accuracy over "
    "pairs of paragraphs; references are the sentences of the other annotator of whose seconds the segment covers "
    "more than 0.4, all where there is none (EMScore). Ten frames a segment, the middles of ten equal parts: not "
    "known to be as published. Learned metrics: idf on the captions of --corpus, which in EMScore are ActivityNet's "
    "training sentences of at most 66 words; without it on the references here, which is not as published"
)
FRAMES = 10
COVERED = 0.4


def read(data: str, reading: Reading) -> Benchmark:
    """From a folder with `final_right_video_sentences.json`, `final_foil_video_sentences.json`,
    `anet_entities_test_1.json` (timestamps of the sentences) and `anet_entities_test_2.json` (references).

    Videos are `videos/<id>.mp4`. Raises ValueError for a video whose sentences, timestamps or references are missing.
    """
    right, foil = (
        read_json(find(data, (f"final_{side}_video_sentences.json",), "ActivityNet-FOIL"))["results"]
        for side in ("right", "foil")
    )
    timed, other = (read_json(find(data, (f"anet_entities_test_{n}.json",), "ActivityNet-FOIL")) for n in (1, 2))
    folder = picture_folder(data, reading.images, ("videos",))
    candidates: list[Candidate] = []
    pairs: list[Pair] = []
    for video, sentences in right.items():
        if video not in foil or video not in timed or video not in other:
            raise ValueError(f"{data}: the video {video} is not in all four files")
        segments = timed[video]["timestamps"]
        if not len(sentences) == len(foil[video]) <= len(segments) or not sentences:
            raise ValueError(f"{data}: the video {video} has other numbers of sentences, foils and segments")
        sides = []
        for paragraph in (sentences, foil[video]):
            first = len(candidates)
            for number, sentence in enumerate(paragraph):
                visual = {"video": str(folder / f"{video}.mp4"), "video_frames": _frames(segments[number])}
                references = tuple(_references(segments[number], other[video]))
                candidates.append(Candidate(f"{video}#{number}", sentence["sentence"], references, visual))
            sides.append(tuple(range(first, len(candidates))))
        pairs.append(Pair(sides[0], sides[1], video))
    if not pairs:
        raise ValueError(f"{data} holds no paragraph")
    return Benchmark(NAME, candidates, pairs, PROTOCOL)


def _frames(segment: list[float]) -> str:
    start, end = segment
    return str(FrameChoice.at([start + (part + 0.5) * (end - start) / FRAMES for part in range(FRAMES)]))


def _references(segment: list[float], annotated: dict[str, Any]) -> list[str]:
    """Sentences whose whole seconds, ends included, the segment covers to more than 0.4; all where there is none."""
    seconds = set(range(int(segment[0]), int(segment[1]) + 1))
    sentences = annotated["sentences"]
    kept = [
        sentence
        for sentence, (start, end) in zip(sentences, annotated["timestamps"], strict=True)
        if len(seconds & set(range(int(start), int(end) + 1))) > COVERED * (int(end) + 1 - int(start))
    ]
    return kept or list(sentences)
