"""Words and signs beside digits that make another number of them, a bound, a question or a denial. Pure.

No such list is whole. An entry too many fails an answer and says why; nothing here ever makes a number of its own.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from modelsmith.normal_form import normalized

_MULTIPLIERS = frozenset(
    """
    hundred hundreds thousand thousands million millions billion billions trillion trillions quadrillion quintillion
    mn mln mio bn bln tn promille tens lakh lakhs lac lacs crore crores cr arab dozen dozens
    dutzend douzaine douzaines docena docenas duzia duzias dozzina dozzine dozijn centaine centaines centinaia
    hundert tausend tsd mrd mia millionen milliarde milliarden billionen trillionen
    mille millier milliers milliard milliards md mds
    mil millon millones billon billones millar millares milhao milhoes bilhao bilhoes trilhao trilhoes
    mila milione milioni miliardo miliardi mld bilione bilioni
    duizend miljoen miljoenen miljard miljarden tusen tusind tuhat tuhatta miljon miljoner miljarder miljoona
    miljoonaa miljardi miljardia millioner milliarder
    tys tysiac tysiace tysiecy milion miliony milionow miliard miliardy miliardow tisic tisice tis ezer millio
    mii milioane miliarde bin milyon milyar trilyon ribu rb juta jt miliar triliun nghin ngan trieu ty
    """.split()  # noqa: SIM905
)
_STEMS = (
    "\u0442\u044b\u0441", "\u0442\u0438\u0441\u044f\u0447", "\u043c\u0438\u043b\u043b\u0438\u043e",
    "\u043c\u0438\u043b\u043b\u0438\u0430",
    "\u043c\u0456\u043b\u044c", "\u043c\u0438\u043b\u0438\u043e\u043d", "\u043c\u043b\u043d",
    "\u043c\u043b\u0440\u0434",
    "\u0445\u0438\u043b\u044f\u0434", "\u03c7\u03b9\u03bb\u03b9\u03b1\u03b4", "\u03b5\u03ba\u03b1\u03c4",
    "\u03b4\u03b9\u03c3", "\u0623\u0644\u0641", "\u0622\u0644\u0627\u0641", "\u0645\u0644\u064a\u0648\u0646",
    "\u0645\u0644\u0627\u064a\u064a\u0646", "\u0645\u0644\u064a\u0627\u0631", "\u0647\u0632\u0627\u0631",
    "\u0645\u06cc\u0644\u06cc", "\u0644\u0627\u06a9\u06be", "\u06a9\u0631\u0648\u0691", "\u05d0\u05dc\u05e3",
    "\u05d0\u05dc\u05e4\u05d9\u05dd", "\u05de\u05d9\u05dc\u05d9\u05d5\u05df",
    "\u05de\u05d9\u05dc\u05d9\u05d0\u05e8\u05d3",
    "\u0e25\u0e49\u0e32\u0e19", "\u0e2b\u0e21\u0e37\u0e48\u0e19", "\u0e1e\u0e31\u0e19", "\u0e41\u0e2a\u0e19",
    "\u0e23\u0e49\u0e2d\u0e22", "\u0e2a\u0e34\u0e1a", "\u0932\u093e\u0916", "\u0932\u0916",
    "\u0915\u0930\u094b\u0921", "\u0915\u0930\u094b\u095c", "\u0939\u091c\u093e\u0930", "\u0939\u095b\u093e\u0930",
    "\u09b2\u09be\u0996", "\u0995\u09cb\u099f", "\u09b9\u09be\u099c\u09be\u09b0",
)  # fmt: skip
"""How the words for thousand, million and so on begin where scripts other than Latin are written."""
_WORD = re.compile(r"[^\W\d_](?:[^\W\d_]|[\u0300-\u036f\u0900-\u0dff\u0e00-\u0eff])*")

_CJK = (
    "\u3007\u96f6\u4e00\u4e8c\u4e09\u56db\u4e94\u516d\u4e03\u516b\u4e5d\u5341\u767e\u5343\u4e07\u842c\u4ebf\u5104\u5146"
    "\u4e24\uc2ed\ubc31\ucc9c\ub9cc\uc5b5\uc870"
)
"""Numerals, from nothing to a million millions."""
_SPELLED = {
    word: number
    for number, words in {
        0: "zero nought", 1: "one", 2: "two zwei deux dos dois twee", 3: "three drei trois tres drie",
        4: "four vier quatre cuatro quatro quattro", 5: "five funf cinq cinco cinque vijf", 6: "six sechs seis zes",
        7: "seven sieben siete sete sette zeven", 8: "eight acht huit ocho oito", 9: "nine neun nueve nove negen",
        10: "ten zehn dix diez dez dieci tien", 11: "eleven onze", 12: "twelve zwolf douze doce", 13: "thirteen",
        14: "fourteen", 15: "fifteen quinze quince", 16: "sixteen", 17: "seventeen", 18: "eighteen", 19: "nineteen",
        20: "twenty zwanzig vingt veinte vinte", 30: "thirty dreissig trente treinta trinta",
        40: "forty vierzig quarante cuarenta quarenta", 50: "fifty funfzig cinquante cincuenta cinquenta",
        60: "sixty sechzig soixante", 70: "seventy siebzig", 80: "eighty achtzig", 90: "ninety neunzig",
    }.items()
    for word in words.split()
}  # fmt: skip
"""Numbers in words, without their accents; not those that are other words, too (``due``, ``elf``, ``once``)."""
_ONES = "one|two|three|four|five|six|seven|eight|nine|ten|hundred"
_TO_ONE = r"and|or|to|through|thru|till|until|in|of|out\s+of|per|plus|minus|times|over|less|divided\s+by"
COUNTED_BEFORE = re.compile(
    rf"""(?:
        (?<!\w)(?:{_ONES})(?:\s+(?:{_TO_ONE})\s+(?:every\s+)?|\s?[/~\u2010-\u2015-]\s?) |
        (?<!\w)(?:twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundred|thousand|million|billion|trillion
            |dozen|lakh|crore)(?:\s+and)?[\s-]*
      | [{_CJK}\u00bc-\u00be\u2150-\u2189\u2460-\u249b]\s?
    )\Z""",
    re.VERBOSE | re.IGNORECASE,
)
"""A number in words, or in one character, directly before the digits."""
COUNTED_AFTER = re.compile(rf"\s?[{_CJK}]")

BOUND_BEFORE = re.compile(
    r"""(?:
        (?<![-=])[<>]=?|=[<>]|!=|\u00ac|[\u2264-\u226b\u2a7d\u2a7e\u2260\uff5e\u301c]
      | (?<!\w)(?:
            (?:less|more|greater|fewer|higher|lower|larger|smaller|bigger|other|rather|different|better|worse|later
              |earlier|longer|shorter)\s*,?\s+(?:than|or\s+equal)(?:,?\s+or\s+equal)?[^\n.,;:()]{0,30}
          | (?:capped|limited|bounded|restricted|topped|maxed)(?!\w)[^\n.,;:()]{0,20}
          | (?:upper|lower)\s+(?:bound|limit)(?:\s+(?:of|is))?
          | as\s+(?:much|many|high|low|little|few|late|early|far|long)\s+as
          | (?:upwards?|north|south|short|shy|in\s+excess)\s+of|starting\s+(?:at|from)|surpass(?:es|ing)?|sub-
          | at\s+(?:the\s+)?(?:least|most)|up\s+to|over|under|above|below|beyond|exceed(?:s|ing)?|within|between
          | from|until|till|min(?:imum)?\.?(?:\s+of)?|max(?:imum)?\.?(?:\s+of)?|nearly|almost
          | half(?:\s+of|\s+a|\s+an)?|third\s+of|quarter\s+of|twice|double|triple|thrice|square\s+root\s+of
          | (?:kleiner|gr\u00f6\u00dfer|groesser|h\u00f6her|niedriger|weniger|mehr)\s+(?:(?:oder\s+)?gleich|als)
          | (?:inf|sup)\u00e9rieure?s?\s+(?:ou\s+\u00e9gale?s?\s+)?\u00e0
          | (?:menor|mayor|maior|inferior|superior)\s+(?:(?:o|ou)\s+igual\s+)?(?:a|que|do\s+que)
          | (?:minore|maggiore|inferiore|superiore)\s+(?:o\s+uguale\s+)?(?:a|di)
          | mindestens|h\u00f6chstens|bis(?:\s+zu)?|\u00fcber|unter|zwischen|fast|knapp
          | plus\s+de|moins\s+de|au\s+moins|au\s+plus|jusqu'?\s?\u00e0|entre|presque
          | m\u00e1s\s+de|menos\s+de|al\s+menos|hasta|mais\s+de|pelo\s+menos|at\u00e9|quase|casi
          | pi\u00f9\s+di|meno\s+di|almeno|fino\s+a|quasi|meer\s+dan|minder\s+dan|minstens|hoogstens|tussen|bijna
          | \u0431\u043e\u043b\u0435\u0435|\u043c\u0435\u043d\u0435\u0435|\u0431\u043e\u043b\u044c\u0448\u0435
          | \u043c\u0435\u043d\u044c\u0448\u0435|\u0434\u043e|\u043e\u0442
        )
      | \u8d85\u8fc7|\u8d85\u904e|\u81f3\u5c11|\u6700\u591a|\u6700\u5c11|\u5927\u4e8e|\u5c0f\u4e8e|\u5c11\u4e8e
      | \u591a\u4e8e|\u4f4e\u4e8e|\u9ad8\u4e8e
    )\s*(?:about\s+|a\s+|an\s+|the\s+)?\Z""",
    re.VERBOSE | re.IGNORECASE,
)
"""What makes the number after it a bound, or a thing to take a share of."""
BOUND_AFTER = re.compile(
    r"""\s?\+(?!\s?[0-9]) | \s?\? | [ \t]*(?:=?[<>]|[\u2264-\u226b\u2a7d\u2a7e])
      | [\s,(-]{1,3}(?:
            (?:or|and|oder|und|ou|et|o|y|e|of|en)\s+(?:more|less|fewer|higher|lower|greater|above|below|under|over|up
              |upwards?|beyond|better|worse|earlier|later|counting|a\s+bit|then\s+some|mehr|weniger|plus|moins|m\u00e1s|menos|mais|meer|minder|pi\u00f9|meno)
          | at\s+(?:min|max) | (?:at\s+(?:the\s+)?)?(?:max|minimum|maximum|most|least|latest|earliest) | plus | tops
          | upwards?
        )(?!\w)
      | [^\n.;]{0,12}?\s(?:below|under|above|over)\s*(?:\Z|[.,;!)])
      | [^\n.;]{0,15}?\s(?:(?:below|under)\s+zero|unter\s+null)(?!\w)
      | \s?(?:\u4ee5\u4e0a|\u4ee5\u4e0b|\u4ee5\u5185|\u672a\u6e80|\uc774\uc0c1|\uc774\ud558|\ubbf8\ub9cc|\u591a|\u4f59)
    """,
    re.VERBOSE | re.IGNORECASE,
)
"""What makes the number before it a bound, or asks about it."""
DENIED_BEFORE = re.compile(
    r"""(?:
        (?<!\w)(?:not|never|isn'?t|wasn'?t|aren'?t|cannot|can'?t|won'?t|neither|nor|without|except|instead\s+of|no
            |nicht|keine?|pas|jamais|nunca|n\u00e3o|non|niet|geen|ikke|inte|\u043d\u0435)
        (?:\s+(?:a|an|the|be|exactly|equal\s+to|equals?|just|only|about|necessarily))*\s*
      | (?<!\w)(?:not|never|cannot|nicht|(?:do|does|did|is|was|are|were|ca|wo|should|would|could|must|ha[sd]|have)n'?t)
        (?!\w)[^\n.,;:()]{0,40}
      | (?<!\w)(?:anything|everything|all|(?:any|every)\s+\w+)\s+(?:but|except)\s+(?:an?\s+|the\s+|for\s+)*
      | (?<!\w)(?:false|wrong|incorrect|untrue|unlikely|improbable|impossible|doubtful|(?<!no\s)doubt)
        (?:\s*:\s*|\s+(?:(?:that|to|for|it|is|be|the|an?|of|answer|value|number|result)\s+)*)
      | (?<!\w)! | (?:\u4e0d\u662f|\u4e0d\u4e3a|\u5e76\u975e)\s*
    )\Z""",
    re.VERBOSE | re.IGNORECASE,
)
"""Words that deny the number after them."""
DENIED_AFTER = re.compile(
    r"""(?:(?!\s(?:because|since)\s)[^\n.;]){0,25}?\s(?:
            (?:is|was|are|were|be|been|seems?|looks?|sounds?|appears?)
              (?:n'?t | (?:\s+(?:just|only|merely|simply|probably|clearly|surely|actually|to\s+be|an?|the|my|your
                  |his|her|our|their|some|wild|mere|pure|random|rough))*\s+
                (?:not|wrong|incorrect|false|untrue|too|never|off|guess(?:work)?|typo|mistake|error|lie|placeholder
                  |example|unlikely|impossible|invalid|outdated|obsolete|old|previous|former|unknown|unclear|nonsense))
          | (?:ca|could|would|should|may|might|wo|must|do|does|did)(?:n?\s?not|n'?t)\s+(?:be|fit|work|hold|match)
        )(?!\w)
      | [\s,:(\u2013\u2014-]{1,4}(?:(?:wrong|incorrect|false|untrue|invalid)(?!\w)|not\s+(?:right|correct|true|it)
          (?!\w)|[\u2716-\u2718\u274c])
      | [^\n]{0,60}?(?<!\w)(?:unknown|unclear|undetermined|uncertain|unsure|not\s+(?:sure|certain|known|clear)
          |no\s+idea|(?:do\s+not|don'?t|can'?t|cannot)\s+(?:know|tell|say))(?!\w)""",
    re.VERBOSE | re.IGNORECASE,
)
"""Words that deny the number before them."""
FRACTION_AFTER = re.compile(
    rf"""[\s-]?(?:
        (?:and|und|et|y|e)\s+(?:an?\s+|one\s+|three\s+|eine?\s+|une?\s+)?(?:half|quarters?|third|halb|demie?|media|medio|meia|mezzo)
      | halves|thirds|fourths|fifths|sixths|sevenths|eighths|ninths|tenths|hundredths|thousandths|millionths
      | half | squared | cubed | factorial | (?:{_TO_ONE})\s+(?:every\s+)?(?:{_ONES})
    )(?!\w)
    | (?:\s?/\s?|[\u2010-\u2015~-])(?:{_ONES})(?!\w)
    | \s?(?:\u534a|\u5206\u306e|\u5206\u4e4b|\u5272|\u6210)""",
    re.VERBOSE | re.IGNORECASE,
)
"""What takes a part or a power of the number before it, or adds to it."""


def multiplies(text: str) -> bool:
    """Whether the text begins with a word for thousands, millions or the like."""
    word = _WORD.match(text)
    return word is not None and (_bare(word.group()) in _MULTIPLIERS or _bare(word.group()).startswith(_BARE_STEMS))


def spelled(text: str) -> Iterator[int]:
    """The numbers that the text says in words, from zero to ninety-nine; ``one``, which says much else, not alone."""
    ten, end = 0, -1
    for word in _WORD.finditer(text):
        value = _SPELLED.get(_bare(word.group()))
        joins = ten and value is not None and 0 < value < 10 and not text[end : word.start()].strip(" -")
        if ten and not joins:
            yield ten
        if joins:
            yield ten + (value or 0)
        ten, end = (value or 0) if (value or 0) >= 20 else 0, word.end()
        if value not in (None, 1) and not joins and not ten:
            yield value or 0
    if ten:
        yield ten


def names_a_scale(text: str) -> bool:
    """Whether the text holds, anywhere, a word for thousands, millions or the like that is no other word."""
    words = {_bare(word.group()) for word in _WORD.finditer(text)}
    return any((word in _MULTIPLIERS and len(word) >= _TELLING) or word.startswith(_TELLING_STEMS) for word in words)


def _bare(word: str) -> str:
    return "".join(c for c in normalized("NFKD", word.casefold()) if not unicodedata.combining(c))


_BARE_STEMS = tuple(_bare(stem) for stem in _STEMS)
_TELLING = 5
"""Letters from which on a word for thousands or the like is no other word elsewhere, as ``bin`` and ``mil`` are."""
_TELLING_STEMS = tuple(stem for stem in _BARE_STEMS if len(stem) >= _TELLING)

MINUS = re.compile(
    r"""(?<!\w)(?:minus(?:es)?|negativ\w*|(?:below|under)\s+(?:zero|nought|freezing|par)|in\s+the\s+red|unter\s+null)(?!\w)""",
    re.VERBOSE | re.IGNORECASE,
)
"""Words for a minus, wherever they stand."""
