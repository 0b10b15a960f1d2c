"""Word lists, shapes of tokens and ways of writing them, from which `rewards.ptb` takes Penn Treebank tokens.

All were found by observing the output of the Stanford tokeniser (release 3.4.1) on captions and on probes: lists of
made-up chunks, one a line, in which one character or one word changes. Comments quote what was observed, with spaces
between the tokens. A chunk is what stands between two spaces. What captions hardly hold (tags with spaces inside,
entities of letters, telephone numbers with country codes) has no rule.
"""

import re
import unicodedata


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _shapes(*patterns: str) -> list[re.Pattern[str]]:
    return [re.compile(pattern) for pattern in patterns]


# -- words with a period, found by asking for all of up to four letters and for parts of 31,000 longer words -----------
ABBREVIATIONS = _words(
    # titles and first names
    """adm alex atty attys brig capt cmdr col comdr dr drs ed.d esq gen gov govs hon insp jos jr lieut lt maj messrs
    mlle mme mr mrs ms msgr pfc ph ph.d pres prof profs pvt rep reps rev sen sens sfc sgt spc sr st ste supt supts
    treas """
    # the calendar, American states, places
    """jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed thu thurs fri
    ala ariz calif colo conn dak fla ga ind kan kans ky md mich minn mo mont neb nev okla penn tenn va vt wis wisc wm
    wyo ave bhd bldg blvd ct ft mt mtg rd rt sq univ """
    # companies, and the rest
    """assn assoc asst bancorp bros cie co corp cos dept inc intl invt ltd mfg natl plc ppte ppty pte ptes pty ptys
    adj adv al cf cpl det elec ens est etc ext seq sys tel vs"""
)
CAPITALISED_ABBREVIATIONS = _words("ark az del ill la mass miss ore pa tex wash")  # "Miss." but "miss ."
NUMBERED_ABBREVIATIONS = _words("art ca fig figs no nos op pp prop")  # "no. 5" but "no . man"
# With a capital these begin a sentence: "vitamin C . The", but "vitamin C. Some's". Of 31,000 words no others do.
SENTENCE_STARTS = _words(
    """A About According Additionally After An As At But Earlier He Her Here However If In It Last Many More Now Once
    One Other Our She Since So Some Such That The Their Then There These They This We What When While Yet You"""
)
SPLIT_WORDS = _words("cannot gonna gotta lemme gimme wanna")  # after three letters: "can not", "gon na"

# -- pieces of the shapes below ----------------------------------------------------------------------------------------
# `\w` takes digits like ² and Ⅳ in, which are symbols here, and leaves accents out that are characters of their own
# and continue names only.
_ODD_DIGITS = "".join(c for c in map(chr, range(0x80, 0x3400)) if unicodedata.category(c) in ("No", "Nl"))
_ACCENT = (
    "[\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0670\u06d6-\u06dc\u0900-\u0903\u093c-\u094d\u0e31-\u0e3a\u0e47-\u0e4e]"
)
_LETTER = rf"(?:[^\W\d_{_ODD_DIGITS}]|{_ACCENT})"
_ALNUM = rf"[^\W_{_ODD_DIGITS}]"
_RUN = f"{_ALNUM}+"
_PART = rf"{_LETTER}(?:{_LETTER}|\d)*"
_APOSTROPHE = "['\u2019\u0092]"
_TYPED = "['\u2019\u0092`\u2018\u201b\u0091]"  # an apostrophe or what is typed for one: "do n`t"
_NOT = rf"(?i:n){_TYPED}(?i:t)"
_ELIDED = rf"(?:[dolDOL]{_TYPED}(?={_ALNUM}{{2}}))?"  # "o'clock", "d'Arc", "l'eau"; but "o ' a"
_OPTION = rf"{_RUN}(?:-{_LETTER}+){{0,2}}"
# Asked for every ASCII mark: the first end an address anywhere, the others are not part of it where it ends.
_IN_ADDRESS = r"""[^\s"()<>{|}]"""
_ADDRESS_END = "(?<![-!,.?])"
_HOST = _IN_ADDRESS.replace("()", "().") + "+"
_SITE = r"(?:[a-z]+\.)+(?:com|edu|net|org)"
_PATH = f"(?:/{_IN_ADDRESS}{{2,}}{_ADDRESS_END})?"
_OWN_APOSTROPHE = "c'est c'mon cap'n dunkin' e'er ev'ry li'l nat'l nor'easter ol' s'mores somethin'"

