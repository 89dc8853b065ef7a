"""Measures a training step of PEFT's prefix-tuning, or of a prefix at all places of a BART: forward, backward and AdamW on one batch."""

import itertools
import json
import random
from pathlib import Path

import torch

from prefixed import put_prefixes
from rounds import about, open_base, open_model, parser
from turns import drive, summary


def padded(examples: list[dict], vocabulary: int) -> dict:
    """A batch as transformers' collator makes it: as long as its longest row, with no loss on prompt and padding."""
    width = max(len(example["tokens"]) for example in examples)
    tokens = torch.zeros(len(examples), width, dtype=torch.long)
    mask = torch.zeros_like(tokens)
    labels = torch.full_like(tokens, -100)
    for row, example in enumerate(examples):
        ids = torch.tensor(example["tokens"])
        assert int(ids.max()) < vocabulary, (int(ids.max()), vocabulary)
        tokens[row, : len(ids)] = ids
        mask[row, : len(ids)] = 1
        labels[row, example["promptLength"] : len(ids)] = ids[example["promptLength"] :]
    return {"input_ids": tokens, "attention_mask": mask, "labels": labels}


def batches_of(options, vocabulary: int):
    """Real batches in a shuffled order, pass after pass; without a file one made-up batch again and again."""
    if options.source_tokens > 0:
        shapes = {"input_ids": options.source_tokens, "labels": options.targets}
        batch = {name: torch.randint(vocabulary, (options.batch, length)) for name, length in shapes.items()}
        return itertools.repeat(batch | {"attention_mask": torch.ones_like(batch["input_ids"])})
    if options.examples is None:
        tokens = torch.randint(vocabulary, (options.batch, options.tokens))
        labels = tokens.clone()
        labels[:, : options.tokens - options.targets] = -100
        return itertools.repeat({"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": labels})
    examples = json.loads(Path(options.examples).read_text())
    random.Random(options.seed).shuffle(examples)
    starts = range(0, len(examples), options.batch)
    return itertools.cycle([padded(examples[start : start + options.batch], vocabulary) for start in starts])


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--examples", help="a JSON list of {tokens, promptLength}: real batches, one a run")
    options.add_argument("--batch", type=int, default=10)
    options.add_argument("--tokens", type=int, default=64, help="of one row")
    options.add_argument("--targets", type=int, default=32, help="tokens at the end of a row that have a loss")
    options.add_argument("--source-tokens", type=int, default=0, help="that an encoder reads of one row; the decoder reads the targets")
    options.add_argument("--places", default="peft", choices=["peft", "all"], help="of a BART: PEFT's one, or all three, without PEFT")
    options = options.parse_args()
    if options.places == "all":
        model = open_base(options)
        trained = put_prefixes(model, options.prefix_length)
    else:
        model = open_model(options)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, weight_decay=0.0)
    batches = batches_of(options, model.config.vocab_size)
    losses = []

    def step() -> None:
        optimizer.zero_grad()
        loss = model(**next(batches)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        losses.append(loss.item())

    def report(times: list[float]) -> dict:
        return {
            "stepMs": summary(times), "stepsMs": times, "steps": len(times), "loss": losses[-1],
            "batch": options.batch, "sourceTokens": options.source_tokens, "tokens": options.tokens, "targets": options.targets, "trained": sum(p.numel() for p in trained),
        }

    drive(options, step, report, about(options))


if __name__ == "__main__":
    main()
