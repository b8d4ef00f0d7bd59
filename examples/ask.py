"""Ask the base and the GRPO model the same case from Python, and look at what came back."""

from contextlib import closing

from medgrpo.answers import compare
from medgrpo.engines import Sampling, load_engine
from medgrpo.settings import Settings

CASE = (
    "A 58-year-old man woke at night with severe pain in his right big toe. The joint is red, hot and swollen, and he "
    "can't bear the sheet on it. He takes a thiazide for hypertension. What is the most likely diagnosis?"
)

with closing(load_engine(Settings.from_env())) as engine:
    for answer in compare(engine, CASE, sampling=Sampling(max_tokens=200)):
        record = answer.record()
        print(f"{record['variant']} ({record['format']}): {record['answer']}\n")
    print(record["disclaimer"])
