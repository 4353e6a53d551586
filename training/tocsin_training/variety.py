"""How differently the texts are told, counted by patterns: actors, casualties, grammar, sources, the look of copy.

A pattern takes a form for the thing; ``TOLD_BY`` says which. It cannot tell the doer from the victim or the source, and
it knows only the words it lists. So the counts say how common a way of telling is, and whether it stands with events
alone; they are no inventory. Events mentioned in passing, background around a short event, and misspelt words are
meaning or a dictionary's business, and are not counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tocsin_training.corpus import Line
from tocsin_training.report import Grid, percent

TOLD_BY = {
    "actor named": "a name before an actor's noun (Israeli troops, M23 rebels), an acronym, the name of a group",
    "actor described only": "an actor's noun (gunmen, police, students) and no such name",
    "no actor": "neither of the two; a state's bare name, men and people are taken for none",
    "actor unknown, said so": "unidentified, unknown, no group claimed; beside one of the three above",
    "casualties": "killed, dead, wounded, bodies, toll",
    "no casualties, said so": "no injuries, nobody was hurt, unharmed",
    "no word of casualties": "neither of the two",
    "passive": "was, were, been, being, is, are, got, with a participle",
    "event as a noun, with its object": "shelling of, arrest of, attack on, clashes with",
    "event or weapon as the subject": "clashes broke out, a blast killed, a drone hit",
    "reported speech": "said, told, reported, according to",
    "quotation": "double quotation marks or guillemets",
    "slug": "opens with a dateline, an agency, a time or a tag (GOMA -, (AFP) -, 06:40, BREAKING)",
    "careless copy": "opens in lower case, a word twice, no space after a comma, shorthand (govt, ppl, w/)",
}
"""Each way of telling, and what it is recognised by; the words are examples of longer lists."""


@dataclass(frozen=True)
class Variety:
    """How many records with an event, and without one, are told in a way."""

    way: str
    with_event: int
    events: int
    without_event: int
    eventless: int


def measure_variety(lines: Sequence[Line]) -> list[Variety]:
    """Every way of telling with its counts; names are told from other words by the texts themselves."""
    names = proper_names(line.record.text for line in lines)
    kinds = Counter(bool(line.record.labels) for line in lines)
    counts = Counter(
        (way, bool(line.record.labels)) for line in lines for way in ways_of_telling(line.record.text, names)
    )
    return [Variety(way, counts[way, True], kinds[True], counts[way, False], kinds[False]) for way in TOLD_BY]


def ways_of_telling(text: str, names: frozenset[str]) -> Iterator[str]:
    """The keys of ``TOLD_BY`` that hold for a text: one about actors, and one or two about casualties, at least.

    :param names: words that are names, in lower case (``proper_names``).
    """
    # A fourth of the time that patterns blind to case would take.
    lower = text.lower()
    if _names_actor(text, names):
        yield "actor named"
    else:
        yield "actor described only" if _ACTOR.search(lower) else "no actor"
    unhurt = _UNHURT.search(lower) is not None
    hurt = _CASUALTIES.search(_UNHURT.sub("", lower) if unhurt else lower) is not None
    if hurt:
        yield "casualties"
    if unhurt:
        yield "no casualties, said so"
    if not hurt and not unhurt:
        yield "no word of casualties"
    yield from (way for way, pattern in _IN_LOWER_CASE.items() if pattern.search(lower))
    yield from (way for way, pattern in _AS_WRITTEN.items() if pattern.search(text))


def proper_names(texts: Iterable[str]) -> frozenset[str]:
    """Words that hardly ever stand without a capital, in lower case: one that opens a sentence need be no name."""
    capital: Counter[str] = Counter()
    small: Counter[str] = Counter()
    for text in texts:
        for word in _WORD.findall(text):
            (small if word[0].islower() else capital)[word.casefold()] += 1
    return frozenset(word for word, count in capital.items() if small[word] <= _SELDOM * count)


def _names_actor(text: str, names: frozenset[str]) -> bool:
    if _ACRONYM.search(text) or _GROUP.search(text):
        return True
    return any(match[1].casefold() in names for match in _NAME_AND_ACTOR.finditer(text))


def grid(varieties: Sequence[Variety]) -> Grid:
    """One row a way of telling: its share of the records with an event, and of those without."""
    rows = [
        (one.way, TOLD_BY[one.way], _told(one.with_event, one.events), _told(one.without_event, one.eventless))
        for one in varieties
    ]
    return Grid("ways of telling", ("", "recognised by", "with an event", "without"), rows)


def _told(number: int, of: int) -> str:
    return f"{number} ({percent(number / of if of else 0.0)})"


def _one_of(listed: str) -> str:
    """A part of a pattern: one of the words in a list, whole; a tilde is a space or a hyphen."""
    return rf"\b(?:{'|'.join(listed.split()).replace('~', '[ -]')})\b"


_WORD = re.compile(r"[^\W\d_][\w’']*(?<!['’])")
_SELDOM = 0.05
"""Times in lower case for one with a capital: so often, careless writers put a name in lower case, too."""

_ACTORS = _one_of(
    """gunm[ae]n fighters? rebels? insurgents? militants? militiam[ae]n militias? paramilitar(?:y|ies)
    soldiers? troops troopers? forces? army armies navy police policem[ae]n policewom[ae]n officers?
    gendarmes? guards? rangers? commandos? paratroopers? marines? peacekeepers? jihadists? extremists?
    terrorists? guerrillas? bandits? attackers? assailants? raiders? bombers? kidnappers? robbers? pirates?
    armed~m[ae]n protest[eo]rs? demonstrators? marchers? rioters? strikers? students? workers? teachers?
    farmers? settlers? herders? supporters? activists? crowds? mobs? youths? hooligans? authorities agents?
    jets? warplanes? aircraft helicopters? drones? gunboats? warships? tanks? artillery gangs? cartels?
    separatists? loyalists? commanders? warlords? government governments? delegations? negotiators?"""
)
_ACTOR = re.compile(_ACTORS)
_NAME_AND_ACTOR = re.compile(rf"\b([A-ZÀ-Þ][\w-]*)(?:['’]s?)?(?: [a-z]+)? {_ACTORS}")
# Datelines (LAGOS -) and agencies (AFP) are no actors, nor are these.
_ACRONYM = re.compile(
    r"\b(?!(?:AM|PM|GMT|TV|I?ED|IEDs|SVBIED|RPG|NGO|HQ|COVID|AIDS|HIV|GDP|CEO|AK|KIA|WIA)\b)"
    r"[A-Z][A-Z0-9][A-Z0-9-]{0,5}\b(?! ?[-–—:(),])"
)
_GROUP = re.compile(
    r"\b[A-ZÀ-Þ][\w'’-]*(?: (?:for|of|the|and|[A-ZÀ-Þ][\w'’-]*)){0,5} "
    + _one_of(
        """Army Forces? Front Movement Brigades? Battalion Regiment Division Corps Command Guards? Militia
        Rangers Police Alliance Coalition Cartel State Jihad Tigers Brotherhood Resistance Rouge Path Haram"""
    )
    + "|"
    + _one_of(
        """Taliban Taleban Hezbollah Hizbullah Hamas Houthis? [Aa]l-Shabaa?b [Aa]l-Qae?[ie]?da Wagner Mai-Mai
        Janjaweed Daesh Fatah Polisario Naxals? Naxalites? Maoists? Seleka [Aa]nti-[Bb]alaka Contras?
        Sandinistas? Zapatistas? [Pp]eshmerga Chetniks? Mujahideen"""
    )
)
_CASUALTIES = re.compile(
    _one_of(
        """kill kills killed killings? dead die[sd]? dying deaths? slain murders? murdered massacred?
        wound(?:s|ed|ing)? injur(?:y|ies|ed|ing|es) hurt maim(?:s|ed|ing)? bod(?:y|ies) corpses?
        casualt(?:y|ies) victims? fatalit(?:y|ies) martyred lynched beheaded executed slaughtered toll"""
    )
)
_UNHURT = re.compile(
    r"\b(?:no|without|not cause|nor)(?: \w+){0,3} "
    + _one_of("casualt(?:y|ies) injur(?:y|ies|ed) deaths? victims fatalit(?:y|ies) wounded dead")
    + r"|\b(?:nobody|no ?one|none)(?: \w+){0,4} (?:hurt|injured|wounded|killed|harmed|died)\b"
    + "|"
    + _one_of("unhurt unharmed unscathed uninjured")
)
_UNKNOWN = re.compile(
    rf"\b(?:unknown|unidentified|unnamed) (?:\w+ )?(?:{_ACTORS}|(?:men|man|persons?|people|group|actors)\b)"
    r"|\bno(?:body| ?one| (?:\w+ )?(?:group|organi[sz]ation|side))(?: \w+){0,3} claimed\b"
    r"|\bno (?:immediate )?claim\b|\bwho (?:was|were|is) (?:behind|responsible)\b|\baffiliation (?:is |was )?unknown\b"
)
_IRREGULAR = _one_of(
    """shot held taken seen beaten hit struck blown burnt driven found given set torn thrown brought caught
    cut hanged hurt kept laid led left lost made met sent shut sold stolen told won sunk overrun retaken
    withdrawn shown slain heard built put broken bought chosen known hidden forbidden lit fought bound sworn
    flown drawn"""
)
_EVENTS = _one_of(
    """shelling bombings? bombardment air~strikes? airstrikes? strikes? attacks? assaults? raids?
    ambush(?:es)? killings? murders? assassinations? shootings? massacres? lynchings? beheadings? executions?
    arrests? detentions? abductions? kidnappings? captures? seizures? recapture fall takeover occupation
    withdrawals? pullout retreat handover transfer deployments? dispersal looting burning torching destruction
    demolition explosions? blasts? clash(?:es)? fighting battles? gun~?battles? firefights? skirmish(?:es)?
    offensives? advances? protests? demonstrations? rall(?:y|ies) march(?:es)? riots? signing release
    exchanges? surrender establishment opening rapes? discovery interception downing storming sieges? blockade
    crackdown roundup merger formation"""
)
_WEAPONS = _one_of("bombs? mines? landmines? missiles? rockets? shells? mortars? grenades? drones? devices? ied ieds")
_ACTS = _one_of(
    """kill(?:s|ed)? wound(?:s|ed)? injure[sd]? leaves? left hits? struck strikes destroy(?:s|ed)? damage[sd]?
    broke~out erupt(?:s|ed)? rock(?:s|ed)? shook shakes? ripped tore forced continue[sd]? raged? followed
    took~place resumed? began went~off goes~off exploded explodes detonated spread drove claimed caused landed
    fell"""
)
_IN_LOWER_CASE = {
    "actor unknown, said so": _UNKNOWN,
    "passive": re.compile(
        r"\b(?:is|are|was|were|be|been|being|gets?|got)(?:n['’]t)?"
        rf"(?: (?:not|also|later|then|again|now|still|already|all|\w+ly))? (?:\w+ed\b|{_IRREGULAR})"
    ),
    "event as a noun, with its object": re.compile(rf"{_EVENTS} (?:\w+ )?(?:of|on|against|by|between|with)\b"),
    "event or weapon as the subject": re.compile(
        rf"(?:{_EVENTS}|{_WEAPONS})(?: (?:also|has|have|had|that|which))? {_ACTS}"
    ),
    "reported speech": re.compile(
        _one_of("sa(?:id|ys?|ying) tells? told report(?:s|ed|ing) announced confirmed added stated wrote quoted citing")
        + r"|\baccording to\b"
    ),
    "quotation": re.compile(r"[\"“”„«»]"),
}
_AS_WRITTEN = {
    "slug": re.compile(
        r"^(?:[A-ZÀ-Þ][A-ZÀ-Þ0-9 .'’/-]{2,30}(?:, [^-–—:]{2,30})?(?: \([^)]{2,30}\))? ?[-–—:] "
        r"|[A-ZÀ-Þ][\w'’-]*(?: [A-ZÀ-Þ][\w'’-]*){0,3}(?:, [\w. ]{2,20})? [-–—] "
        r"|.{0,60}\([A-ZÀ-Þ][\w ]{1,25}\) ?[-–—] "
        r"|\W*\d{1,2}[:.h]\d{2}\b|[\[(]|BREAKING|URGENT|FLASH|ALERT|UPDATE|JUST IN)"
    ),
    "careless copy": re.compile(
        r"^[a-zß-ÿ]|\b(?!(?:that|had|in|on|is)\b)([A-Za-z][a-z]+) (?=[a-z])(?i:\1)\b|[a-z],[a-z]"
        r"|\b(?:govt|gov't|ppl|hosp|btwn|abt|pls|yday|hrs|bcoz|coz|ur)\b|\bw/"
    ),
}
