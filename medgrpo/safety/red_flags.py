"""Signs of an emergency in a question, found by rule and before any model.

The rules are data that a clinician can read and correct. A sign is a tuple of groups that must all occur; a group
lists phrases, separated by commas. In a phrase `/` separates alternatives, `*` stands for any ending, and `a ~ b`
means both within a few words, in either order. A group counts if it occurs at least once without being denied
("no", "denies", "without").
"""

import re
from dataclasses import dataclass

_READ = 20_000  # characters
_NEAR = 30  # characters between the two sides of ~
_ACT = "If this is a real person, call your local emergency number now."


@dataclass(frozen=True)
class RedFlag:
    """A sign of an emergency: a short name, and a sentence on why it matters and what to do."""

    name: str
    why: str


@dataclass(frozen=True)
class Rule:
    """One emergency, with the guideline its signs are taken from."""

    name: str
    meaning: str
    source: str
    signs: tuple[tuple[str, ...], ...]


CHEST = "chest ~ pain*/tight*/pressure/discomfort/heav*/ache*/aching/hurt*/crush*/squeez*/elephant/stabb*, cp, angina"
BREATHLESS = (
    "short/shortness of breath, breathless*, dyspn*, sob, gasping, out of breath, winded, "
    "can't/cannot/can not/hard to/difficulty/trouble/struggling to/unable to/couldn't ~ breath*"
)
COLLAPSE = (
    "collaps*, faint*, syncop*, passed out, passing out, blacked out, unconscious*, unresponsive*, "
    "loss of consciousness"
)
CONFUSED = "confus*, drows*, disorient*, lethargic, not making sense, hard to wake, muddled"
FEVER = "fever*, febrile, pyrexi*, rigors, temp/temperature/t ~ 38*/39*/40*/41*/101*/102*/103*/104*"
PREGNANT = "pregnan*, missed ~ period, amenorrh*, weeks gestation, positive hcg, late period, period is late"
BELLY = (
    "abdom*/belly/tummy/stomach/pelvi*/lower quadrant/iliac fossa/rif/lif/rlq/llq/flank ~ "
    "pain*/ache*/aching/cramp*/tender*/hurt*, "
    "shoulder tip pain"
)
BLEEDING = "bleed*, spotting, blood"
BLACK_STOOL = "melaena, melena, black/tarry ~ stool*/poo*"

