"""The token classes of Penn Treebank tokenisation, as regular expressions for `rewards.ptb`.

Each rule is (pattern, form). A pattern's first group is the token and the rest of its match the context that the token
needs; of all rules that match at a position, the one with the longest match, context included, gives the token, and of
equally long ones the first. The rules restate what the Stanford tokeniser, release 3.4.1, does with captions, and are
checked against it (tests/rewards/test_ptb.py). Addresses and tags follow it roughly, other web text not at all.
"""

import re
from collections.abc import Callable


def _words(text: str) -> list[str]:
    return text.split()


Rule = tuple[re.Pattern[str], Callable[[str], str]]

# -- classes of characters; inside them the rules tell cases apart, outside they do not --------------------------------
NUMERAL = r"\u00b2\u00b3\u00b9\u00bc-\u00be\u2070-\u209c\u2150-\u218b\u2460-\u249b"  # digits to `re`, symbols here
LETTER = rf"(?:[^\W\d_{NUMERAL}]|[\u0300-\u036f]|&[aeiouAEIOU](?:acute|grave|uml);)"
ALNUM = rf"[^\W_{NUMERAL}]"
APOSTROPHE = r"(?:['\u0092\u2019]|(?i:&apos;))"
APOSTROPHE_LIKE = rf"(?:{APOSTROPHE}|[`\u0091\u2018\u201b])"
QUOTE = rf"(?:[`\u2018-\u201f\u0082\u0084\u0091-\u0094\u2039\u203a\u00ab\u00bb]{{1,2}}|{APOSTROPHE})"
SPACE = r"[ \t\u00a0\u2000-\u200a\u3000]"
SPACE_NL = r"[ \t\u00a0\u2000-\u200a\u3000\r\n\u2028\u2029\x0b\x0c\x85]"
HYPHEN = r"[-_\u058a\u2010\u2011]"
STOP = r"[,;:\u3001]"

NUM = r"(?:\d+(?:[.:,]\d+)*|(?:[.:,]\d+)+)"
NUMBER = rf"[-+]?{NUM}"
WORD = rf"{LETTER}(?:{LETTER}|\d)*(?:[.!?]{LETTER}(?:{LETTER}|\d)*)*"
ELISION = rf"(?i:[dol]){APOSTROPHE_LIKE}{ALNUM}"  # d'Avignon, O'Malley
REDUCED = rf"{APOSTROPHE}(?i:[msd]|re|ve|ll)"  # 's, 'll
NOT = rf"(?i:n){APOSTROPHE_LIKE}(?i:t)"
ACRONYM = r"[A-Za-z](?:\.[A-Za-z])*"
INITIALS = r"[A-Za-z](?:\.[A-Za-z])+"
TAG = (
    r"<(?:[!?][A-Za-z-][^<>\n]*|/?[A-Za-z][\w:.-]*"
    r"(?: +[A-Za-z][\w:.-]*(?: *= *(?:'[^'\n]*'|\"[^\"\n]*\"|[\w:.-]+))?)* */? *)>"
)
_IN_PATH = r"[^\s\"<>|()]"
_PATH_END = r"[^\s\"<>|(){}.,!?-]"  # what follows an address in a sentence is not part of it
ADDRESS = (
    rf"(?i:https?|ftp)://{_IN_PATH}*{_PATH_END}"
    rf"|(?:(?i:www)(?:\.{ALNUM}+)*\.[a-zA-Z]{{2,4}}|(?:[a-z]+\.)+(?i:com|net|org|edu))(?:/{_IN_PATH}*{_PATH_END})?"
)
MAIL = rf"[a-zA-Z0-9]{_IN_PATH}*@(?:[^\s\"<>|().]+\.)*[^\s\"<>|().]+"

