"""What a run will take: memory, time and disk, from the size of the model and the lengths, before anything starts.

The formulas count what a decoder with a LoRA keeps (weights, adapter with its Adam state, activations for the backward
pass, logits, key-value cache) and computes. Constants were measured: those of the CPU with variants of
train/configs/smoke_cpu.yaml, those of the GPU in the runs of docs/experiments.md. An earlier run of the same model in
the same folder is the better measure of time, and is used where there is one. Lengths count as the longest allowed,
so memory and time come out high rather than low.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medgrpo.engines.shapes import Shape, shape_of
from medgrpo.training.config import RunConfig
from medgrpo.training.machine import GB, Machine
from medgrpo.training.run_directory import RunDirectory, read_lines
from medgrpo.training.run_info import configuration, is_run

LIBRARIES_GB = {"cpu": 0.8, "cuda": 1.5}
"""torch and its companions in a process (0.79 GiB measured), or a CUDA context with its workspaces."""
WEIGHT_BYTES = {"fp32": 4.0, "bf16-mixed": 4.0, "bf16": 2.0, "4bit": 0.5625}
"""A weight of a linear layer. NF4 keeps 4 bits and, for each 64 values, a scale (arXiv:2305.14314); embeddings stay in 16."""
ACTIVATION_BYTES = {"fp32": 4.0, "bf16-mixed": 2.8, "bf16": 2.0, "4bit": 2.0}
"""A kept value. Mixed precision keeps both kinds: 33 GB beside vLLM were seen where 2 bytes would give 25."""
LOGITS_COPIES = 3
"""Logits, their log-probabilities and their gradient, in float32."""
CPU_KEPT = 1.6
"""On a CPU the C library keeps memory between steps of different lengths: 8 completions of 128 tokens peaked at 8.6 GiB
where the second step alone needed 6.0."""
CPU_FLOPS, CPU_LAYER_SECONDS = 40e9, 0.001
"""Arithmetic a second of one core in float32, and what a layer costs beside it in each decoding step: 8.0 s for 4
completions of 48 tokens and 33 s for 8 of 128 on two cores."""
GPU_PEAKS = {
    "H100": 989e12, "H200": 989e12, "B200": 2250e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "A10": 125e12,
    "T4": 65e12, "4090": 165e12, "3090": 71e12,
}  # fmt: skip
"""Dense 16-bit arithmetic a second by the makers' data sheets; other devices count as an A10."""
GPU_SHARE_BY_WIDTH, GPU_TOKEN_SECONDS, GPU_STEP_SECONDS = 1e-4, 0.006, 1.0
"""Share of the peak that training reaches, by hidden width (6 % at 576, 20 % at 2,048: 2.0 and 4.8 s a step on an
H100), and what vLLM takes for a decoding step and for its weight sync."""
SFT_PROMPT = 350
"""Tokens; the longest of the casebook, where no prompt is known and no limit set."""
START_SECONDS = {"cpu": 60.0, "cuda": 30.0, "vllm": 95.0}


@dataclass(frozen=True)
class Estimate:
    """What a run will take.

    Attributes:
        memory_gb: peak memory of the device that trains (a GPU if there is one), in GiB.
        memory_parts: (what, GiB), the largest first; they add up to `memory_gb`.
        step_seconds: of one optimiser step.
        total_seconds: of the run with start and held-out cases.
        disk_gb: what the run will write, in GiB.
        says: how it was derived, in sentences.
    """

    memory_gb: float
    memory_parts: tuple[tuple[str, float], ...]
    step_seconds: float
    total_seconds: float
    disk_gb: float
    says: str


def estimate(
    config: RunConfig, machine: Machine, prompts: Sequence[int] = (), runs: Path | None = None
) -> Estimate | None:
    """What the run will take on this machine; None if nothing is known about the model's size.

    Args:
        prompts: lengths of some prompts in tokens; without them every prompt counts as long as allowed.
        runs: folder of earlier runs to learn the speed from.
    """
    shape = shape_of(config.model)
    if shape is None:
        return None
    longest = _longest(config, prompts)
    parts = sorted(_memory(config, shape, machine, longest).items(), key=lambda part: -part[1])
    computed = _step_seconds(config, shape, machine, longest)
    measured = measured_step(config, runs) if runs else None
    step = measured[0] if measured else computed
    cores = f"{machine.cpus} CPU core{'s' * (machine.cpus != 1)}"
    where = machine.gpus[0][0] if machine.gpus else cores
    says = (
        f"Memory: {', '.join(f'{what} {amount:.1f} GB' for what, amount in parts)}; prompts of up to {longest} tokens. "
    )
    if measured:
        says += f"Time: {step:.1f} s a step, scaled by the number of tokens from the run {measured[1]}. "
    else:
        says += f"Time: {step:.1f} s a step by the arithmetic of {shape.parameters / 1e6:.0f} M parameters on {where}, "
        says += "right to about a factor of two. "
    return Estimate(
        memory_gb=sum(amount for _, amount in parts),
        memory_parts=tuple(parts),
        step_seconds=step,
        total_seconds=_total_seconds(config, shape, machine, step),
        disk_gb=_disk(config, shape),
        says=says + f"Disk: {config.training.save_total_limit} checkpoints, adapter and recordings.",
    )


