"""Small benchmarks in the layouts of the published files, for the tests of their readers."""

import json
import pickle
from pathlib import Path

import numpy as np
from scipy.io import savemat

CAPTIONS = {
    f"100{picture}_ab.jpg": [f"a {animal} {verb} ." for verb in ("runs", "sits", "eats", "jumps", "sleeps")]
    for picture, animal in enumerate(("dog", "cat", "horse"))
}


def karpathy(path: Path, captions: dict[str, list[str]], **further: object) -> None:
    images = [
        {"filename": name, "split": "test", "sentences": [{"raw": text} for text in own], **further}
        for name, own in captions.items()
    ]
    path.write_text(json.dumps({"images": images}))


def flickr8k(folder: Path) -> None:
    """Three photographs; the first two are rated, with captions of their own among those rated."""
    karpathy(folder / "dataset_flickr8k.json", CAPTIONS)
    one, two, three = CAPTIONS
    (folder / "ExpertAnnotations.txt").write_text(
        f"{one}\t{one}#0\t4\t4\t4\n{one}\t{two}#1\t1\t2\t1\n{one}\t{three}#0\t2\t2\t3\n{two}\t{three}#1\t3\t3\t3\n"
    )
    (folder / "CrowdFlowerAnnotations.txt").write_text(
        f"{one}\t{one}#2\t1\t3\t0\n{one}\t{two}#1\t0.333333333333\t1\t2\n{two}\t{three}#1\t0\t0\t3\n"
    )


def composite(folder: Path) -> None:
    """A picture a part; the first caption is the second reference, spelled otherwise."""
    names = {"flickr8k": "1001_ab.jpg", "flickr30k": "2002.jpg", "coco": "COCO_val2014_000000000003.jpg"}
    for part, name in names.items():
        references = ["a red bus drives", "A man walks, slowly .", "two people"]
        further = {"cocoid": 3, "filepath": "val2014"} if part == "coco" else {}
        karpathy(folder / f"dataset_{part}.json", {name: references}, **further)
        captions = ["a man walks slowly", "a bus", "a cat", "a plane"][: 3 if part == "flickr8k" else 4]
        ratings = ["5", "3", "1", "2"][: len(captions)]
        row = ["x"] * 27 + [f"http://somewhere/{name}", *captions, *ratings]
        file = {"flickr8k": "8k", "flickr30k": "30k", "coco": "coco"}[part]
        head = ";".join(f"column{number}" for number in range(len(row)))
        (folder / f"{file}_correctness.csv").write_text(f"{head}\n{';'.join(row)}\n;;\n")


def pascal_50s(folder: Path, votes: list[int]) -> None:
    """A pair for each number of votes (of 48) that its first caption has, in the categories 1, 2, 3, 4, 1, …"""
    record = [("image", object), ("a", object), ("b", object)]
    pairs = np.empty((1, len(votes)), dtype=record)
    triplets = np.empty((1, 48 * len(votes)), dtype=[("ref", object), ("a", object), ("b", object), ("won", object)])
    for number, own in enumerate(votes):
        captions = f"first {number} ", f"second {number}"
        pairs[0, number] = (f"2008_{number:06}.jpg", *captions)
        for vote in range(48):
            cells = [np.array([[text]], dtype=object) for text in (f"reference {vote} of {number}", *captions)]
            triplets[0, 48 * number + vote] = (*cells, 1 if vote < own else -1)
    category = np.array([[1 + number % 4 for number in range(len(votes))]])
    savemat(folder / "pair_pascal.mat", {"new_input": pairs, "category": category})
    savemat(folder / "consensus_pascal.mat", {"triplets": triplets})


def foil(folder: Path) -> None:
    """Two pictures; a caption with two foils and one with one."""
    references = {7: ["a dog runs", "a dog on grass", "the dog"], 8: ["a red bus", "one bus"]}
    annotations = [{"image_id": image, "caption": text} for image, own in references.items() for text in own]
    (folder / "captions_val2014.json").write_text(json.dumps({"annotations": annotations}))
    judged = [
        {"id": 1, "image_id": 7, "caption": "a dog runs", "foil": False},
        {"id": 1, "image_id": 7, "caption": "a cat runs", "foil": True},
        {"id": 1, "image_id": 7, "caption": "a cow runs", "foil": True},
        {"id": 2, "image_id": 8, "caption": "a red bus", "foil": False},
        {"id": 2, "image_id": 8, "caption": "a red car", "foil": True},
    ]
    images = [{"id": image, "file_name": f"COCO_{image}.jpg"} for image in references]
    (folder / "foilv1.0_test_2017.json").write_text(json.dumps({"images": images, "annotations": judged}))


def vatex_eval(folder: Path) -> None:
    """Four captions of two videos; the second rater is the first one reversed, the third knows two levels."""
    arrays = {
        "candidates_list": np.array(["one", "two words", "three words here", "now there are four"]),
        "gts_list": np.array([[f"reference {n} of {caption}" for n in range(9)] for caption in range(4)]),
        "human_scores": np.array([1.0, 2, 3, 4, 4, 3, 2, 1, 1, 1, 5, 5]),
        "video_ids": np.array(["v1", "v1", "v2", "v2"]),
    }
    for name, array in arrays.items():
        (folder / f"{name}.pkl").write_bytes(pickle.dumps(array))


def activitynet_foil(folder: Path) -> None:
    """A video with two sentences, one of them foiled."""
    right = [{"sentence": "a man runs"}, {"sentence": "he sits"}]
    foiled = [{"sentence": "a dog runs"}, {"sentence": "he sits"}]
    for side, paragraph in (("right", right), ("foil", foiled)):
        path = folder / f"final_{side}_video_sentences.json"
        path.write_text(json.dumps({"results": {"v_1": paragraph}}))
    first = {"duration": 40, "timestamps": [[0, 10.5], [30, 40]], "sentences": ["x", "y"]}
    # Of the first reference's 11 seconds the first segment covers 6, of the second's 21 it covers 1.
    second = {"duration": 40, "timestamps": [[5, 15], [10, 20]], "sentences": ["a runner", "somebody else"]}
    (folder / "anet_entities_test_1.json").write_text(json.dumps({"v_1": first}))
    (folder / "anet_entities_test_2.json").write_text(json.dumps({"v_1": second}))