# -- words, found by asking the original for each of the words that real captions use and of a list of abbreviations ---
ABBREVIATIONS = _words("""
    adj adm adv al ala alex apr ariz assn assoc asst atty attys aug ave bancorp bhd bldg blvd brig bros calif capt
    cf cie cmdr co col colo comdr conn corp cos cpl ct dak dec dept det dr drs ed.d elec ens esq est etc ext feb
    fla fri ft ga gen gov govs hon inc ind insp intl invt jan jos jr jul jun kan kans ky lieut lt ltd maj mar md
    messrs mfg mich minn mlle mme mo mon mont mr mrs ms msgr mt mtg natl neb nev nov oct okla penn pfc ph ph.d plc
    pres prof profs pty ptys pvt rd rep reps rev rt sen sens sep sept seq sfc sgt spc sq sr st ste supt sys tel
    tenn thu thurs treas tue tues univ va vs vt wed wis wisc wm wyo
""")  # keep their period
CASED_ABBREVIATIONS = _words("Ark Az Del Ill La Mass Miss Ore Pa Tex Wash")  # in lower case these are words
NUMBERED_ABBREVIATIONS = _words("art ca fig figs no nos op pp prop")  # abbreviations before a number only: "no. 5"
# Begin a sentence with a capital: before them the period of a single letter ends one ("vitamin C. The ...").
SENTENCE_STARTS = _words("""
    A About According Additionally After An As At But Earlier He Her Here However If In It Last Many More Now Once
    One Other Our She Since So Some Such That The Their Then There These They This We What When While Yet You
""")

FILE_ENDING = "jpe?g|png|gif|bmp|pdf|txt|docx?|html?|mp[34]|avi|mov|zip"
WORDS_WITH_APOSTROPHES = _words(
    "c'mon cap'n dunkin' e'er ev'ry li'l nor'easter ol' s'mores somethin' 'cause 'em 'n' 'n 'till 'til"
)
WITH_APOSTROPHE = "|".join(
    [
        "(?i:" + "|".join(word.replace("'", APOSTROPHE) for word in WORDS_WITH_APOSTROPHES) + ")",
        rf"{APOSTROPHE}[2-9]0(?i:s)",  # the '90s
        rf"(?i:[djl]){APOSTROPHE}",  # d' and l' of French names
        rf"[A-HJ-XZn]{APOSTROPHE_LIKE}[^\W\d_]{{2,}}",  # B'nai; but not I'm and y'all
        rf"[^\W\d_]+[aeiouyAEIOUY]{APOSTROPHE_LIKE}[aeiouA-Z][^\W\d_]*",  # ma'am, Shi'ite
    ]
)


# -- forms: what a token is written as ---------------------------------------------------------------------------------
def _same(token: str) -> str:
    return token


def _apostrophes(token: str) -> str:
    return re.sub("[\u0091\u2018\u201b]", "`", re.sub("(?i:&apos;)|[\u0092\u2019]", "'", token))


def _ampersand(token: str) -> str:
    return re.sub("(?i:&amp;)", "&", token)


def _brackets(token: str) -> str:
    return token.replace("(", "-LRB-").replace(")", "-RRB-")


def _dropped(token: str) -> str:
    return ""


def _quotes(token: str) -> str:
    """Curly quotes in ASCII; only two that stand together and are no pair of one kind remain, as in the original."""
    ascii_quotes = "".join(QUOTES.get(character, character) for character in _apostrophes(token))
    return "" if ascii_quotes in ("'", "''", "`", "``") else ascii_quotes


def _hyphens(token: str) -> str:
    return token if len(token) > 4 else ""


def _bracket(token: str) -> str:
    return BRACKETS[token]


def _symbol(token: str) -> str:
    return SYMBOLS.get(token, token)


