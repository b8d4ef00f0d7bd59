"""Example cases by specialty, written for this project. The id is what `?case=<id>` names; it never changes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Example:
    """A case to start from: `id` for links, `specialty` to group by, `title` on the button, `text` for the box."""

    id: str
    specialty: str
    title: str
    text: str


EXAMPLES: tuple[Example, ...] = (
    Example(
        "chest-pain",
        "Cardiology",
        "Chest pain, 45",
        "A 45-year-old man presents with chest pain and shortness of breath for two hours. The pain is a "
        "pressure behind the sternum that spreads to the left arm, and he is sweating. He smokes and has "
        "hypertension. Blood pressure 150/95 mmHg, heart rate 104/min. The ECG shows ST elevation in leads "
        "II, III and aVF. What is the most likely diagnosis?",
    ),
    Example(
        "leg-then-breath",
        "Cardiology",
        "Breathless after a flight",
        "A 34-year-old woman has sudden breathlessness and pain on the right side of the chest when she "
        "breathes in. She came back from a 12-hour flight three days ago and takes an oral contraceptive. Her "
        "left calf is swollen and tender. Heart rate 118/min, oxygen saturation 91 % on room air, lungs "
        "clear. What is the most likely diagnosis?",
    ),
    Example(
        "thunderclap",
        "Neurology",
        "Thunderclap headache",
        "A 52-year-old woman has the worst headache of her life. It reached its peak within a minute while "
        "she was lifting a box. She vomited twice and her neck is stiff. No fever, no focal weakness. Blood "
        "pressure 172/98 mmHg. What is the most likely diagnosis?",
    ),
    Example(
        "sudden-weakness",
        "Neurology",
        "Sudden weakness, 71",
        "A 71-year-old man with atrial fibrillation, who stopped his anticoagulant last month, suddenly "
        "cannot move his right arm and leg and cannot find words. It began 80 minutes ago. Blood glucose 6.1 "
        "mmol/L. CT of the head shows no bleeding. What is the most likely diagnosis?",
    ),
    Example(
        "right-lower-pain",
        "Surgery",
        "Belly pain, 19",
        "A 19-year-old student has had abdominal pain for 18 hours. It began around the navel and is now in "
        "the right lower quadrant. He has no appetite and vomited once. Temperature 38.1 °C. There is rebound "
        "tenderness at McBurney's point. White cell count 14.2 ×10⁹/L. What is the most likely diagnosis?",
    ),
    Example(
        "pain-and-bleeding",
        "Gynaecology",
        "Pain and spotting, 27",
        "A 27-year-old woman has sudden pain in the left lower abdomen, slight vaginal bleeding and "
        "dizziness. Her last period was seven weeks ago. Blood pressure 92/58 mmHg, heart rate 122/min. The "
        "pregnancy test is positive and ultrasound shows an empty uterus with free fluid. What is the most "
        "likely diagnosis?",
    ),
    Example(
        "thirst",
        "Endocrinology",
        "Thirst and vomiting, 16",
        "A 16-year-old boy has been very thirsty for two weeks and has lost weight. Since yesterday he "
        "vomits, his belly hurts and he breathes deep and fast; his breath smells of fruit. Glucose 28 "
        "mmol/L, pH 7.12, bicarbonate 8 mmol/L, ketones strongly positive. What is the most likely diagnosis?",
    ),
    Example(
        "fever-confusion",
        "Infection",
        "Fever and stiff neck",
        "A 22-year-old woman has had fever, severe headache and a stiff neck since this morning and is now "
        "confused. There are small purple spots on her legs that do not fade under pressure. Temperature 39.6 "
        "°C, heart rate 126/min. What is the most likely diagnosis?",
    ),
    Example(
        "cough-fever",
        "Infection",
        "Cough and fever, 68",
        "A 68-year-old woman has had a cough with yellow sputum, fever and chills for three days. Temperature "
        "38.9 °C, respiratory rate 26/min, crackles over the right lower lung. The chest X-ray shows "
        "consolidation of the right lower lobe. What is the most likely diagnosis?",
    ),
    Example(
        "after-peanut",
        "Emergency",
        "Rash after a meal",
        "A 24-year-old man has an itchy rash all over, a swollen lip and a tight throat ten minutes after "
        "eating a cake with nuts. He wheezes. Blood pressure 84/50 mmHg, heart rate 130/min. What is the most "
        "likely diagnosis?",
    ),
    Example(
        "big-toe",
        "Rheumatology",
        "Painful big toe",
        "A 58-year-old man woke at night with severe pain in his right big toe. The joint is red, hot and "
        "swollen. He takes hydrochlorothiazide and had beer and shellfish the evening before. Temperature "
        "37.4 °C. What is the most likely diagnosis?",
    ),
    Example(
        "tired",
        "Haematology",
        "Tired and pale, 41",
        "A 41-year-old woman has been tired for four months and is short of breath on stairs. Her periods are "
        "heavy. She craves ice. She is pale. Haemoglobin 8.4 g/dL, MCV 69 fL, ferritin 5 µg/L. What is the "
        "most likely diagnosis?",
    ),
)


def find(case_id: str) -> Example | None:
    """The example with this id, or None."""
    return next((example for example in EXAMPLES if example.id == case_id), None)


def by_specialty() -> dict[str, list[Example]]:
    """Examples grouped, in the order in which they are written."""
    groups: dict[str, list[Example]] = {}
    for example in EXAMPLES:
        groups.setdefault(example.specialty, []).append(example)
    return groups
