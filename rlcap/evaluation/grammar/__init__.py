"""Grammar measures: each is the percentage of captions in which one checker finds something.

A checker is one file here and one entry of CHECKERS; `rlcap evaluate`, validation, the samples of a training, reports
and their descriptions take it from there. docs/grammar.md says how often each speaks up on human captions.
"""

from rlcap.evaluation.grammar.bad_ending import BAD_ENDING
from rlcap.evaluation.grammar.checker import Checker, error_rate
from rlcap.evaluation.grammar.harper import HARPER
from rlcap.evaluation.grammar.languagetool import LANGUAGETOOL
from rlcap.evaluation.grammar.repeated_word import REPEATED_WORD

CHECKERS: dict[str, Checker] = {checker.name: checker for checker in (BAD_ENDING, REPEATED_WORD, HARPER, LANGUAGETOOL)}

__all__ = ["BAD_ENDING", "CHECKERS", "HARPER", "LANGUAGETOOL", "REPEATED_WORD", "Checker", "error_rate"]