# -- words: of all the shapes that fit, the longest is the token -------------------------------------------------------
WORD_START = re.compile(f"{_ALNUM}|{_ACCENT}")
# "end.Start", "a!b", "r2d2"; but "a , b", "a5 .5"
NAME = re.compile(rf"{_PART}(?:[.!?]{_PART})*")
WORDS = _shapes(
    r"\d+(?:[.,:]\d+)*",  # "1,000.50", "12:55", "555.123.4567"; "10.30 pm"
    r"(?:\d+-)?\d+[/\u2044]\d+",  # "2-1/2"
    rf"{_ELIDED}{_RUN}(?:[-_\u2010\u2011\u058a]{_ELIDED}{_RUN})*",  # "5th", "blue-green", "10-o'clock"; but "a -- b"
    # A hyphen also holds the commas and periods before it together: "red,blue-green"; but "blue-green , red".
    rf"[A-Za-z0-9]+(?:[.,]+[A-Za-z0-9]+)*[.,]*(?:-(?:(?:[A-Za-z]\.){{2,}}|{_RUN}))+",
    rf"{_OPTION}(?:/{_OPTION}){{1,2}}",  # "and/or", "a/b/c"; "a/b/c / d"
    "[A-Z]+(?:[&+][A-Z]+)+",  # "AT&T", "M&M s"; but "r & b"
    r"[A-Z]+\$",  # "US$ 5"
    r"[Cc]\+\+|[CcFf]#",
)
WORDS_WITH_APOSTROPHE = _shapes(
    _NOT,
    rf"(?i:[djl]){_APOSTROPHE}|[Yy]{_APOSTROPHE}(?={_LETTER})",  # "d' 5", "j' ai", "y' all"
    rf"(?i:{_OWN_APOSTROPHE})".replace("'", _APOSTROPHE).replace(" ", "|"),
)
AROUND_APOSTROPHE = re.compile(rf"([^\W\d_]+){_TYPED}([^\W\d_]+)")


def is_one_word(before: str, after: str) -> bool:
    """Whether the letters before and after an apostrophe are one token with it."""
    if len(before) == 1:  # "B'nai", "don'ts" as "do n'ts"; but "b ' nai", "B ' a", "I ' abc", "Y' abc"
        return len(after) > 1 and (before == "n" or (before.isupper() and before not in "IY"))
    # "ma'am", "qu'il", "Shi'Ab"; but "ma ' bc", "doc ' ab"
    return before[-1].lower() in "aeiouy" and (after[0] in "aeiou" or after[0].isupper())


ADDRESSES = _shapes(
    rf"(?i:https?)://{_HOST}\.{_IN_ADDRESS}+{_ADDRESS_END}",
    rf"(?i:www)(?:\.[\w-]+)+{_PATH}",
    _SITE + _PATH,  # "ab.com/xyz", but "ab.de / xyz"
    rf"[A-Za-z0-9]{_IN_ADDRESS}*@{_HOST}(?:\.{_HOST})*",  # "a@b," with its comma
)
ADDRESS_SIGN = re.compile("://|@|(?i:www)|com|edu|net|org")
BEFORE_NOT = re.compile(rf"[A-Za-z]+(?<![Nn])(?={_NOT})")  # "do n't", but "nn ' t"
# "he 's", "he 's 's"; "he ' sx" with a straight apostrophe, but "he 's x" with a curly one
_SHORT = "(?i:[sdm]|ll|re|ve)"
SHORT_FORM = re.compile(rf"'{_SHORT}(?![A-Za-z])|[\u2019\u0092]{_SHORT}")
INITIALS = re.compile(r"[A-Za-z](?:\.[A-Za-z])*")

