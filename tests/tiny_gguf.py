"""Tiny transformers models as GGUF files, so that one set of weights can be asked through both."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def write_gguf(
    path: Path, model: Any, architecture: str, name: str, tokenizer: Mapping[str, Any], rope_base: float = 10_000.0
) -> Path:
    """Write the model in float32.

    Args:
        architecture: "llama" or "qwen2".
        tokenizer: its fields under their GGUF names.
        rope_base: base of the rotary embedding, as the file shall say.
    """
    import gguf

    config = model.config
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name(name)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(rope_base)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    kinds = {bool: writer.add_bool, int: writer.add_uint32, str: writer.add_string, list: writer.add_array}
    for key, value in tokenizer.items():
        kinds[type(value)](key, value)
    names = gguf.get_tensor_name_map(getattr(gguf.MODEL_ARCH, architecture.upper()), config.num_hidden_layers)
    for key, tensor in model.state_dict().items():
        if key == "lm_head.weight" and config.tie_word_embeddings:  # the embeddings again
            continue
        array = tensor.float().numpy()
        module = key.split(".")[-2]
        if architecture == "llama" and module in heads:  # as llama.cpp's convert_hf_to_gguf.py does
            shape = (heads[module], 2, array.shape[0] // heads[module] // 2, *array.shape[1:])
            array = array.reshape(shape).swapaxes(1, 2).reshape(array.shape)
        writer.add_tensor(names.get_name(key, try_suffixes=(".weight", ".bias")), np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
