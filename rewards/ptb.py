"""Penn Treebank tokenisation of captions as the caption metrics do it, in Python.

pycocoevalcap runs the Stanford tokeniser (release 3.4.1, `-preserveLines -lowerCase`) in Java and then removes a fixed
list of punctuation; `tokenize` gives the tokens that its scorers see. Its rules were found by observing that
tokeniser's output on captions and probes (`rewards.ptb_rules`), and are checked against it in tests/rewards.
"""

from functools import lru_cache

from rewards import ptb_rules as rules

VERSION = "ptb-3.4.1-python-2"  # recorded with scores: what a caption's tokens are


def tokenize(caption: str) -> list[str]:
    """The caption's lowercase Penn Treebank tokens without punctuation.

    Equal to `pycocoevalcap.tokenizer.ptbtokenizer.PTBTokenizer` followed by `str.split`, as its scorers do. That
    tokeniser reads on into the next caption's line and treats a single letter before a final period ("a sign that reads
    K.") by what it finds there; here another sentence always follows, which makes the period punctuation.
    """
    return list(_tokens(caption))


@lru_cache(maxsize=1 << 16)
def _tokens(caption: str) -> tuple[str, ...]:
    # Nine captions of ten are words and a final period, and their tokens what stands between the spaces.
    body = caption.rstrip(" .")
    if body.replace(" ", "").isalpha():
        words = body.lower().split()
        period = caption[len(body) :].startswith(".")
        if rules.SPLIT_WORDS.isdisjoint(words) and not (period and _may_own_period(words[-1])):
            return tuple(words)

    chunks = caption.replace("\u00ad", "").split()  # a soft hyphen is nothing
    tokens: list[str] = []
    for index, chunk in enumerate(chunks):
        if chunk.isalpha() and chunk.lower() not in rules.SPLIT_WORDS:
            tokens.append(chunk)
        elif chunk != ".":  # which many captions put a space before
            following = chunks[index + 1] if chunk[-1] in ".)" and index + 1 < len(chunks) else ""
            tokens += _split(chunk, following)
    return tuple(" ".join(tokens).lower().split())


def _may_own_period(word: str) -> bool:
    """Whether a period behind the lowercase word may be the word's own."""
    return len(word) == 1 or word in rules.ABBREVIATIONS or word in rules.CAPITALISED_ABBREVIATIONS


@lru_cache(maxsize=1 << 14)
def _split(chunk: str, following: str) -> tuple[str, ...]:
    """The tokens of what stands between two spaces; `following` is the next such chunk, "" at the caption's end."""
    tokens: list[str] = []
    start = 0
    while start < len(chunk):
        if rules.WORD_START.match(chunk, start):
            end = _end_of_word(chunk, start)
            end += _takes_period(chunk, start, end, following)
            tokens += _written_word(chunk[start:end])
        else:
            end, written = _mark(chunk, start, following)
            tokens.append(written)
        start = end
    return tuple(token for token in tokens if token)


def _end_of_word(chunk: str, start: int) -> int:
    before_not = rules.BEFORE_NOT.match(chunk, start)
    if before_not:  # "do n't"
        return before_not.end()
    name = rules.NAME.match(chunk, start)
    if name and rules.SHORT_FORM.match(chunk, name.end()):  # "dog 's"
        return name.end()
    end = name.end() if name else start + 1
    if end == len(chunk):
        return end
    around = rules.AROUND_APOSTROPHE.match(chunk, start)
    if around and rules.is_one_word(around[1], around[2]):
        end = max(end, around.end())
    shapes = [rules.WORDS, rules.WORDS_WITH_APOSTROPHE]
    if rules.ADDRESS_SIGN.search(chunk, start):
        shapes.append(rules.ADDRESSES)
    return max([end, *(m.end() for group in shapes for shape in group if (m := shape.match(chunk, start)))])


def _takes_period(chunk: str, start: int, end: int, following: str) -> bool:
    """Whether the token chunk[start:end] has the period that stands behind it."""
    if chunk[end : end + 1] != ".":
        return False
    token, behind = chunk[start:end], chunk[end + 1 : end + 2]
    word = token.lower()
    if word in rules.ABBREVIATIONS or (word in rules.CAPITALISED_ABBREVIATIONS and token[0].isupper()):
        return True
    if rules.INITIALS.fullmatch(token):  # "U.S.", "T.,"; "vitamin C. some", but "vitamin C . The"
        return len(token) > 1 or bool(behind) or (following != "" and following not in rules.SENTENCE_STARTS)
    if word in rules.NUMBERED_ABBREVIATIONS and (behind or following)[:1].isdecimal():
        return True
    return behind != "" and behind in ",;:" and "/" not in token and ":" not in token  # "a tree. , then"


def _written_word(token: str) -> list[str]:
    if token.lower() in rules.SPLIT_WORDS:
        return [token[:3], token[3:]]
    if len(token) == 3 and not token[1].isalnum():  # "n't", whatever its apostrophe
        return [token.translate(rules.STRAIGHT)]
    return [token]


def _mark(chunk: str, start: int, following: str) -> tuple[int, str]:
    """Where the token that begins with a mark ends, and what is written for it, "" for nothing."""
    telephone = rules.TELEPHONE.match(chunk, start)
    if telephone and (telephone[2] or rules.REST_OF_TELEPHONE.match(following)):
        return telephone.end(), f"-LRB-{telephone[1]}-RRB-{telephone[2]}"
    short = rules.SHORT_FORM.match(chunk, start)
    if short:
        return short.end(), short[0].translate(rules.STRAIGHT)
    fitting = (match for shape in rules.MARKS if (match := shape.match(chunk, start)))
    match = next(fitting, None) or rules.SYMBOL.match(chunk, start)
    if match is None:
        return start + 1, ""
    token = match[0]
    if not any(map(str.isalnum, token)):
        token = token.translate(rules.STRAIGHT)
    token = rules.WRITTEN.get(token, token).replace("(", "-LRB-").replace(")", "-RRB-")
    return match.end(), "" if rules.DROPPED.fullmatch(token) else token
