"""Makes prefix-tuning adapters of the tiny GPT-2 with PEFT, a checkpoint in the layout of the paper's code, and what they say.

Usage: python make.py                               (writes into the folder it lies in)
       python make.py --check FOLDER [--as NAME]    (PEFT loads FOLDER and must say what the adapter NAME says)

The model is ../gpt2/model, in float32. An adapter's tensor comes in several dtypes; PEFT widens it to the model's.
"""

import argparse
import json
import platform
import shutil
import sys
from pathlib import Path

import peft
import torch
import transformers
from peft import PeftModel, PrefixTuningConfig, get_peft_model
from safetensors.torch import save_file
from transformers import DynamicCache, GPT2LMHeadModel

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from golden_file import write_golden

MODEL = HERE.parent / "gpt2/model"
# Written into adapter_config.json as base_model_name_or_path.
BASE_NAME = "golden/tiny-gpt2"
LAYERS, WIDTH, HEADS, VOCABULARY = 2, 32, 4, 97
HEAD_DIM = WIDTH // HEADS
PREFIX_LENGTH = 5
MIDDLE = 16  # Hidden width of the paper's network, and of PEFT's projection.
STEPS = 6
PROMPT_LENGTHS = [6, 3, 1]
SEED = 2102
# Greedy ids must be the same in every arithmetic: no choice may be closer than this.
MARGIN_MIN = 0.01
ADAPTERS = {
    "float32": (torch.float32, False),
    "float16": (torch.float16, False),
    "bfloat16": (torch.bfloat16, False),
    "projection": (torch.float32, True),
}


def open_base() -> GPT2LMHeadModel:
    base = GPT2LMHeadModel.from_pretrained(MODEL, attn_implementation="eager").eval()
    base.name_or_path = BASE_NAME
    name_cache_as_before(base)
    return base


def name_cache_as_before(base: GPT2LMHeadModel) -> None:
    """Since 5.24 `generate` of transformers hands its cache on as `cache`. PEFT 0.21.2 looks for `past_key_values`, finds none at any
    step and puts its prefix there, which the model ignores beside `cache`: texts come without the prefix."""
    prepare = base.prepare_inputs_for_generation

    def prepare_as_before(*args, **kwargs) -> dict:
        inputs = prepare(*args, **kwargs)
        if "cache" in inputs:
            inputs["past_key_values"] = inputs.pop("cache")
        return inputs

    base.prepare_inputs_for_generation = prepare_as_before


def make_adapter(name: str, generator: torch.Generator) -> None:
    """Random keys and values with a deviation of 0.5: attention is not flat."""
    dtype, projection = ADAPTERS[name]
    config = PrefixTuningConfig(
        task_type="CAUSAL_LM", num_virtual_tokens=PREFIX_LENGTH,
        prefix_projection=projection, encoder_hidden_size=MIDDLE if projection else None,
    )
    model = get_peft_model(open_base(), config)
    encoder = model.prompt_encoder["default"]
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    encoder.to(dtype)
    shutil.rmtree(HERE / name, ignore_errors=True)
    model.save_pretrained(HERE / name)
    (HERE / name / "README.md").unlink()
    for file in (HERE / name).iterdir():
        file.chmod(0o644)


@torch.no_grad()
def says(logits_of, prompt: list[int]) -> dict:
    """`ids`: the greedy continuation; `logits` [STEPS, vocabulary]: what each was chosen from. No cache: every step reads all."""
    tokens, ids, logits = list(prompt), [], []
    for _ in range(STEPS):
        last = logits_of(torch.tensor([tokens]))
        best = torch.topk(last, 2)
        assert best.values[0] - best.values[1] > MARGIN_MIN, "too close to call: choose another seed"
        ids.append(int(best.indices[0]))
        tokens.append(ids[-1])
        logits.append(last)
    return {"prompt": prompt, "ids": ids, "logits": torch.stack(logits)}


