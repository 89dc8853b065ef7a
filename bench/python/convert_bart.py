"""Writes a BART folder in Hugging Face layout as CTranslate2 (int8), without PyTorch."""

import math
from pathlib import Path

import numpy

from convert_gpt2 import config_of, tensors_of


def to_ctranslate2(folder: Path, output: Path) -> None:
    """As CTranslate2's own loader of BART does it; tokens have made-up names, no text is needed."""
    from ctranslate2.converters import utils
    from ctranslate2.specs import common_spec, transformer_spec

    config = config_of(folder)
    tensors = {name.removeprefix("model."): tensor for name, tensor in tensors_of(folder).items()}
    layers = (config["encoder_layers"], config["decoder_layers"])
    heads = config["decoder_attention_heads"]
    spec = transformer_spec.TransformerSpec.from_config(
        layers, heads, pre_norm=False, activation=common_spec.Activation.GELU, layernorm_embedding=True
    )

    def linear(to, name: str) -> None:
        to.weight, to.bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]

    def norm(to, name: str) -> None:
        to.gamma, to.beta = tensors[f"{name}.weight"], tensors[f"{name}.bias"]

    def attention(to, name: str, is_cross: bool) -> None:
        parts = [common_spec.LinearSpec() for _ in range(3)]
        for part, projection in zip(parts, ("q_proj", "k_proj", "v_proj"), strict=True):
            linear(part, f"{name}.{projection}")
        if is_cross:
            utils.fuse_linear(to.linear[0], parts[:1])
            utils.fuse_linear(to.linear[1], parts[1:])
        else:
            utils.fuse_linear(to.linear[0], parts)
        linear(to.linear[-1], f"{name}.out_proj")
        norm(to.layer_norm, f"{name}_layer_norm")

    for side, to in (("encoder", spec.encoder), ("decoder", spec.decoder)):
        to.scale_embeddings = math.sqrt(config["d_model"]) if config["scale_embedding"] else 1.0
        embeddings = to.embeddings[0] if isinstance(to.embeddings, list) else to.embeddings
        embeddings.weight = tensors["shared.weight"]
        # The first two rows were kept for padding.
        to.position_encodings.encodings = tensors[f"{side}.embed_positions.weight"][2:]
        norm(to.layernorm_embedding, f"{side}.layernorm_embedding")
        for index, layer in enumerate(to.layer):
            name = f"{side}.layers.{index}"
            attention(layer.self_attention, f"{name}.self_attn", False)
            if side == "decoder":
                attention(layer.attention, f"{name}.encoder_attn", True)
            linear(layer.ffn.linear_0, f"{name}.fc1")
            linear(layer.ffn.linear_1, f"{name}.fc2")
            norm(layer.ffn.layer_norm, f"{name}.final_layer_norm")
    spec.decoder.projection.weight = tensors["shared.weight"]
    if "final_logits_bias" in tensors:
        spec.decoder.projection.bias = tensors["final_logits_bias"][0]
    vocabulary = [f"t{token}" for token in range(config["vocab_size"])]
    spec.register_source_vocabulary(vocabulary)
    spec.register_target_vocabulary(vocabulary)
    spec.config.bos_token, spec.config.eos_token = f"t{config['bos_token_id']}", f"t{config['eos_token_id']}"
    spec.config.unk_token = f"t{config['pad_token_id']}"
    spec.config.decoder_start_token = f"t{config['decoder_start_token_id']}"
    spec.validate()
    spec.optimize(quantization="int8")
    output.mkdir(parents=True, exist_ok=True)
    spec.save(str(output))


def converted(folder: Path) -> Path:
    """Made once, beside the model, and found again."""
    output = folder / "ctranslate2-int8"
    if not output.exists():
        partial = output.with_name(f"{output.name}.partial")
        to_ctranslate2(folder, partial)
        partial.rename(output)
    return output
