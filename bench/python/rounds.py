"""What the PEFT measurements share: options, the model, and versions."""

import argparse
import platform
import warnings
from pathlib import Path

import peft
import torch
import transformers
from peft import PeftModel, PrefixTuningConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from turns import add_turns


def parser(description: str) -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--model", required=True, help="folder in Hugging Face layout")
    options.add_argument("--threads", type=int, default=torch.get_num_threads())
    options.add_argument("--prefix-length", type=int, default=10)
    options.add_argument("--attention", default="sdpa", choices=["sdpa", "eager"])
    options.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"], help="of the weights")
    options.add_argument("--device", default="cpu", help="PyTorch's name of it: cpu, cuda")
    options.add_argument("--seed", type=int, default=1)
    add_turns(options)
    return options


def open_base(options: argparse.Namespace):
    """The frozen model. In evaluation mode: without dropout, which Preamble has none of."""
    # stdout is for programs and stderr for what went wrong: no progress bars and advice.
    warnings.simplefilter("ignore")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    # Whatever a program makes from here on lies beside the model.
    torch.set_default_device(options.device)
    family = AutoModelForSeq2SeqLM if AutoConfig.from_pretrained(options.model).is_encoder_decoder else AutoModelForCausalLM
    model = family.from_pretrained(options.model, dtype=getattr(torch, options.dtype), attn_implementation=options.attention)
    return model.to(options.device).eval()


def open_model(options: argparse.Namespace) -> PeftModel:
    """The same with an untrained prefix; of a model with an encoder PEFT has one in the decoder's self-attention alone."""
    base = open_base(options)
    task = "SEQ_2_SEQ_LM" if base.config.is_encoder_decoder else "CAUSAL_LM"
    config = PrefixTuningConfig(task_type=task, num_virtual_tokens=options.prefix_length)
    name_cache_as_before(base)
    return get_peft_model(base, config).to(options.device).eval()


def name_cache_as_before(base) -> None:
    """Since 5.24 `generate` of transformers hands its cache on as `cache`, and PEFT 0.21.2, which looks for `past_key_values`, would put
    its prefix there at every step, where the model ignores it."""
    prepare = base.prepare_inputs_for_generation

    def prepare_as_before(*args, **kwargs) -> dict:
        inputs = prepare(*args, **kwargs)
        if "cache" in inputs:
            inputs["past_key_values"] = inputs.pop("cache")
        return inputs

    base.prepare_inputs_for_generation = prepare_as_before


def add_prefixes(model: PeftModel, count: int) -> list[str]:
    """Names of `count` untrained prefixes, the model's own first. They live beside each other; `set_adapter` chooses the one that plays."""
    [first] = model.peft_config
    names = [first] + [f"prefix{i}" for i in range(1, count)]
    for name in names[1:]:
        model.add_adapter(name, model.peft_config[first])
    model.eval()
    return names


def about(options: argparse.Namespace) -> dict:
    return {
        "model": Path(options.model).resolve().name,
        "threads": options.threads,
        "attention": options.attention,
        "dtype": options.dtype,
        "prefixLength": options.prefix_length,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "peft": peft.__version__,
    }