def _longest(config: RunConfig, prompts: Sequence[int]) -> int:
    """Of the prompts that training sees, in tokens."""
    if config.stage == "sft":
        return max(prompts, default=SFT_PROMPT)
    limit = config.grpo.max_prompt_length
    return min(limit, max(prompts)) if prompts else limit


def _answer(config: RunConfig) -> int:
    return config.grpo.max_completion_length if config.stage == "grpo" else 256


def _memory(config: RunConfig, shape: Shape, machine: Machine, prompt: int) -> dict[str, float]:
    """GiB by purpose; generation and backward pass take turns, so the larger of the two counts.

    Activations: of each token and layer, 8 values of the hidden width and 4 of the feed-forward width are kept (inputs
    of norms, projections, activation and product), as in Korthikanti et al., arXiv:2205.05198; the attention matrix
    only on a CPU, whose attention is not fused when prompts are padded.
    """
    training, device = config.training, "cuda" if machine.gpus else "cpu"
    adapter = shape.lora_parameters(config.lora.r, config.lora.target_modules)
    optimiser = 2 if "8bit" in training.optim else 8
    value = ACTIVATION_BYTES[config.precision]
    batch, answer = training.per_device_train_batch_size, _answer(config)
    width = 8 * shape.hidden + 4 * shape.feed_forward
    layers = shape.layers * width
    if training.gradient_checkpointing:
        layers = shape.layers * shape.hidden + width
    kept = batch * (prompt + answer) * layers * value
    if not machine.gpus:
        kept += batch * (prompt + answer) ** 2 * shape.heads * shape.layers * value
    scored = answer if config.stage == "grpo" else prompt + answer
    logits = batch * scored * shape.vocabulary * 4.0 * LOGITS_COPIES
    if not machine.gpus:
        kept, logits = kept * CPU_KEPT, logits * CPU_KEPT
    cache = 0.0
    if config.stage == "grpo" and not config.grpo.use_vllm:
        together = batch * training.gradient_accumulation_steps
        cache = 2 * shape.layers * shape.kv_width * together * (prompt + answer) * value
    parts = {
        "weights": _weights(config.precision, shape) / GB,
        "adapter and optimiser": adapter * (8 + optimiser) / GB,
        "libraries": LIBRARIES_GB[device],
    }
    if cache > kept + logits:
        parts["key-value cache"] = cache / GB
    else:
        parts["activations"], parts["logits"] = kept / GB, logits / GB
    if machine.gpus and config.stage == "grpo" and config.grpo.use_vllm and config.grpo.vllm_mode == "colocate":
        parts["vLLM"] = config.grpo.vllm_gpu_memory_utilization * machine.gpus[0][1]
        if config.backend == "unsloth":  # trains on the weights that vLLM holds
            parts["vLLM"] = max(parts["vLLM"], parts.pop("weights"))
    return parts


def _weights(precision: str, shape: Shape) -> float:
    """Bytes of the base model."""
    linear = shape.layers * shape.layer_parameters
    return linear * WEIGHT_BYTES[precision] + (shape.parameters - linear) * max(2.0, WEIGHT_BYTES[precision])


def _flops(machine: Machine, shape: Shape) -> float:
    """Arithmetic a second that training reaches."""
    if not machine.gpus:
        return CPU_FLOPS * machine.cpus
    name = machine.gpus[0][0]
    peak = next((flops for part, flops in GPU_PEAKS.items() if part in name.replace("-", " ").split()), None)
    peak = peak or next((flops for part, flops in GPU_PEAKS.items() if part in name), GPU_PEAKS["A10"])
    return peak * min(0.3, GPU_SHARE_BY_WIDTH * shape.hidden)


