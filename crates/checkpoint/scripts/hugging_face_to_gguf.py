"""A Hugging Face state dict and config to a GGUF file, with the conversions of llama.cpp's converter.

This is the small part of `convert_hf_to_gguf.py` that lorascope undoes, written again on gguf-py so that fixtures can
be made without llama.cpp. Imported by the scripts beside it.
"""

import re

import gguf
import numpy as np

ARCH = {
    "llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3",
    "gemma2": "gemma2", "gemma3_text": "gemma3", "gpt2": "gpt2",
}
GPT2_LAYER = {
    "ln_1": "attn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down",
}
LAYER = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "post_feedforward_layernorm": "post_ffw_norm",
    "pre_feedforward_layernorm": "ffn_norm",
}
TOP = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "transformer.wte": "token_embd", "transformer.wpe": "position_embd", "transformer.ln_f": "output_norm",
}


def gguf_name(arch: str, name: str) -> str:
    module, kind = name.rsplit(".", 1)
    if module in TOP:
        return f"{TOP[module]}.{kind}"
    layer, part = re.fullmatch(r"(?:model\.layers|transformer\.h)\.(\d+)\.(.+)", module).groups()
    if part == "post_attention_layernorm":
        target = "post_attention_norm" if arch.startswith("gemma") else "ffn_norm"
    else:
        target = (GPT2_LAYER if arch == "gpt2" else LAYER)[part]
    return f"blk.{layer}.{target}.{kind}"


def permute(weights: np.ndarray, n_head: int) -> np.ndarray:
    """`LlamaModel.permute` of convert_hf_to_gguf.py."""
    rows = weights.shape[0]
    shape = (n_head, 2, rows // n_head // 2, *weights.shape[1:])
    return np.ascontiguousarray(weights.reshape(shape).swapaxes(1, 2).reshape(weights.shape))


def converted(arch: str, name: str, value: np.ndarray, config: dict) -> np.ndarray:
    """What `modify_tensors` of the model class does."""
    if arch == "llama" and ".q_proj." in name:
        return permute(value, config["num_attention_heads"])
    if arch == "llama" and ".k_proj." in name:
        return permute(value, config["num_key_value_heads"])
    if arch.startswith("gemma") and name.endswith("norm.weight"):
        return value + np.float32(1)
    if arch == "gpt2" and re.search(r"\.(c_attn|c_proj|c_fc)\.weight$", name):
        return np.ascontiguousarray(value.T)
    return value


def rope_parameters(config: dict) -> dict:
    rope = config.get("rope_parameters") or {"rope_theta": config.get("rope_theta", 10000.0)}
    return rope.get("full_attention", rope)


def llama3_factors(rope: dict, head_dim: int) -> np.ndarray:
    """`LlamaModel.generate_extra_tensors` of convert_hf_to_gguf.py."""
    base, factor = rope["rope_theta"], rope["factor"]
    low, high, old = rope["low_freq_factor"], rope["high_freq_factor"], rope["original_max_position_embeddings"]
    factors = []
    for freq in 1.0 / (base ** (np.arange(0, head_dim, 2, dtype=np.float32) / head_dim)):
        wavelength = 2 * np.pi / freq
        if wavelength < old / high:
            factors.append(1)
        elif wavelength > old / low:
            factors.append(factor)
        else:
            smooth = (old / wavelength - low) / (high - low)
            factors.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(factors, dtype=np.float32)


def write(path: str, config: dict, tensors: dict[str, np.ndarray], matrix_type: str = "F32") -> None:
    """`matrix_type`: how tensors of two dimensions are stored; vectors stay F32, as llama.cpp keeps them."""
    arch = ARCH[config["model_type"]]
    writer = gguf.GGUFWriter(path, arch)
    if arch == "gpt2":
        writer.add_block_count(config["n_layer"])
        writer.add_context_length(config["n_positions"])
        writer.add_embedding_length(config["n_embd"])
        writer.add_feed_forward_length(config["n_inner"] or 4 * config["n_embd"])
        writer.add_head_count(config["n_head"])
        writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    else:
        writer.add_block_count(config["num_hidden_layers"])
        writer.add_context_length(config["max_position_embeddings"])
        writer.add_embedding_length(config["hidden_size"])
        writer.add_feed_forward_length(config["intermediate_size"])
        writer.add_head_count(config["num_attention_heads"])
        writer.add_head_count_kv(config["num_key_value_heads"])
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
        head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
        if head_dim * config["num_attention_heads"] != config["hidden_size"]:
            writer.add_key_length(head_dim)
            writer.add_value_length(head_dim)
        rope = rope_parameters(config)
        writer.add_rope_freq_base(rope["rope_theta"])
        if rope.get("rope_type") == "llama3":
            writer.add_tensor("rope_freqs.weight", llama3_factors(rope, head_dim))
        if config["model_type"] in ("mistral", "gemma2", "gemma3_text") and config.get("sliding_window"):
            writer.add_sliding_window(config["sliding_window"])
        if arch == "gemma2":
            writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
            writer.add_final_logit_softcapping(config["final_logit_softcapping"])
        if arch.startswith("gemma"):
            # llama.cpp's converter does not write these two: its code knows the published models.
            writer.add_float32(f"{arch}.attention.scale", config["query_pre_attn_scalar"] ** -0.5)
            writer.add_array(f"{arch}.attention.sliding_window_pattern",
                             [kind == "sliding_attention" for kind in config["layer_types"]])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_array("tokenizer.ggml.tokens", [f"t{i}" for i in range(3)])
    writer.add_array("tokenizer.ggml.scores", [0.0, -1.5, -2.0])
    writer.add_array("tokenizer.ggml.token_type", [1, 3, 6])
    writer.add_bool("tokenizer.ggml.add_bos_token", True)
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    for name, value in tensors.items():
        value = converted(arch, name, value.astype(np.float32), config)
        if value.ndim > 1 and matrix_type != "F32":
            kind = gguf.GGMLQuantizationType[matrix_type]
            writer.add_tensor(gguf_name(arch, name), gguf.quants.quantize(value, kind), raw_dtype=kind)
        else:
            writer.add_tensor(gguf_name(arch, name), value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
