"""PEFT adapters become GGUF adapters that write the same text, or are refused in one sentence."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medgrpo.engines import BASE, GRPO, Sampling
from medgrpo.engines.adapters import check_adapter, convert, find_converted
from medgrpo.engines.gguf_file import read_gguf
from medgrpo.engines.llamacpp import LlamaCppEngine
from medgrpo.errors import ModelError
from medgrpo.prompts import build_messages
from medgrpo.settings import Settings

CASES = ("A 45-year-old man has chest pain and shortness of breath.", "A girl of 3 has a barking cough at night.")
LORAS = {
    "plain": {},
    "rslora": {"use_rslora": True},
    "patterns": {"rank_pattern": {"layers.0.self_attn.q_proj": 2}, "alpha_pattern": {"down_proj": 3}},
}


@pytest.mark.slow
@pytest.mark.parametrize("lora", LORAS)
@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_same_greedy_text_as_peft(
    architecture: str, lora: str, tiny: Callable[[str], Any], post: Callable[..., Any], tmp_path: Path
) -> None:
    model = tiny(architecture)
    save_peft(model.model, tmp_path / "lora", **LORAS[lora])
    engine = LlamaCppEngine(Settings(model=str(model.gguf), adapter=str(tmp_path / "lora"), threads=2, quotes="free"))
    try:
        assert engine.variants == (BASE, GRPO)
        texts = set()
        for case in CASES:
            messages = build_messages(case)
            prompt = post(engine, BASE, "/apply-template", {"messages": messages})["prompt"]
            tokens = post(engine, BASE, "/tokenize", {"content": prompt, "parse_special": True})["tokens"]
            for variant, folder in ((BASE, None), (GRPO, tmp_path / "lora")):
                expected = clear_tokens(model.model, folder, tokens)
                assert len(expected) >= 8
                start = post(engine, BASE, "/detokenize", {"tokens": expected})["content"].strip()
                text = "".join(engine.stream(messages, Sampling(max_tokens=32), variant))
                assert text.startswith(start)  # llama.cpp's server drops outer white space, hence the strip
                texts.add(start)
        assert len(texts) == 4, "the adapter must change the text for this test to mean anything"
    finally:
        engine.close()


def save_peft(model: Any, folder: Path, **options: Any) -> None:
    """Saves a random adapter as PEFT does; half-precision values, so that storing them loses nothing."""
    import torch
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM", **options)
    torch.manual_seed(1)
    peft = get_peft_model(model, config)
    with torch.no_grad():
        for name, weight in peft.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.1)
            if "lora_" in name:
                weight.copy_(weight.half().float())
    peft.save_pretrained(folder, save_embedding_layers=False)
    peft.unload()


def clear_tokens(model: Any, folder: Path | None, tokens: list[int]) -> list[int]:
    """Up to 32 greedy tokens of transformers (with PEFT), until the two best are so close that rounding may choose.

    llama.cpp keeps keys and values in half precision; random models have more near ties than trained ones.
    """
    import torch
    from peft import PeftModel

    peft = PeftModel.from_pretrained(model, folder) if folder else None
    prompt = torch.tensor([tokens])
    with torch.no_grad():
        output = (peft or model).generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=32,
            do_sample=False,
            pad_token_id=2,
            return_dict_in_generate=True,
            output_logits=True,
        )
    if peft:
        peft.unload()
    best, second = torch.stack(output.logits)[:, 0].topk(2).values.T
    clear = (best - second > 0.004).long().cumprod(0)
    return [int(token) for token in output.sequences[0, len(tokens) :][clear.bool()]]


def test_bfloat16_weights_and_reuse(smollm2: Path, adapter: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    weights = {name: tensor.bfloat16() for name, tensor in load_file(adapter / "adapter_model.safetensors").items()}
    save_file(weights, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text((adapter / "adapter_config.json").read_text())
    assert find_converted(tmp_path) is None
    out = convert(tmp_path, smollm2, tmp_path / "adapter.gguf")
    assert find_converted(tmp_path) == out
    check_adapter(tmp_path, smollm2)
    import gguf

    stored = {tensor.name: tensor.data for tensor in gguf.GGUFReader(out).tensors}
    expected = weights["base_model.model.model.layers.3.mlp.up_proj.lora_A.weight"].to(torch.float16).numpy()
    assert np.array_equal(stored["blk.3.ffn_up.weight.lora_a"], expected)
    save_file({name: tensor + 1 for name, tensor in weights.items()}, tmp_path / "adapter_model.safetensors")
    assert find_converted(tmp_path) is None, "a converted file of older weights must not be used"


def test_adapter_of_another_base_is_refused(tiny: Callable[[str], Any], adapter: Path, tmp_path: Path) -> None:
    for architecture in ("llama", "qwen2"):
        base = tiny(architecture).gguf
        with pytest.raises(ModelError, match=r"does not fit the model tiny .* trained on random/test.*MEDGRPO_ADAPTER"):
            convert(adapter, base, tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()


def test_gguf_adapter_of_another_base_is_refused(
    tiny: Callable[[str], Any], adapter: Path, smollm2: Path, tmp_path: Path
) -> None:
    ready = convert(adapter, smollm2, tmp_path / "adapter.gguf")
    with pytest.raises(ModelError, match="it is for the architecture 'llama', not 'qwen2'"):
        check_adapter(ready, tiny("qwen2").gguf)
    with pytest.raises(ModelError, match=r"does not have|has the shapes"):
        check_adapter(ready, tiny("llama").gguf)
    with pytest.raises(ModelError, match="is not a LoRA adapter"):
        check_adapter(smollm2, smollm2)
    with pytest.raises(ModelError, match="does not fit the model tiny"):
        LlamaCppEngine(Settings(model=str(tiny("llama").gguf), adapter=str(adapter)))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"use_dora": True}, "contains use_dora"),
        ({"modules_to_save": ["lm_head"]}, "contains modules_to_save"),
        ({"init_lora_weights": "pissa"}, "contains init_lora_weights"),
        ({"peft_type": "IA3"}, "is not a LoRA configuration"),
        ({"r": 0}, "is not a LoRA configuration"),
    ],
)
def test_what_llama_cpp_cannot_apply_is_refused(
    smollm2: Path, adapter: Path, tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    config = json.loads((adapter / "adapter_config.json").read_text()) | changes
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    (tmp_path / "adapter_model.safetensors").write_bytes((adapter / "adapter_model.safetensors").read_bytes())
    with pytest.raises(ModelError, match=says):
        convert(tmp_path, smollm2, tmp_path / "out.gguf")


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("base_model.model.lm_head.weight", 1.0, r"contains base_model\.model\.lm_head\.weight"),
        ("base_model.model.model.embed_tokens.lora_embedding_A", 1.0, "embed_tokens"),
        ("base_model.model.model.layers.0.mlp.up_proj.lora_magnitude_vector", 1.0, "magnitude_vector"),
        ("base_model.model.model.layers.0.mlp.up_proj.lora_A.weight", float("nan"), "NaN"),
        ("base_model.model.vision.layers.0.qkv_thing.lora_A.weight", 1.0, "qkv_thing"),
    ],
)
def test_unknown_tensors_are_named(
    smollm2: Path, adapter: Path, tmp_path: Path, name: str, value: float, says: str
) -> None:
    from safetensors.numpy import load_file, save_file

    tensors = load_file(adapter / "adapter_model.safetensors") | {name: np.full((4, 576), value, np.float32)}
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text((adapter / "adapter_config.json").read_text())
    with pytest.raises(ModelError, match=says):
        convert(tmp_path, smollm2, tmp_path / "out.gguf")


def test_incomplete_folders(smollm2: Path, adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds no adapter"):
        find_converted(tmp_path)
    with pytest.raises(ModelError, match="holds no adapter"):
        LlamaCppEngine(Settings(adapter=str(tmp_path)))
    (tmp_path / "adapter_config.json").write_text((adapter / "adapter_config.json").read_text())
    with pytest.raises(ModelError, match="it is missing"):
        convert(tmp_path, smollm2, tmp_path / "out.gguf")
    whole = (adapter / "adapter_model.safetensors").read_bytes()
    for damaged in (b"", b"no tensors here", whole[: len(whole) // 2]):
        (tmp_path / "adapter_model.safetensors").write_bytes(damaged)
        with pytest.raises(ModelError, match="damaged or cut short"):
            convert(tmp_path, smollm2, tmp_path / "out.gguf")
    (tmp_path / "adapter_config.json").write_text("{")
    with pytest.raises(ModelError, match=r"adapter_config\.json cannot be used"):
        convert(tmp_path, smollm2, tmp_path / "out.gguf")


def test_architectures_this_conversion_does_not_know(adapter: Path, smollm2: Path, tmp_path: Path) -> None:
    data = smollm2.read_bytes().replace(b"llama", b"gemma", 1)
    (tmp_path / "gemma.gguf").write_bytes(data)
    assert read_gguf(tmp_path / "gemma.gguf").architecture == "gemma"
    with pytest.raises(ModelError, match=r"'gemma' cannot be converted.*convert_lora_to_gguf"):
        convert(adapter, tmp_path / "gemma.gguf", tmp_path / "out.gguf")
