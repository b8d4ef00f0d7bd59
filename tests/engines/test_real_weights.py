"""On the real SmolLM2 (and a Qwen, where there is one): what llama.cpp writes with an adapter is what PEFT writes.

Compared on weights that both sides hold in full precision: llama.cpp's quantised kernels round activations to 8 bits,
which turns over near ties (the second best token is often within 0.1) and would say nothing about the adapter.
"""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medgrpo.engines import BASE, GRPO, Sampling
from medgrpo.engines.llamacpp import LlamaCppEngine
from medgrpo.prompts import build_messages
from medgrpo.settings import Settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
CASES = ("A 45-year-old man has chest pain and shortness of breath.", "A girl of 3 has a barking cough at night.")
NEW = 32
Exactly = Callable[[Path], Path]


def transformers_texts(gguf: Path, lora: Path, tie: float) -> tuple[Any, dict[tuple[str, str], str]]:
    """The tokenizer, and greedy text of each case for base and grpo, up to where the two best tokens are nearer than `tie`.

    Saves the random LoRA it uses to `lora`.
    """
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    stop = tokenizer.convert_tokens_to_ids("<|im_end|>")
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    torch.manual_seed(0)
    config = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    peft = get_peft_model(model, config).eval()
    with torch.no_grad():
        for name, weight in peft.named_parameters():
            if "lora_" in name:
                weight.copy_((weight.normal_(0, 0.02) if "lora_B" in name else weight).half())
    peft.save_pretrained(lora, save_embedding_layers=False)
    texts = {}
    for case in CASES:
        prompt = tokenizer.apply_chat_template(
            build_messages(case), add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        for variant in (BASE, GRPO):
            with torch.no_grad(), peft.disable_adapter() if variant == BASE else contextlib.nullcontext():
                output = peft.generate(
                    **prompt,
                    max_new_tokens=NEW,
                    do_sample=False,
                    eos_token_id=stop,
                    pad_token_id=stop,
                    return_dict_in_generate=True,
                    output_logits=True,
                )
            best, second = torch.stack(output.logits)[:, 0].topk(2).values.T
            clear = (best - second > tie).long().cumprod(0).bool()
            assert clear.sum() >= NEW // 2, f"{case} {variant}: a near tie too early in {best - second}"
            new = output.sequences[0, prompt["input_ids"].shape[1] :][clear]
            texts[case, variant] = tokenizer.decode(new, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return tokenizer, texts


def check_model(gguf: Path, exact: Path, folder: Path, post: Callable[..., Any], tie: float) -> None:
    tokenizer, expected = transformers_texts(gguf, folder / "lora", tie)
    assert len(set(expected.values())) == 4, "the adapter must change the text for this test to mean anything"
    engine = LlamaCppEngine(Settings(model=str(exact), adapter=str(folder / "lora"), threads=2, quotes="free"))
    try:
        check_template(engine, tokenizer, post)
        for (case, variant), text in expected.items():
            written = "".join(engine.stream(build_messages(case), Sampling(max_tokens=NEW), variant))
            assert written.startswith(text.strip())
    finally:
        engine.close()


def check_template(engine: LlamaCppEngine, tokenizer: Any, post: Callable[..., Any]) -> None:
    """Same prompt, same tokens, same end of text as transformers: with and without instructions, and with history."""
    for messages in (
        build_messages(CASES[0]),
        build_messages(CASES[0], structured=False),
        build_messages("and then?", [(CASES[0], "<reasoning>\na\n</reasoning>\n<answer>\nAngina.\n</answer>")]),
    ):
        expected = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        prompt = post(engine, BASE, "/apply-template", {"messages": messages})["prompt"]
        assert prompt == expected
        tokens = post(engine, BASE, "/tokenize", {"content": prompt, "parse_special": True, "add_special": True})
        assert tokens["tokens"] == tokenizer(expected, add_special_tokens=False)["input_ids"]
    metadata = post(engine, BASE, "/v1/models")
    assert metadata["data"], "the server is up"


def test_smollm2(smollm2: Path, full_precision: Exactly, tmp_path: Path, post: Callable[..., Any]) -> None:
    check_model(smollm2, full_precision(smollm2), tmp_path, post, tie=0.001)


def test_qwen2(full_precision: Exactly, tmp_path: Path, post: Callable[..., Any]) -> None:
    path = os.environ.get("MEDGRPO_TEST_QWEN_GGUF", "")
    if not path:
        pytest.skip("MEDGRPO_TEST_QWEN_GGUF does not name a Qwen2 GGUF file")
    gguf = Path(path).resolve()
    check_model(gguf, full_precision(gguf), tmp_path, post, tie=0.02)  # its keys are large, and kept in half precision
