"""Words the diagnosis matcher knows: what names a condition, what only describes one, what joins, doubts or denies.

Written in the normalised spelling of `medgrpo.matching.text.word` (American, singular). The matcher needs no list of
diagnoses: these are the heads and endings that disease names are built from, so it works for any source of cases.
"""


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


DISEASE_ENDINGS = (
    "itis",
    "osis",
    "oma",
    "pathy",
    "emia",
    "iasis",
    "plegia",
    "uria",
    "cele",
    "trophy",
    "penia",
    "rrhage",
)

DISEASES = _set(
    """
    infarction infarct embolism embolus dissection failure pneumothorax pneumonia asthma copd reflux obstruction ulcer
    pregnancy colic stroke hemorrhage bleed migraine crisis storm anaphylaxis sepsis gout pseudogout angina cancer
    malignancy tumor syndrome disease disorder attack aneurysm rupture perforation torsion hernia abscess infection
    fracture tamponade arrhythmia fibrillation flutter epilepsy seizure palsy dementia delirium depression panic
    anxiety diabete toxicity poisoning overdose withdrawal malaria influenza flu covid hiv aid tuberculosis shingle
    zoster herpe lupus insufficiency intolerance allergy emphysema shock constipation dehydration calculus stone
    gallstone accident adenitis cholelithiasis intussusception volvulus mononucleosis croup pertussis measle rubella
    mump scabie eczema urticaria angioedema vertigo concussion contusion strain sprain burn hyperthyroidism
    hypothyroidism hyperparathyroidism acromegaly cushing addison parkinson alzheimer crohn stemi nstemi mi ami pe dvt
    vte aaa ac acs tia cva sah ich ckd aki chf hf hfref hfpef uti cap dka hhs ib ibs ibd gerd gord pud sbo lbo ard
    ards rsv pid als dic ttp itp hus svt afib wpw sle ida oa aecopd ptx ugib cad pad
    """
)

NOT_DISEASES = _set(
    """
    diagnosis prognosis basis cyanosis leukocytosis leucocytosis metastasis necrosis stenosis acidosis alkalosis
    diaphoresis ischemia hypoxemia hyperglycemia hyperkalemia hypokalemia hyponatremia hypernatremia hypercalcemia
    hypocalcemia bacteremia coma stroma edema sympathy empathy tachypnea hematuria dysuria polyuria oliguria
    proteinuria pyuria ketonuria nocturia thrombocytosis lymphocytosis stoma aroma hypovolemia hyperemia ketosis
    hemiplegia uremia neutropenia thrombocytopenia leukopenia hypertrophy atrophy
    """
)
"""Signs and common words that end like a disease or go along with one."""

OTHER_CONDITION = _set("something other another else unknown undetermined unclear")

MODIFIERS = _set(
    """
    a an the acute subacute chronic acutely on severe mild moderate massive submassive minor major early late new
    recent onset recurrent first second third episode primary secondary simple complicated uncomplicated classic
    classical typical atypical likely probable probably suspected presumed possible possibly most very highly
    clinically clinical confirmed this is of in left right bilateral unilateral sided side upper lower middle inferior
    superior anterior posterior lateral medial septal apical proximal distal central peripheral basal lobe lobar
    lobular wall zone quadrant segment segmental subsegmental saddle small large st elevation non q wave type i ii iii
    iv 1 2 3 4 stage grade class stanford debakey killip bacterial viral fungal infectious infective septic aseptic
    idiopathic autoimmune inflammatory allergic atopic toxic metabolic traumatic spontaneous tension open closed
    ruptured perforated strangulated gangrenous obstructive obstructing necrotizing ischemic hemorrhagic thrombotic
    embolic cardioembolic lacunar cardiogenic decompensated compensated congestive systolic diastolic biventricular
    ventricular atrial cardiac coronary pulmonary renal ureteric ureteral biliary hepatic cerebral mca aca pca gastric
    duodenal peptic intestinal bowel colonic sigmoid cecal tubal ovarian pelvic abdominal thoracic aortic arterial
    venous deep superficial femoral popliteal iliofemoral leg calf knee ankle foot toe first mtp joint hand wrist
    elbow monoarticular polyarticular community hospital acquired aspiration atypical pneumococcal streptococcal
    staphylococcal meningococcal mycoplasma legionella e coli exacerbation flare infective exertional nocturnal
    childhood adult onset aura common ocular vestibular hemiplegic calculous acalculous alcoholic alcohol related
    induced attack gallstone euglycemic symptomatic symptomatically graves toxic nodular adrenal pituitary iron
    deficiency microcytic hypochromic refractory stable unstable life threatening high low intermediate risk
    """
)
"""Words that may stand beside or inside a condition's name without naming another one."""

OPTIONAL = frozenset({"acute"})
"""Words of a reference that a prediction may leave out."""

CONTRARY = (
    frozenset({"bacterial", "viral", "fungal", "tuberculous", "aseptic"}),
    frozenset({"acute", "chronic"}),
    frozenset({"left", "right"}),
    frozenset({"upper", "lower"}),
    frozenset({"small", "large"}),
    frozenset({"ischemic", "hemorrhagic"}),
    frozenset({"systolic", "diastolic"}),
    frozenset({"benign", "malignant"}),
    frozenset({"stable", "unstable"}),
    frozenset({"primary", "secondary"}),
    frozenset({"community", "hospital", "ventilator"}),
)

ALTERING = _set(
    """
    history hx prior previous previously family mimic mimicking masquerading mimicked like heat post risk prevention
    prophylaxi
    """
)
"""Words that turn a condition's name into something else when they stand right beside it."""

DENIALS = _set(
    """
    not no never neither nor without unlikely exclude excluded excluding excludes rule ruled ruling denie deny against
    absent absence isnt isn doesnt doesn cannot cant wasnt wasn aren hardly improbable doubtful negative unsupported
    less rejected dismissed impossible nothing doubt wrong incorrect false
    """
)

EITHER = frozenset({"or", "vs", "versus", "v", "alternatively", "nor", "/", "?"})
AND = frozenset({"and", "plus", "also", "but", "then", "&", "+"})
INSTEAD = frozenset({"rather", "instead", "opposed", "over"})
REASONS = _set(
    """
    because due secondary given based evidenced suggested indicated shown view light supported since which that
    without with following after presenting characterized characterised considering resulting associated causing
    leading complicated from as who whose consistent explain explained when while where caused fit fitting through via
    precipitated triggered provoked despite although
    """
)
"""Words after which a statement explains or adds, and no longer names."""
