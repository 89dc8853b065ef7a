"""Writes a GPT-2 folder in Hugging Face layout as CTranslate2 (int8) and as GGUF (q8_0), without PyTorch."""

import json
from pathlib import Path

import numpy
from safetensors.numpy import load_file


def tensors_of(folder: Path) -> dict[str, numpy.ndarray]:
    tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(file)
    return {name.removeprefix("transformer."): tensor.astype(numpy.float32) for name, tensor in tensors.items()}


def config_of(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text())


def to_ctranslate2(folder: Path, output: Path) -> None:
    """As CTranslate2's own loader of GPT-2 does it; tokens have made-up names, no text is needed."""
    import ctranslate2
    from ctranslate2.specs import common_spec, transformer_spec

    config, tensors = config_of(folder), tensors_of(folder)
    spec = transformer_spec.TransformerDecoderModelSpec.from_config(
        config["n_layer"], config["n_head"], pre_norm=True, activation=common_spec.Activation.GELUTanh
    )

    def linear(to, name: str) -> None:
        to.weight = numpy.ascontiguousarray(tensors[f"{name}.weight"].T)
        to.bias = tensors[f"{name}.bias"]

    def norm(to, name: str) -> None:
        to.gamma, to.beta = tensors[f"{name}.weight"], tensors[f"{name}.bias"]

    decoder = spec.decoder
    decoder.scale_embeddings = False
    decoder.embeddings.weight = tensors["wte.weight"]
    decoder.position_encodings.encodings = tensors["wpe.weight"]
    decoder.projection.weight = tensors["wte.weight"]
    norm(decoder.layer_norm, "ln_f")
    for index, layer in enumerate(decoder.layer):
        norm(layer.self_attention.layer_norm, f"h.{index}.ln_1")
        linear(layer.self_attention.linear[0], f"h.{index}.attn.c_attn")
        linear(layer.self_attention.linear[1], f"h.{index}.attn.c_proj")
        norm(layer.ffn.layer_norm, f"h.{index}.ln_2")
        linear(layer.ffn.linear_0, f"h.{index}.mlp.c_fc")
        linear(layer.ffn.linear_1, f"h.{index}.mlp.c_proj")
    spec.register_vocabulary([f"t{token}" for token in range(config["vocab_size"])])
    spec.config.bos_token = spec.config.eos_token = spec.config.unk_token = f"t{config['vocab_size'] - 1}"
    spec.validate()
    spec.optimize(quantization="int8")
    output.mkdir(parents=True, exist_ok=True)
    spec.save(str(output))


def to_gguf(folder: Path, output: Path) -> None:
    """Matrices in q8_0, the table of positions and all vectors in float32: as llama.cpp's own quantize leaves them."""
    import gguf

    config, tensors = config_of(folder), tensors_of(folder)
    writer = gguf.GGUFWriter(str(output), "gpt2")
    writer.add_block_count(config["n_layer"])
    writer.add_context_length(config["n_positions"])
    writer.add_embedding_length(config["n_embd"])
    writer.add_feed_forward_length(4 * config["n_embd"])
    writer.add_head_count(config["n_head"])
    writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("no_vocab")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)

    def add(name: str, tensor: numpy.ndarray) -> None:
        if tensor.ndim == 1 or name.startswith("position"):
            writer.add_tensor(name, tensor)
            return
        quantized = gguf.quants.quantize(numpy.ascontiguousarray(tensor), gguf.GGMLQuantizationType.Q8_0)
        writer.add_tensor(name, quantized, raw_dtype=gguf.GGMLQuantizationType.Q8_0)

    add("token_embd.weight", tensors["wte.weight"])
    add("position_embd.weight", tensors["wpe.weight"])
    add("output.weight", tensors["wte.weight"])
    parts = {
        "attn_norm": "ln_1", "attn_qkv": "attn.c_attn", "attn_output": "attn.c_proj",
        "ffn_norm": "ln_2", "ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj",
    }
    for kind in ("weight", "bias"):
        add(f"output_norm.{kind}", tensors[f"ln_f.{kind}"])
        for layer in range(config["n_layer"]):
            for theirs, ours in parts.items():
                tensor = tensors[f"h.{layer}.{ours}.{kind}"]
                add(f"blk.{layer}.{theirs}.{kind}", tensor.T if tensor.ndim == 2 else tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def converted(folder: Path, kind: str) -> Path:
    """Made once, beside the model, and found again."""
    output = folder / ("ctranslate2-int8" if kind == "ctranslate2" else "q8_0.gguf")
    if not output.exists():
        partial = output.with_name(f"{output.name}.partial")
        (to_ctranslate2 if kind == "ctranslate2" else to_gguf)(folder, partial)
        partial.rename(output)
    return output