RULES = (
    Rule(
        "Heart attack or lung clot",
        "Chest pain with breathlessness, sweating, collapse or spread to the arm or jaw can be a heart attack or "
        "a clot in the lungs.",
        "ESC guidelines on acute coronary syndromes (2023); NICE CG95",
        (
            (CHEST, BREATHLESS),
            (CHEST, COLLAPSE),
            (CHEST, "sweat*, diaphor*, clammy, left arm, both arms, jaw, radiat* ~ arm/neck"),
        ),
    ),
    Rule(
        "Aortic dissection",
        "Sudden tearing pain in the chest or back can be a tear of the aorta.",
        "ESC guidelines on aortic diseases (2024)",
        (("tearing/ripping ~ pain/chest/back/sensation",),),
    ),
    Rule(
        "Bleeding in the head",
        "A sudden or worst-ever headache can be a bleed around the brain.",
        "NICE NG228, subarachnoid haemorrhage (2022)",
        (("thunderclap, worst ~ headache/head, sudden*/explo*/instant* ~ headache, hit ~ head",),),
    ),
    Rule(
        "Stroke",
        "A drooping face, a weak arm or leg, or trouble speaking can be a stroke, and minutes count.",
        "NICE NG128, stroke and transient ischaemic attack (FAST)",
        (
            ("face/facial/mouth/smile ~ droop*/weak*/asymmetr*/crooked/lopsided/palsy",),
            (
                "arm/leg/hand/limb/one side/left side/right side ~ weak*/paraly*/numb/numbness/limp/won't move, "
                "hemipar*, hemipleg*",
            ),
            (
                "slurr*, dysarthri*, aphasi*, can't/cannot/unable to/couldn't ~ speak/talk/find words, trouble "
                "speaking, speech ~ garbled/lost",
            ),
        ),
    ),
    Rule(
        "Anaphylaxis",
        "Swelling of the lips, tongue or throat, or hives with breathing trouble or faintness, can be anaphylaxis.",
        "World Allergy Organization anaphylaxis guidance (2020)",
        (
            ("lip/lips/tongue/throat ~ swell*/swollen/closing/tight*, stridor, angioedema, angio-oedema",),
            ("hives, urticaria*, itchy rash, welts, wheals", f"{BREATHLESS}, wheez*, hypotens*, {COLLAPSE}"),
        ),
    ),
    Rule(
        "Severe breathing trouble",
        "Being unable to breathe or to finish a sentence, or blue lips, can be life-threatening.",
        "BTS/SIGN 158, British guideline on the management of asthma",
        (
            (
                "can't breathe, cannot breathe, can't/cannot/unable to ~ full sentence*/complete "
                "sentence*/sentence*, blue/bluish ~ lips, "
                "cyanos*, cyanotic, silent chest, stopped breathing",
            ),
        ),
    ),
    Rule(
        "Internal bleeding",
        "Vomiting blood, or black stools with faintness, can be a severe bleed.",
        "NICE CG141, acute upper gastrointestinal bleeding",
        (
            ("vomit*/throw* up/bring* up/brought up/threw up ~ blood*, haematemesis, hematemesis, coffee ground*",),
            (BLACK_STOOL, f"{COLLAPSE}, dizz*, pale, pallor, tachycard*, hypotens*, light-headed*, lightheaded*"),
        ),
    ),
    Rule(
        "Meningitis",
        "Fever with a stiff neck, or with a rash that does not fade under pressure, can be meningitis.",
        "NICE NG240, bacterial meningitis and meningococcal disease (2024)",
        (
            ("neck/nuchal ~ stiff*/rigid*, meningism*, photophob*, light hurts", FEVER),
            ("non blanching, nonblanching, rash/spots ~ fade/blanch, purpur*, petechia*", f"{FEVER}, {CONFUSED}"),
        ),
    ),
    Rule(
        "Sepsis",
        "Infection or fever with confusion, mottled skin, low blood pressure or collapse can be sepsis.",
        "Surviving Sepsis Campaign guidelines (2021)",
        (
            (
                f"{FEVER}, infection*",
                f"{CONFUSED}, mottled, hypotens*, bp ~ 60*/65*/70*/75*/80/82*/84*/85*/88*, {COLLAPSE}",
            ),
        ),
    ),
    Rule(
        "Thoughts of suicide",
        "Thoughts of suicide or self-harm need help at once; stay with the person.",
        "NICE NG225, self-harm (2022)",
        (
            (
                "suicid*, kill*/harm*/hurt* ~ myself/himself/herself/themselves, end/ending ~ my life/his "
                "life/her life/their life, "
                "want*/wish* ~ to die/be dead, self harm*, better off dead, take my own life, no reason to live",
            ),
        ),
    ),
    Rule(
        "Overdose or poisoning",
        "An overdose or poisoning can kill after hours without symptoms.",
        "NICE NG225; general advice of the poisons services",
        (
            (
                "overdos*, poison*, took/taken/swallowed/ingest* ~ too many/whole box/whole bottle/whole "
                "packet/bleach/battery/antifreeze",
            ),
        ),
    ),
    Rule(
        "Pressure on the spinal nerves",
        "Numbness between the legs, or back pain with loss of bladder or bowel control, can be cauda equina syndrome.",
        "GIRFT national cauda equina syndrome pathway (2023)",
        (
            (
                "saddle ~ anaesthe*/anesthe*/numb*/paraesthe*/paresthe*, numb* ~ between my legs/between the "
                "legs/groin/genital*/perine*/buttock*",
            ),
            (
                "back pain, back hurts, sciatica",
                "incontinen*, urinary retention, can't/cannot/unable to ~ pee/pass urine/urinate/void, lost/loss "
                "of ~ bladder/bowel",
            ),
        ),
    ),
    Rule(
        "Emergency in pregnancy",
        "Pain with bleeding or faintness in early pregnancy can be ectopic; a later headache with seeing spots "
        "can be pre-eclampsia.",
        "NICE NG126, ectopic pregnancy; NICE NG133, hypertension in pregnancy",
        (
            (PREGNANT, BELLY, f"{BLEEDING}, {COLLAPSE}"),
            (PREGNANT, BLEEDING, "pain*, cramp*"),
            (PREGNANT, "headache*", "vision, visual, spots, flashes, flashing, blurr*"),
        ),
    ),
    Rule(
        "Testicular torsion",
        "Sudden pain in a testicle can be torsion, and the testicle can be saved for hours only.",
        "EAU guidelines on paediatric urology",
        (("testi*/scrot*/balls ~ pain*/hurt*/tender*/ache*/aching",),),
    ),
    Rule(
        "Abdominal catastrophe",
        "A rigid belly, or belly pain with collapse, can be a perforation, a bleed or a burst aorta.",
        "WSES guidelines on perforated peptic ulcer (2020); NICE NG156, abdominal aortic aneurysm",
        (("rigid*/board like/rock hard ~ abdom*/belly/tummy/stomach",), (BELLY, COLLAPSE)),
    ),
    Rule(
        "Seizure",
        "A first seizure, or one of more than five minutes, is an emergency.",
        "NICE NG217, epilepsies (2022)",
        (("seizure*, convuls*, had a fit, status epilepticus",),),
    ),
    Rule(
        "Diabetic or adrenal crisis",
        "Vomiting with drowsiness, deep breathing or collapse in diabetes or on steroids can be a metabolic "
        "crisis; so can low sugar.",
        "JBDS guideline on diabetic ketoacidosis (2023); Society for Endocrinology, adrenal crisis",
        (
            (
                "diabet*, insulin, t1dm, t2dm, addison*, steroid*, prednisolone, prednisone, hydrocortisone",
                "vomit*, throw* up, threw up",
                f"{CONFUSED}, deep breath*, deep sighing, kussmaul*, keton*, fruity, weak*, {COLLAPSE}",
            ),
            (
                "hypoglyc*, low sugar, low blood sugar, glucose ~ 1 */2 *",
                f"{CONFUSED}, sweat*, shak*, trembl*, {COLLAPSE}",
            ),
        ),
    ),
    Rule(
        "Limb without blood",
        "A sudden cold, pale and painful limb can lose its blood supply for good.",
        "ESVS guidelines on acute limb ischaemia (2020)",
        (("cold/pulseless/white/pale ~ leg/foot/arm/hand/limb", "pain*, numb*, hurt*"),),
    ),
    Rule(
        "Sudden loss of sight",
        "Sudden loss of sight may be reversible for hours only.",
        "Royal College of Ophthalmologists, emergency eye care",
        (("sudden*/lost/loss of/losing ~ vision/sight, sudden* ~ blind*, curtain ~ eye/vision",),),
    ),
)