QUOTES = {"\u2018": "`", "\u201a": "`", "\u201b": "`", "\u2039": "`", "\u2019": "'", "\u203a": "'"}
QUOTES |= {"\u201c": "``", "\u201e": "``", "\u00ab": "``", "\u201d": "''", "\u00bb": "''"}
BRACKETS = {"(": "-LRB-", ")": "-RRB-", "{": "-LCB-", "}": "-RCB-", "[": "-LSB-", "]": "-RSB-"}
SYMBOLS = {
    **{"\u00bc": "1/4", "\u00bd": "1/2", "\u00be": "3/4", "\u2153": "1/3", "\u2154": "2/3"},
    **{"\u00a2": "cents", "\u00a3": "#", "\u20a4": "#", "\u00a4": "$", "\u0080": "$", "\u20a0": "$", "\u20ac": "$"},
    **{"&amp;": "&", "&lt;": "<", "&gt;": ">"},
}


def _rule(pattern: str, form: Callable[[str], str] = _same, *, context: str = "") -> Rule:
    return re.compile(f"({pattern}){context}"), form


def _any(words: list[str]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


_CASED = "|".join(f"{word[0]}(?i:{word[1:]})" for word in CASED_ABBREVIATIONS)
_STARTS = "|".join(f"{word[0]}(?i:{re.escape(word[1:])})" for word in SENTENCE_STARTS)

# -- the rules, in order of precedence ---------------------------------------------------------------------------------
# Rules whose first character is a letter or a digit.
WORD_RULES: list[Rule] = [
    _rule("(?i:can(?=not))", context="(?i:not)"),
    _rule("(?i:gon(?=na)|got(?=ta)|lem(?=me)|gim(?=me)|wan(?=na))", context="(?i:na|ta|me)"),
    _rule(WORD, context=REDUCED),
    _rule("[A-Za-z]*[A-MO-Za-mo-z]", context=NOT),
    _rule(WORD),
    _rule(WITH_APOSTROPHE, _apostrophes),
    _rule(rf"(?i:y){APOSTROPHE}", _apostrophes, context=r"[^\W\d_]"),
    _rule(ADDRESS),
    _rule(MAIL),
    _rule(NOT, _apostrophes, context="[^A-Za-z]"),
    _rule(r"\d{1,2}[-/]\d{1,2}[-/]\d{2,4}"),
    _rule(NUMBER),
    _rule(r"(?:\d{1,4}[- \u00a0])?\d{1,4}(?:\\?/|\u2044)\d{1,4}"),
    _rule(
        rf"{ALNUM}+(?:-[^\W\d_]+){{0,2}}(?:\\?/{ALNUM}+(?:-[^\W\d_]+){{0,2}}){{1,2}}",
    ),
    _rule(r"[A-Z]*\$"),
    _rule(rf"(?i:{_any(NUMBERED_ABBREVIATIONS)})\.", context=rf"{SPACE_NL}?\d"),
    _rule(rf"(?:(?i:{_any(ABBREVIATIONS)})|{_CASED})\."),
    _rule("[A-Za-z]", context=rf"\.(?:{SPACE_NL}+(?:{_STARTS})(?:{SPACE_NL}|[?!])|\s*\Z)"),
    _rule(rf"{ACRONYM}\."),
    _rule(rf"{ALNUM}+(?:\.{ALNUM}+)*\.(?i:{FILE_ENDING})", context=rf"(?:{SPACE_NL}|[.?!,\"'<])"),
    _rule(rf"{WORD}\.", context=STOP),
    _rule(r"(?:[0-9]{2,4}[- \u00a0])?[0-9]{2,4}[- \u00a0][0-9]{3,4}[- \u00a0]?[0-9]{3,5}"),
    _rule(r"(?:[0-9]{2,4}\.)?[0-9]{2,4}\.[0-9]{3,4}\.[0-9]{3,5}"),
    _rule(rf"{ALNUM}(?:{ALNUM}|[.,])*(?:-(?:{INITIALS}\.|{ALNUM}+))+"),
    _rule(rf"{ALNUM}(?:{ALNUM}|[.,])*(?:-(?:{INITIALS}\.|{ALNUM}+))+\.", context=STOP),
    _rule(
        rf"(?:{ELISION})?(?:{ALNUM}+|{NUMBER})(?:{HYPHEN}(?:{ELISION})?(?:{ALNUM}+|\d+(?:[.:,]\d+)*))*", _apostrophes
    ),
    _rule(rf"(?:{ALNUM}+|{NUMBER})(?:{HYPHEN}(?:{ALNUM}+|\d+(?:[.:,]\d+)*))*\.", context=STOP),
    _rule(r"[A-Z]+(?:(?:[+&]|(?i:&amp;))[A-Z]+)+", _ampersand),
    _rule(NOT, _apostrophes),
    _rule(r"(?i:c\+\+|[cf]#)"),
]
# Rules whose first character is neither. A token that is only punctuation of the list that pycocoevalcap removes is
# written as nothing.
MARK_RULES: list[Rule] = [
    _rule(rf"{APOSTROPHE}(?i:t)(?=(?i:is|was))", _apostrophes, context="(?i:is|was)"),
    _rule(TAG),
    _rule("(?i:&[mn]dash;)|[\u0096\u0097\u2013-\u2015]", _dropped),
    _rule("(?i:&amp;|&lt;|&gt;)|[\u00bc-\u00be\u2153\u2154\u00a2-\u00a5\u0080\u20a0\u20a4\u20ac]", _symbol),
    _rule("&#[0-9]+;"),
    _rule(WORD),
    _rule(WITH_APOSTROPHE, _apostrophes),
    _rule(r"@[a-zA-Z_][a-zA-Z_0-9]*|#[^\W\d_]+"),
    _rule(REDUCED, _apostrophes, context="[^A-Za-z]"),
    _rule(NUMBER),
    _rule(r"[A-Z]*\$|#"),
    _rule(rf"{APOSTROPHE}[0-9][0-9]", _apostrophes, context=SPACE_NL),
    _rule(
        r"(?:\([0-9]{2,3}\)[ \u00a0]?|\+\+?(?:[0-9]{2,4}[- \u00a0])?[0-9]{2,4}[- \u00a0])"
        r"[0-9]{3,4}[- \u00a0]?[0-9]{3,5}",
        _brackets,
    ),
    _rule("\"|(?i:&quot;)|''", _dropped),
    _rule(r"[<>]?[:;=][\-o*']?[()DPdpO\\{@|\[\]]", _brackets, context=rf"(?!{ALNUM})[\s\S]"),
    _rule(r"[\-^x=~<>']_[\-^x=~<>']"),
    _rule(r"[(){}\[\]]", _bracket),
    _rule("-+", _hyphens),
    _rule("\\.\\.\\.+|[\u0085\u2026]|\\.[ \u00a0](?:\\.[ \u00a0])+\\.", _dropped),
    _rule(r"@+|#+|_+|\*+|(?:\\\*){1,3}"),
    _rule("[,;:]", _dropped),
    _rule(r"[?!]+", lambda token: token if len(token) > 1 else ""),
    _rule(r"\.", _dropped),
    _rule("=|/|[\u00a1\u00bf\u037e\u0589\u061f\u06d4\u0700-\u0702\u07fa\u3001\u3002]"),
    _rule("'", _dropped, context=rf"(?:{LETTER}(?!{SPACE_NL})[\s\S]|[AaIiUu]{SPACE_NL})"),
    _rule(QUOTE, _quotes),
    _rule(REDUCED, _apostrophes),
    _rule(r"<<|>>|[<>+%&~^|\\]"),
    _rule(
        "[\u00a6\u00a7\u00a8\u00a9\u00ac\u00ae\u00af\u00b0-\u00b4\u00b6-\u00b9\u00d7\u00f7\u2016\u2020-\u2025"
        "\u2030-\u2038\u203b\u203c\u203e-\u2044\u2100-\u214f\u2190-\u2bff\u3003-\u3006\u3008-\u3020]"
    ),
]
