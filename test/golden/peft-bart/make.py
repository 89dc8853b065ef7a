"""Makes a prefix-tuning adapter of the tiny BART with PEFT, and what it says.

Usage: python make.py                    (writes into the folder it lies in)
       python make.py --check FOLDER     (PEFT loads FOLDER and must say what the adapter says)

The model is ../bart/model, in float32: 3 encoder layers and 2 decoder layers.
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
from transformers import BartForConditionalGeneration

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from golden_file import write_golden

MODEL = HERE.parent / "bart/model"
# Written into adapter_config.json as base_model_name_or_path.
BASE_NAME = "golden/tiny-bart"
PREFIX_LENGTH, STEPS, VOCABULARY, START = 5, 7, 97, 2
SOURCES = [[0, 40, 72, 66, 88, 59, 2], [0, 25, 6, 2], [0, 31, 9, 9, 83, 12, 50, 44, 71, 2]]
SEED = 2121
# Greedy ids must be the same in every arithmetic: no choice may be closer than this.
MARGIN_MIN = 0.01


def open_base() -> BartForConditionalGeneration:
    base = BartForConditionalGeneration.from_pretrained(MODEL, attn_implementation="eager").eval()
    base.name_or_path = BASE_NAME
    return base


def make_adapter() -> None:
    config = PrefixTuningConfig(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=PREFIX_LENGTH)
    model = get_peft_model(open_base(), config)
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for parameter in model.prompt_encoder["default"].parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    shutil.rmtree(HERE / "adapter", ignore_errors=True)
    model.save_pretrained(HERE / "adapter")
    (HERE / "adapter/README.md").unlink()
    for file in (HERE / "adapter").iterdir():
        file.chmod(0o644)


@torch.no_grad()
def adapter_says(folder: Path) -> list[dict]:
    """`ids`: what is said after the start token, the end forbidden; `logits`: what each was chosen from. No cache."""
    model = PeftModel.from_pretrained(open_base(), folder).eval()
    cases = []
    for source in SOURCES:
        tokens, ids, logits = torch.tensor([source]), [], []
        for _ in range(STEPS):
            decoder = torch.tensor([[START, *ids]])
            last = model(
                input_ids=tokens, attention_mask=torch.ones_like(tokens),
                decoder_input_ids=decoder, decoder_attention_mask=torch.ones_like(decoder),
            ).logits[0, -1].float()
            best = torch.topk(last, 2)
            assert best.values[0] - best.values[1] > MARGIN_MIN, "too close to call: choose another seed"
            ids.append(int(best.indices[0]))
            logits.append(last)
        cases.append({"source": source, "ids": ids, "logits": torch.stack(logits)})
    return cases


def check(folder: Path) -> None:
    expected = json.loads((HERE / "golden.json").read_text())["says"]
    worst = 0.0
    for was, now in zip(expected, adapter_says(folder), strict=True):
        logits = torch.tensor(was["logits"]["data"]).view(was["logits"]["shape"])
        worst = max(worst, float((now["logits"] - logits).abs().max()))
        if was["ids"] != now["ids"]:
            sys.exit(f"{folder}: after {was['source']} come {now['ids']}, expected {was['ids']}")
    print(f"{folder}: greedy ids equal for {len(expected)} sources; logits differ by {worst:.1e} at most")
    if worst > 1e-5:
        sys.exit("that is more than 1e-5")


def make() -> None:
    make_adapter()
    golden = {
        "versions": {
            "python": platform.python_version(), "torch": torch.__version__.split("+")[0],
            "transformers": transformers.__version__, "peft": peft.__version__,
        },
        "prefixLength": PREFIX_LENGTH,
        "says": adapter_says(HERE / "adapter"),
    }
    write_golden(HERE / "golden.json", golden)


if __name__ == "__main__":
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    if options.check:
        check(options.check)
    else:
        make()
