"""Compare through vLLM: base and GRPO answering at once against one of them alone, wall time, Qwen2.5-3B's shape.

Run `python -m benchmarks.gpu.compare --gguf FILE`. One engine of ours; in each round base alone, GRPO alone, then both at
once as the page's Compare asks them. The ratio of a round is both against the slower one alone; the figure is the median.
"""

import statistics
import time
from concurrent.futures import ThreadPoolExecutor

from benchmarks.gpu import common
from medgrpo.engines import Engine, Sampling


def answer(engine: Engine, number: int, variant: str, tokens: int) -> float:
    """Seconds of one answer."""
    began = time.perf_counter()
    sampling = Sampling(temperature=1.0, max_tokens=tokens, seed=number)
    deltas = sum(1 for _ in engine.stream(common.question(number), sampling, variant))
    if deltas < 2:
        raise SystemExit(f"The {variant} model wrote {deltas} pieces of text: nothing can be timed.")
    return time.perf_counter() - began


def measure(engine: Engine, rounds: int, tokens: int) -> list[dict[str, float]]:
    """Seconds of each round; round 0 warms up and doesn't count."""
    found = []
    with ThreadPoolExecutor(2) as pool:
        for number in range(rounds + 1):
            row = {variant: answer(engine, 10 * number, variant, tokens) for variant in engine.variants}
            began = time.perf_counter()
            list(pool.map(lambda each: answer(engine, 10 * number + 1, each, tokens), engine.variants))  # noqa: B023
            found.append({**row, "both": time.perf_counter() - began})
    return found[1:]


def main() -> None:
    parser = common.parser("compare", __doc__, cpu=True)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=256, help="of each answer")
    parser.add_argument("--share", type=float, default=0.5, help="of the GPU's memory")
    options = parser.parse_args()
    with common.our_engine(options, options.share) as engine:
        if len(engine.variants) != 2:
            raise SystemExit("The engine has no adapter: there is nothing to compare.")
        rounds = measure(engine, options.rounds, options.tokens)
    rows = [
        {
            "who": name,
            "median, s": statistics.median(row[name] for row in rounds),
            "least, s": min(row[name] for row in rounds),
            "most, s": max(row[name] for row in rounds),
        }
        for name in rounds[0]
    ]

    def ratio(*alone: str) -> float:
        return statistics.median(row["both"] / max(row[name] for name in alone) for row in rounds)

    ratios = {
        "both at once / the slower alone": (ratio("base", "grpo"), "<=", 1.15),
        "both at once / base alone": (ratio("base"), "<=", None),
        "both at once / GRPO alone": (ratio("grpo"), "<=", None),
    }
    common.publish("compare", f"Compare through {engine.name}", rows, ratios, options, rounds=rounds)


if __name__ == "__main__":
    main()