def _alternatives(text: str) -> str:
    words = (re.escape(word.strip()) for word in text.split("/"))
    spelled = (word.replace(r"\ ", r"[\s.-]+").replace(r"\*", r"\w*").replace("'", "'?") for word in words)
    return f"(?<!\\w)(?:{'|'.join(spelled)})(?!\\w)"


def _group(text: str) -> re.Pattern[str]:
    """A group of phrases as one pattern."""
    patterns = []
    for phrase in text.split(","):
        left, near, right = (part.strip() for part in phrase.partition("~"))
        first = _alternatives(left)
        if near:
            second, gap = _alternatives(right), rf"[^.;:\n]{{0,{_NEAR}}}?"
            patterns += [first + gap + second, second + gap + first]
        else:
            patterns.append(first)
    return re.compile("|".join(patterns), re.IGNORECASE)


_COMPILED = tuple((rule, tuple(tuple(map(_group, sign)) for sign in rule.signs)) for rule in RULES)

_CLAUSE = re.compile(
    r"[.;:!?\n]|\b(?:but|however|although|though|except|yet|now|today|then|with|who|has|presents|developed)\b", re.I
)
_DENIAL = re.compile(
    r"\b(?:no|not|nor|never|without|denies|denied|denying|negative\s+for|absence\s+of|absent|isn'?t|(?:do|does|has"
    r"|have)n'?t)\b",
    re.I,
)
_LIST_END = re.compile(r"\b(?:or|nor)\b", re.I)
_AND = re.compile(r"\band\b", re.I)
_AFTERWARDS = re.compile(r"\s*(?::\s*(?:no|nil|none)\b|(?:is|are|was)\s+(?:absent|denied)\b|absent\b|denied\b)", re.I)
_REACH = 120  # characters over which a denial reaches


def red_flags(text: str) -> list[RedFlag]:
    """The emergencies that a question may describe; signs that it denies don't count."""
    text = text[:_READ].replace("’", "'")
    return [
        RedFlag(rule.name, f"{rule.meaning} {_ACT}")
        for rule, signs in _COMPILED
        if any(all(_present(pattern, text) for pattern in sign) for sign in signs)
    ]


def _present(pattern: re.Pattern[str], text: str) -> bool:
    return any(not _denied(text, match) for match in pattern.finditer(text))


def _denied(text: str, match: re.Match[str]) -> bool:
    """Whether a denial reaches the match: "no A, B or C" and "denies A, B" deny all, "no A, B" only A."""
    if _AFTERWARDS.match(text, match.end()):
        return True
    before = text[max(0, match.start() - _REACH) : match.start()]
    before = before[max((end.end() for end in _CLAUSE.finditer(before)), default=0) :]
    denials = list(_DENIAL.finditer(before))
    if not denials:
        return False
    between = before[denials[-1].end() :]
    if denials[-1][0].lower().startswith("den"):
        return True
    if _AND.search(between):
        return False
    if "," not in between:
        return True
    rest = text[match.start() : match.start() + _REACH]
    end = _CLAUSE.search(rest)
    return _LIST_END.search(between + (rest[: end.start()] if end else rest)) is not None