def _step_seconds(config: RunConfig, shape: Shape, machine: Machine, prompt: int) -> float:
    """Forward pass 2 operations a parameter and token, backward pass through frozen weights 2 more; a KL term 2."""
    training, grpo, answer = config.training, config.grpo, _answer(config)
    completions = training.per_device_train_batch_size * training.gradient_accumulation_steps
    flops = _flops(machine, shape)
    operations = 4.0 if config.stage == "sft" or not grpo.beta else 6.0
    operations += 2.0 if training.gradient_checkpointing else 0.0
    seconds = completions * (prompt + answer) * operations * shape.parameters / flops
    if config.stage == "sft":
        return seconds
    return seconds + _generation_seconds(config, shape, machine, completions, prompt) / grpo.num_iterations


def _generation_seconds(config: RunConfig, shape: Shape, machine: Machine, completions: int, prompt: int) -> float:
    answer, flops = config.grpo.max_completion_length, _flops(machine, shape)
    arithmetic = completions * (prompt + answer) * 2.0 * shape.parameters / flops
    if not machine.gpus:
        return arithmetic + answer * shape.layers * CPU_LAYER_SECONDS
    slower = 1.0 if config.grpo.use_vllm else 8.0  # transformers: 17.2 s where vLLM took 2.0
    return arithmetic + slower * answer * GPU_TOKEN_SECONDS + GPU_STEP_SECONDS


def _total_seconds(config: RunConfig, shape: Shape, machine: Machine, step: float) -> float:
    training, watched = config.training, config.evaluation
    start = START_SECONDS["cuda" if machine.gpus else "cpu"]
    if machine.gpus and config.stage == "grpo" and config.grpo.use_vllm:
        start = START_SECONDS["vllm"]
    times = 2 + (training.max_steps - 1) // watched.every if watched.every else 2
    batches = -(-watched.limit // (128 if machine.gpus else 8))
    each = watched.max_new_tokens * (GPU_TOKEN_SECONDS * 4 if machine.gpus else shape.layers * CPU_LAYER_SECONDS)
    if not machine.gpus:
        each += 8 * (400 + watched.max_new_tokens) * 2.0 * shape.parameters / _flops(machine, shape)
    return start + training.max_steps * step + times * batches * each


def _disk(config: RunConfig, shape: Shape) -> float:
    """GiB: adapter weights (4 bytes) and Adam's two moments (8) a checkpoint, the final adapter twice in 2, texts."""
    training, recording = config.training, config.recording
    adapter = shape.lora_parameters(config.lora.r, config.lora.target_modules)
    checkpoints = min(training.save_total_limit, 1 + training.max_steps // training.save_steps) + 1
    lines = training.max_steps // training.logging_steps * 1500
    texts = 0
    if config.stage == "grpo":
        recorded = 1 + training.max_steps // recording.every
        completions = training.per_device_train_batch_size * training.gradient_accumulation_steps
        texts = recorded * min(recording.completions, completions) * (2500 + 5 * config.grpo.max_completion_length)
    return (checkpoints * adapter * 12 + adapter * 4 + lines * (1 + checkpoints) + texts + 2**20) / GB


def measured_step(config: RunConfig, runs: Path) -> tuple[float, str] | None:
    """(seconds a step, run) from the newest run of the same model and back end, scaled by the tokens of a step."""
    wanted = _tokens(config.as_mapping())
    try:
        folders = sorted((path for path in runs.iterdir() if is_run(path)), key=lambda path: path.name, reverse=True)
    except OSError:
        return None
    for path in folders[:50]:
        written = configuration(path / "config.yaml")
        if any(written.get(key) != value for key, value in _kind(config).items()):
            continue
        if bool((written.get("grpo") or {}).get("use_vllm")) != (config.stage == "grpo" and config.grpo.use_vllm):
            continue
        metrics = RunDirectory(path).metrics_file
        times = [line["step_time"] for line in read_lines(metrics) if isinstance(line.get("step_time"), int | float)]
        tokens = _tokens(written)
        if len(times) >= 2 and tokens:
            return statistics.median(times[1:]) * wanted / tokens, path.name
    return None


def _kind(config: RunConfig) -> dict[str, str]:
    return {name: getattr(config, name) for name in ("stage", "model", "backend", "precision")}


def _tokens(written: object) -> float:
    """What the length of a step goes with: completions times the longest completion."""
    raw = written if isinstance(written, dict) else {}
    training, grpo = raw.get("training") or {}, raw.get("grpo") or {}
    try:
        completions = training["per_device_train_batch_size"] * training["gradient_accumulation_steps"]
        return float(completions * grpo.get("max_completion_length", 1))
    except (KeyError, TypeError):
        return 0.0
