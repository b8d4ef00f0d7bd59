"""Bedside formulas, each with its source. Every function returns the value and the working one would write down."""

from typing import NamedTuple


class Working(NamedTuple):
    """An unrounded value in the unit the function names, and its steps with the numbers inserted."""

    value: float
    steps: str


def _n(value: float) -> str:
    return f"{round(value, 2):g}"


def anion_gap(sodium: float, chloride: float, bicarbonate: float) -> Working:
    """mmol/L, all inputs in mmol/L, potassium left out. Emmett and Narins, Medicine 1977;56:38-54."""
    na, cl, hco3, taken = _n(sodium), _n(chloride), _n(bicarbonate), chloride + bicarbonate
    value = sodium - taken
    steps = f"Anion gap = sodium - (chloride + bicarbonate) = {na} - ({cl} + {hco3}) = {na} - {_n(taken)}"
    return Working(value, f"{steps} = {_n(value)}")


def corrected_anion_gap(sodium: float, chloride: float, bicarbonate: float, albumin: float) -> Working:
    """mmol/L; albumin in g/L against a normal of 40 g/L. Figge et al., Crit Care Med 1998;26:1807-10."""
    gap, extra = sodium - chloride - bicarbonate, 0.25 * (40 - albumin)
    steps = f"Anion gap = {_n(sodium)} - ({_n(chloride)} + {_n(bicarbonate)}) = {_n(gap)}. "
    steps += f"Correction = 0.25 x (40 - {_n(albumin)}) = {_n(extra)}. "
    return Working(gap + extra, steps + f"Corrected gap = {_n(gap)} + {_n(extra)} = {_n(gap + extra)}")


def corrected_sodium(sodium: float, glucose: float) -> Working:
    """mmol/L; glucose in mg/dL, 1.6 mmol/L per 100 mg/dL above 100. Katz, N Engl J Med 1973;289:843-4."""
    hundreds = (glucose - 100) / 100
    extra = 1.6 * hundreds
    steps = f"Corrected sodium = sodium + 1.6 x (glucose - 100) / 100 = {_n(sodium)} + 1.6 x {_n(hundreds)}"
    return Working(sodium + extra, f"{steps} = {_n(sodium)} + {_n(extra)} = {_n(sodium + extra)}")


def mean_arterial_pressure(systolic: float, diastolic: float) -> Working:
    """mmHg, both inputs in mmHg. Hall, Guyton and Hall Textbook of Medical Physiology, 14th ed. (2020), ch. 15."""
    total = systolic + 2 * diastolic
    steps = f"Mean arterial pressure = (systolic + 2 x diastolic) / 3 = ({_n(systolic)} + {_n(2 * diastolic)}) / 3"
    return Working(total / 3, f"{steps} = {_n(total)} / 3 = {_n(total / 3)}")


def body_mass_index(weight: float, height: float) -> Working:
    """kg/m2; weight in kg, height in cm. World Health Organization, Technical Report Series 894 (2000)."""
    metres = height / 100
    value = weight / metres**2
    steps = f"BMI = weight / height^2 = {_n(weight)} / ({_n(metres)} x {_n(metres)})"
    return Working(value, f"{steps} = {_n(weight)} / {metres**2:.4f} = {_n(value)}")


def creatinine_clearance(age: float, weight: float, creatinine: float, female: float) -> Working:
    """mL/min; age in years, weight in kg, creatinine in mg/dL. Cockcroft and Gault, Nephron 1976;16:31-41."""
    above, below = (140 - age) * weight, 72 * creatinine
    value = above / below * (0.85 if female else 1)
    steps = "Clearance = (140 - age) x weight / (72 x creatinine)"
    steps += f" = {_n(140 - age)} x {_n(weight)} / (72 x {_n(creatinine)})"
    steps += f" = {_n(above)} / {_n(below)} = {_n(above / below)}"
    return Working(value, steps + (f". Female: x 0.85 = {_n(value)}" if female else ""))