def adapter_says(folder: Path, prompts: list[list[int]]) -> list[dict]:
    model = PeftModel.from_pretrained(open_base(), folder).eval()

    def logits_of(tokens: torch.Tensor) -> torch.Tensor:
        return model(input_ids=tokens, attention_mask=torch.ones_like(tokens)).logits[0, -1].float()

    cases = [says(logits_of, prompt) for prompt in prompts]
    for case in cases:
        tokens = torch.tensor([case["prompt"]])
        generated = model.generate(
            input_ids=tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=STEPS, min_new_tokens=STEPS,
            do_sample=False, pad_token_id=0, eos_token_id=VOCABULARY + 1,
        )
        # PEFT's own loop, with its cache, agrees with reading everything anew.
        assert generated[0, tokens.shape[1] :].tolist() == case["ids"], "generate says something else than forward"
    return cases


class PaperNetwork(torch.nn.Module):
    """The network of Li & Liang's GPT-2 code, by its names in the state dict."""

    def __init__(self) -> None:
        super().__init__()
        self.wte = torch.nn.Embedding(PREFIX_LENGTH, WIDTH)
        self.control_trans = torch.nn.Sequential(
            torch.nn.Linear(WIDTH, MIDDLE), torch.nn.Tanh(), torch.nn.Linear(MIDDLE, LAYERS * 2 * WIDTH)
        )

    def past(self) -> list[torch.Tensor]:
        """One tensor a layer, [key or value, batch, heads, P, headDim]."""
        output = self.control_trans(self.wte(torch.arange(PREFIX_LENGTH)[None]))
        return list(output.view(1, PREFIX_LENGTH, LAYERS * 2, HEADS, HEAD_DIM).permute(2, 0, 3, 1, 4).split(2))


def make_paper(generator: torch.Generator, prompts: list[list[int]]) -> dict:
    network = PaperNetwork()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator))
    (HERE / "paper").mkdir(exist_ok=True)
    save_file(network.state_dict(), HERE / "paper/model.safetensors", metadata={"format": "pt"})
    (HERE / "paper/model.safetensors").chmod(0o644)
    base = open_base()
    past = [layer.detach() for layer in network.past()]

    def logits_of(tokens: torch.Tensor) -> torch.Tensor:
        cache = DynamicCache()
        for layer, (key, value) in enumerate(past):
            cache.update(key, value, layer)
        # As the paper's code leaves it to GPT-2: text positions go on after the past.
        positions = PREFIX_LENGTH + torch.arange(tokens.shape[1])[None]
        return base(input_ids=tokens, position_ids=positions, past_key_values=cache, use_cache=True).logits[0, -1]

    exact = [layer.detach() for layer in network.double().past()]
    return {
        "keys": torch.stack([layer[0, 0] for layer in exact]),
        "values": torch.stack([layer[1, 0] for layer in exact]),
        "says": [says(logits_of, prompt) for prompt in prompts],
    }


def make() -> None:
    generator = torch.Generator().manual_seed(SEED)
    prompts = [torch.randint(1, VOCABULARY, (n,), generator=generator).tolist() for n in PROMPT_LENGTHS]
    for name in ADAPTERS:
        make_adapter(name, generator)
    golden = {
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__.split("+")[0],
            "transformers": transformers.__version__,
            "peft": peft.__version__,
        },
        "prefixLength": PREFIX_LENGTH,
        "adapters": {name: adapter_says(HERE / name, prompts) for name in ADAPTERS},
        "paper": make_paper(generator, prompts),
    }
    write_golden(HERE / "golden.json", golden)


def check(folder: Path, name: str) -> None:
    expected = json.loads((HERE / "golden.json").read_text())["adapters"][name]
    actual = adapter_says(folder, [case["prompt"] for case in expected])
    worst = 0.0
    for was, now in zip(expected, actual):
        logits = torch.tensor(was["logits"]["data"]).view(was["logits"]["shape"])
        worst = max(worst, float((now["logits"] - logits).abs().max()))
        if was["ids"] != now["ids"]:
            sys.exit(f"{folder}: after {was['prompt']} come {now['ids']}, expected {was['ids']}")
    print(f"{folder}: greedy ids equal for {len(expected)} prompts; logits differ by {worst:.1e} at most")
    if worst > 1e-5:
        sys.exit("that is more than 1e-5")


if __name__ == "__main__":
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", type=Path, metavar="FOLDER")
    parser.add_argument("--as", dest="name", default="float32", choices=list(ADAPTERS))
    options = parser.parse_args()
    if options.check:
        check(options.check, options.name)
    else:
        make()