# -- what begins with a mark: the first shape that fits is the token ---------------------------------------------------
_CURLY = {
    "\u2018\u201b\u2039\u0091": "`",
    "\u2019\u203a\u0092": "'",
    "\u201c\u00ab\u0093": "``",
    "\u201d\u00bb\u0094": "''",
}
_EYES, _NOSE, _MOUTH = "[:;=]", "-?", r"[][(){@|\\DdOPp]"
MARKS = _shapes(
    "''",
    "'[Tt](?=(?i:is|was))",  # "'t is"
    rf"{_APOSTROPHE}(?i:cause|em|till?|n{_APOSTROPHE})",  # "rock 'n' roll", "'em ail"
    "'[Nn]$|[\u2019\u0092][Nn]",  # "more 'n"; but "' nx"
    rf"{_APOSTROPHE}(?:[2-9]0[Ss]|\d\d$)",  # "the '90s"; "the '95" before a space, "the ' 95 ,"
    r"</?[A-Za-z][\w.:@-]*/?>",  # "<b>", "<unk>"; but "< 5 >"
    rf"{_EYES}{_NOSE}{_MOUTH}(?!{_ALNUM})",  # ":)", "=d"; but ": D5"
    r"-{2,}|\.{3,}|[!?]{2,}|\*+|_+|<<|>>",
    r"@(?:[A-Za-z_]\w*|@*)|#(?:[^\W\d_]+|#*)",  # "@a5", "#a 5"
    r"[-+]?(?:[.,:]\d+|\d+)(?:[.,:]\d+)*",  # "-3", ".5", ":30", and what "5-6,7" leaves: "5-6 ,7"
    rf"[{''.join(_CURLY)}]{_SITE}{_PATH}",  # a curly quote stays with the site
    rf"[`{''.join(_CURLY)}]{{1,2}}",
    r"&(?:amp|lt|gt|quot|nbsp|[mn]dash|#\d+);",
)
TELEPHONE = re.compile(r"\((\d{2,3})\)(\d{3,4}-?\d{3,5}|$)")  # "(555) 123-4567" is "-lrb-555-rrb- 123-4567"
REST_OF_TELEPHONE = re.compile(r"\d{3,4}-?\d{3,5}")
# Of the symbols that are no ASCII these are tokens; others (emoji, brackets of CJK text, ...) are passed over.
SYMBOL = re.compile(
    "[!-~\u0080\u00a1-\u00bf\u00d7\u00f7\u2016-\u2023\u2030-\u2044\u2070-\u209c\u20a0\u20a4\u20ac"
    "\u2100-\u214f\u2153-\u215e\u2190-\u2bff\u3001\u3002\u30fb\uff01-\uff65]"
)

# -- how tokens are written --------------------------------------------------------------------------------------------
STRAIGHT = str.maketrans({curly: straight for group, straight in _CURLY.items() for curly in group})
WRITTEN = {
    **dict(zip("{}[]", ("-LCB-", "-RCB-", "-LSB-", "-RSB-"), strict=True)),
    **dict(zip("\u00bc\u00bd\u00be\u2153\u2154", ("1/4", "1/2", "3/4", "1/3", "2/3"), strict=True)),
    **dict.fromkeys("\u00a4\u0080\u20a0\u20ac", "$"),
    **{"\u00a2": "cents", "\u00a3": "#", "&amp;": "&", "&lt;": "<", "&gt;": ">"},
}
# Written as something that pycocoevalcap removes.
DROPPED = re.compile(r"[\"'`]|''|``|[,:;?!]|\.+|-{1,4}|&(?:quot|nbsp|[mn]dash);")