def pack_years(cigarettes: float, years: float) -> Working:
    """Pack-years of 20 cigarettes a day. National Cancer Institute, Dictionary of Cancer Terms, "pack year"."""
    packs = cigarettes / 20
    steps = f"Pack-years = (cigarettes a day / 20) x years = ({_n(cigarettes)} / 20) x {_n(years)}"
    return Working(packs * years, f"{steps} = {_n(packs)} x {_n(years)} = {_n(packs * years)}")


def gradient(fio2: float, paco2: float, pao2: float) -> Working:
    """Alveolar-arterial oxygen gradient in mmHg at sea level (760 mmHg, water vapour 47, respiratory quotient 0.8).

    fio2 in per cent, gases in mmHg. West and Luks, West's Respiratory Physiology, 11th ed. (2021), ch. 5.
    """
    inspired, exchanged = fio2 / 100 * 713, paco2 / 0.8
    alveolar = inspired - exchanged
    steps = f"Alveolar oxygen = FiO2 x (760 - 47) - PaCO2 / 0.8 = {_n(fio2 / 100)} x 713 - {_n(paco2)} / 0.8"
    steps += f" = {_n(inspired)} - {_n(exchanged)} = {_n(alveolar)}. "
    return Working(alveolar - pao2, steps + f"Gradient = {_n(alveolar)} - {_n(pao2)} = {_n(alveolar - pao2)}")


def glasgow_coma_scale(eye: float, verbal: float, motor: float) -> Working:
    """3 to 15. Teasdale and Jennett, Lancet 1974;2:81-4."""
    total = eye + verbal + motor
    steps = f"Glasgow Coma Scale = eye + verbal + motor = E{_n(eye)} + V{_n(verbal)} + M{_n(motor)} = {_n(total)}"
    return Working(total, steps)


def curb65(
    confusion: float, urea: float, respiratory_rate: float, systolic: float, diastolic: float, age: float
) -> Working:
    """0 to 5; urea in mmol/L, pressures in mmHg. Lim et al., Thorax 2003;58:377-82."""
    points = {"confusion": confusion, "urea above 7": urea > 7, "respiratory rate 30 or more": respiratory_rate >= 30}
    points["systolic below 90 or diastolic 60 or less"] = systolic < 90 or diastolic <= 60
    return _points("CURB-65", points | {"age 65 or more": age >= 65})


def qsofa(respiratory_rate: float, systolic: float, confusion: float) -> Working:
    """0 to 3; systolic in mmHg. Seymour et al., JAMA 2016;315:762-74."""
    points = {"respiratory rate 22 or more": respiratory_rate >= 22, "systolic 100 or less": systolic <= 100}
    return _points("qSOFA", points | {"altered mentation": confusion})


def cha2ds2_vasc(
    age: float,
    female: float,
    heart_failure: float,
    hypertension: float,
    diabetes: float,
    stroke: float,
    vascular: float,
) -> Working:
    """0 to 9. Lip et al., Chest 2010;137:263-72."""
    points = {"heart failure": heart_failure, "hypertension": hypertension, "age": 2 if age >= 75 else age >= 65}
    points |= {"diabetes": diabetes, "stroke or embolism": 2 * stroke, "vascular disease": vascular}
    return _points("CHA2DS2-VASc", points | {"female": female})


def wells(
    heart_rate: float,
    leg_signs: float,
    likeliest: float,
    immobile: float,
    previous: float,
    haemoptysis: float,
    cancer: float,
) -> Working:
    """Wells score for pulmonary embolism, 0 to 12.5. Wells et al., Thromb Haemost 2000;83:416-20."""
    points = {"signs of leg thrombosis": 3 * leg_signs, "embolism likeliest": 3 * likeliest}
    points |= {"heart rate above 100": 1.5 * (heart_rate > 100), "immobile or operated": 1.5 * immobile}
    points |= {"earlier thrombosis": 1.5 * previous, "haemoptysis": haemoptysis, "cancer": cancer}
    return _points("Wells score", points)


def _points(name: str, points: dict[str, float]) -> Working:
    scored = {criterion: float(each) for criterion, each in points.items() if each}
    said = " + ".join(f"{criterion} {_n(each)}" for criterion, each in scored.items()) or "no criterion met"
    return Working(sum(scored.values()), f"{name} = {said} = {_n(sum(scored.values()))}")
