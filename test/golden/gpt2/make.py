"""Makes a tiny GPT-2 and what PyTorch computes with it: logits, losses, prefix gradients, decoding and training.

Usage: python make.py          (writes into the folder it lies in)

Weights and inputs are float32 numbers; everything expected is computed from them in float64. A second pass in float32
says how far PyTorch itself is off in that precision (`float32Differs` in golden.json).
"""

import json
import platform
import shutil
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from transformers import (
    DynamicCache, GPT2Config, GPT2LMHeadModel,
    get_constant_schedule_with_warmup, get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup,
)

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from golden_file import differs, write_golden

LAYERS, WIDTH, HEADS, POSITIONS, VOCABULARY = 2, 32, 4, 64, 97
HEAD_DIM = WIDTH // HEADS
PREFIX_LENGTH = 5
MIDDLE = 16  # Hidden width of the reparametrization.
STEPS = 10
LEARNING_RATE = 1e-2
DECODE_STEPS = 6
SMOOTHING = 0.1
WARMUP_STEPS = 3
WEIGHT_DECAY = 0.1
CLIP_NORM = 0.5
# Rows of the batches whose gradients make one step.
ACCUMULATED = [[0, 1], [2]]
SEED = 20213
# Tokens of a row in all, and how many of them are the prompt: the rest are targets.
ROWS = [(11, 6), (9, 5), (7, 3)]
# A wide margin between the best and the second best logit makes greedy ids the same in every precision.
MARGIN_MIN = 0.02


def make_model(generator: torch.Generator) -> GPT2LMHeadModel:
    config = GPT2Config(
        vocab_size=VOCABULARY, n_positions=POSITIONS, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS,
        activation_function="gelu_new", resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        bos_token_id=0, eos_token_id=0, attn_implementation="eager",
    )
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if ".ln_" in name and name.endswith("weight"):
                parameter.copy_(1 + 0.1 * noise)
            elif name.endswith("bias"):
                parameter.copy_(0.1 * noise)
            else:
                # Wider than GPT-2's 0.02, or logits and attention would be flat and hide mistakes.
                parameter.copy_((0.2 if "wte" not in name else 0.3) * noise)
    return model


def save_model(model: GPT2LMHeadModel) -> None:
    """float32 in one file, and as two shards whose names lack `transformer.`, as OpenAI's own files do."""
    for name in ["model", "model-float16", "model-bfloat16", "model-shards"]:
        shutil.rmtree(HERE / name, ignore_errors=True)
    model.save_pretrained(HERE / "model")
    model.transformer.save_pretrained(HERE / "model-shards", max_shard_size="75KB")
    for dtype in (torch.float16, torch.bfloat16):
        folder = HERE / f"model-{str(dtype).removeprefix('torch.')}"
        folder.mkdir()
        config = json.loads((HERE / "model/config.json").read_text()) | {"dtype": str(dtype).removeprefix("torch.")}
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        state = {n: p.detach().to(dtype).contiguous() for n, p in model.named_parameters()}
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    for leftover in HERE.glob("model*/generation_config.json"):
        leftover.unlink()
    for file in HERE.glob("model*/*"):
        file.chmod(0o644)


def rounded(model: GPT2LMHeadModel, dtype: torch.dtype) -> GPT2LMHeadModel:
    """The model with its weights rounded to `dtype`, computing in float64."""
    other = GPT2LMHeadModel(model.config).eval()
    other.load_state_dict({n: t.to(dtype).to(torch.float32) for n, t in model.state_dict().items()})
    return other.double()


def cache_of(keys: torch.Tensor, values: torch.Tensor, batch: int) -> DynamicCache:
    """keys, values [layers, heads, P, headDim], one for all rows of the batch."""
    cache = DynamicCache()
    for layer in range(LAYERS):
        cache.update(keys[layer].expand(batch, -1, -1, -1), values[layer].expand(batch, -1, -1, -1), layer)
    return cache


class Batch:
    """Three rows of different lengths, padded at the end; their last tokens are targets."""

    def __init__(self, generator: torch.Generator) -> None:
        self.width = max(length for length, _ in ROWS)
        self.tokens = torch.zeros(len(ROWS), self.width, dtype=torch.long)
        self.positions = torch.zeros_like(self.tokens)
        self.rows, self.labels, self.row_of_target = [], [], []
        for b, (length, prompt) in enumerate(ROWS):
            self.tokens[b, :length] = torch.randint(1, VOCABULARY, (length,), generator=generator)
            # A padded position repeats the last one: it must exist, and nobody sees it.
            self.positions[b] = PREFIX_LENGTH + torch.arange(self.width).clamp(max=length - 1)
            for t in range(prompt, length):
                self.rows.append(b * self.width + t - 1)
                self.labels.append(int(self.tokens[b, t]))
                self.row_of_target.append(b)

    def logits(self, model: GPT2LMHeadModel, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """At the target rows, [R, vocabulary]."""
        batch, width = self.tokens.shape
        output = model(
            input_ids=self.tokens, position_ids=self.positions,
            attention_mask=torch.ones(batch, PREFIX_LENGTH + width, dtype=torch.long),
            past_key_values=cache_of(keys, values, batch), use_cache=True,
        )
        return output.logits.flatten(0, 1)[self.rows]

    def smoothed(self, model, keys, values) -> dict[str, torch.Tensor]:
        logits, labels = self.logits(model, keys, values), torch.tensor(self.labels)
        tokens = torch.nn.functional.cross_entropy(logits, labels, reduction="none", label_smoothing=SMOOTHING)
        return {"tokens": tokens, "sum": tokens.sum() / len(ROWS)}

    def embedding_loss(self, model, inputs: torch.Tensor) -> torch.Tensor:
        """`sum` with input embeddings [P, width] before the text, all in one pass."""
        batch, width = self.tokens.shape
        embeddings = torch.cat([inputs.expand(batch, -1, -1), model.transformer.wte(self.tokens)], dim=1)
        before = torch.arange(PREFIX_LENGTH).expand(batch, -1)
        output = model(inputs_embeds=embeddings, position_ids=torch.cat([before, self.positions], dim=1))
        logits = output.logits[:, PREFIX_LENGTH:].flatten(0, 1)[self.rows]
        return torch.nn.functional.cross_entropy(logits, torch.tensor(self.labels), reduction="sum") / len(ROWS)

    def infix(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Positions [B, T], and [B, T]: how many of the P past positions each one sees."""
        start = torch.tensor([prompt - 1 for _, prompt in ROWS])[:, None]
        seen = PREFIX_LENGTH * (torch.arange(self.width) >= start)
        return self.positions - PREFIX_LENGTH + seen, seen

    def infix_losses(self, model, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """Of each target, where the last token of the prompt is the first to see the past."""
        (batch, width), (positions, seen) = self.tokens.shape, self.infix()
        past = torch.arange(PREFIX_LENGTH) < seen[:, :, None]
        causal = torch.tril(torch.ones(width, width, dtype=torch.bool)).expand(batch, -1, -1)
        mask = torch.zeros(batch, 1, width, PREFIX_LENGTH + width, dtype=keys.dtype)
        mask.masked_fill_(~torch.cat([past, causal], dim=2)[:, None], torch.finfo(keys.dtype).min)
        output = model(
            input_ids=self.tokens, position_ids=positions, attention_mask=mask,
            past_key_values=cache_of(keys, values, batch), use_cache=True,
        )
        logits = output.logits.flatten(0, 1)[self.rows]
        return torch.nn.functional.cross_entropy(logits, torch.tensor(self.labels), reduction="none")

    def losses(self, model, keys, values) -> dict[str, torch.Tensor]:
        """`tokens` [R]; `sum`: over a row's targets, mean over rows; `mean`: over all targets."""
        logits = self.logits(model, keys, values)
        tokens = torch.nn.functional.cross_entropy(logits, torch.tensor(self.labels), reduction="none")
        return {"tokens": tokens, "sum": tokens.sum() / len(ROWS), "mean": tokens.mean(), "logits": logits}


def fold(p: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Column ((2·layer + s)·heads + head)·headDim + i of the output, s = 0 key, 1 value → [layers, heads, P, headDim]."""
    hidden = torch.tanh(p["embedding"] @ p["hidden.weight"] + p["hidden.bias"])
    output = hidden @ p["output.weight"] + p["output.bias"]
    apart = output.reshape(PREFIX_LENGTH, LAYERS, 2, HEADS, HEAD_DIM).permute(2, 1, 3, 0, 4)
    return apart[0], apart[1]


def gradients(loss_of, parameters: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    leaves = {name: value.clone().requires_grad_() for name, value in parameters.items()}
    return dict(zip(leaves, torch.autograd.grad(loss_of(leaves), list(leaves.values()))))


def train(loss_of, parameters: dict[str, torch.Tensor]) -> dict:
    """Loss and gradient norm (before clipping) of every step, each taken before its update; and the final parameters."""
    leaves = {name: value.clone().requires_grad_() for name, value in parameters.items()}
    optimizer = torch.optim.AdamW(leaves.values(), lr=LEARNING_RATE, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
    losses, norms = [], []
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * (1 - step / STEPS)
        optimizer.zero_grad()
        loss = loss_of(leaves)
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(leaves.values(), 1.0)))
        losses.append(loss.item())
        optimizer.step()
    return {"losses": losses, "norms": norms, "final": {name: leaf.detach() for name, leaf in leaves.items()}}


def schedule(name: str, optimizer: torch.optim.Optimizer):
    if name == "constant":
        return get_constant_schedule_with_warmup(optimizer, WARMUP_STEPS)
    make = {"linear": get_linear_schedule_with_warmup, "cosine": get_cosine_schedule_with_warmup}[name]
    return make(optimizer, WARMUP_STEPS, STEPS)


def rates(name: str) -> list[float]:
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=LEARNING_RATE)
    scheduler, seen = schedule(name, optimizer), []
    for _ in range(STEPS):
        seen.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return seen


def train_accumulated(model, batch: Batch, parameters: dict[str, torch.Tensor]) -> dict:
    """Each step sums the gradients of two batches, whose tokens count as in one batch of the mean loss; cosine, weight decay."""
    leaves = {name: value.clone().requires_grad_() for name, value in parameters.items()}
    optimizer = torch.optim.AdamW(leaves.values(), lr=LEARNING_RATE, betas=(0.9, 0.999), eps=1e-8, weight_decay=WEIGHT_DECAY)
    scheduler, losses, norms = schedule("cosine", optimizer), [], []
    row_of_target = torch.tensor(batch.row_of_target)
    for _ in range(STEPS):
        optimizer.zero_grad()
        losses.append(0.0)
        for rows in ACCUMULATED:
            tokens = batch.losses(model, **leaves)["tokens"]
            loss = tokens[torch.isin(row_of_target, torch.tensor(rows))].sum() / len(tokens)
            loss.backward()
            losses[-1] += loss.item()
        norms.append(float(torch.nn.utils.clip_grad_norm_(leaves.values(), CLIP_NORM)))
        optimizer.step()
        scheduler.step()
    return {"losses": losses, "norms": norms, "final": {name: leaf.detach() for name, leaf in leaves.items()}}


def compute_options(model: GPT2LMHeadModel, batch: Batch, prefix: dict, inputs: torch.Tensor) -> dict:
    """What the options of a training come to, in the precision of the model and the parameters."""
    folded = model(inputs_embeds=inputs[None], position_ids=torch.arange(PREFIX_LENGTH)[None], use_cache=True).past_key_values
    smoothed = lambda p: batch.smoothed(model, **p)["sum"]
    infix = lambda p: batch.infix_losses(model, **p).sum() / len(ROWS)
    return {
        "smoothing": {
            "tokenLosses": batch.smoothed(model, **prefix)["tokens"].detach(),
            "gradients": gradients(smoothed, prefix),
        },
        "accumulated": train_accumulated(model, batch, prefix),
        "embedding": {
            "keys": torch.stack([layer.keys[0] for layer in folded.layers]).detach(),
            "values": torch.stack([layer.values[0] for layer in folded.layers]).detach(),
            "loss": batch.embedding_loss(model, inputs).item(),
            "gradients": gradients(lambda p: batch.embedding_loss(model, p["inputs"]), {"inputs": inputs}),
        },
        "infix": {"tokenLosses": batch.infix_losses(model, **prefix).detach(), "gradients": gradients(infix, prefix)},
    }


@torch.no_grad()
def decode(model: GPT2LMHeadModel, prompt: list[int], prefix: tuple[torch.Tensor, torch.Tensor] | None) -> dict:
    """Prefill, then DECODE_STEPS steps of one token each; `logits` [1 + DECODE_STEPS, vocabulary], `ids` their argmax."""
    cache = cache_of(*prefix, 1) if prefix else DynamicCache()
    new, position, ids, logits = list(prompt), cache.get_seq_length(), [], []
    for _ in range(1 + DECODE_STEPS):
        output = model(
            input_ids=torch.tensor([new]), position_ids=torch.arange(position, position + len(new))[None],
            past_key_values=cache, use_cache=True,
        )
        position += len(new)
        best = torch.topk(output.logits[0, -1], 2)
        assert best.values[0] - best.values[1] > MARGIN_MIN, "too close to call: choose another seed"
        new = [int(best.indices[0])]
        ids += new
        logits.append(output.logits[0, -1])
    return {"prompt": prompt, "ids": ids, "logits": torch.stack(logits)}


def compute(model: GPT2LMHeadModel, batch: Batch, prefix: dict, network: dict, prompts: list) -> dict:
    """Everything expected, in the precision of the model and the parameters."""
    direct = lambda kind: lambda p: batch.losses(model, p["keys"], p["values"])[kind]
    folded = lambda kind: lambda p: batch.losses(model, *fold(p))[kind]
    losses = {name: value.detach() for name, value in batch.losses(model, **prefix).items()}
    keys, values = fold(network)
    training = train(folded("mean"), network)
    final_keys, final_values = fold(training.pop("final"))
    return {
        "logits": losses["logits"],
        "tokenLosses": losses["tokens"],
        "loss": {"sum": losses["sum"].item(), "mean": losses["mean"].item()},
        "gradients": {kind: gradients(direct(kind), prefix) for kind in ("sum", "mean")},
        "reparametrized": {
            "keys": keys,
            "values": values,
            "loss": folded("sum")(network).item(),
            "gradients": gradients(folded("sum"), network),
            "training": training | {"keys": final_keys, "values": final_values},
        },
        "training": train(direct("mean"), prefix),
        "decode": {
            "prefix": [decode(model, prompt, tuple(prefix.values())) for prompt in prompts],
            "bare": [decode(model, prompt, None) for prompt in prompts],
        },
    }


def main() -> None:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    generator = torch.Generator().manual_seed(SEED)
    model = make_model(generator)
    save_model(model)

    def normal(*shape: int, scale: float) -> torch.Tensor:
        return scale * torch.randn(shape, generator=generator)

    columns = 2 * LAYERS * WIDTH
    prefix = {name: normal(LAYERS, HEADS, PREFIX_LENGTH, HEAD_DIM, scale=0.5) for name in ("keys", "values")}
    network = {
        "embedding": normal(PREFIX_LENGTH, WIDTH, scale=1.0),
        "hidden.weight": normal(WIDTH, MIDDLE, scale=0.2),
        "hidden.bias": normal(MIDDLE, scale=0.1),
        "output.weight": normal(MIDDLE, columns, scale=0.2),
        "output.bias": normal(columns, scale=0.1),
    }
    batch = Batch(generator)
    inputs = normal(PREFIX_LENGTH, WIDTH, scale=0.5)
    prompts = [batch.tokens[b, :prompt].tolist() for b, (_, prompt) in enumerate(ROWS)]

    double = {name: value.double() for name, value in prefix.items()}
    double_network = {name: value.double() for name, value in network.items()}
    single = compute(model, batch, prefix, network, prompts)
    expected = compute(rounded(model, torch.float32), batch, double, double_network, prompts)
    single_options = compute_options(model, batch, prefix, inputs)
    options = compute_options(rounded(model, torch.float32), batch, double, inputs.double())
    infix_positions, infix_seen = batch.infix()
    golden = {
        "versions": {"python": platform.python_version(), "torch": torch.__version__.split("+")[0], "transformers": transformers.__version__},
        "prefixLength": PREFIX_LENGTH,
        "middle": MIDDLE,
        "optimizer": {"steps": STEPS, "learningRate": LEARNING_RATE, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "weightDecay": 0, "clipNorm": 1},
        "batch": {
            "lengths": [length for length, _ in ROWS],
            "promptLengths": [prompt for _, prompt in ROWS],
            "tokens": batch.tokens,
            "positions": batch.positions,
            "rows": batch.rows,
            "labels": batch.labels,
            "rowOfTarget": batch.row_of_target,
        },
        "prefix": prefix,
        "network": network,
        "expected": expected,
        "roundedLogits": {
            str(dtype).removeprefix("torch."): batch.logits(rounded(model, dtype), **double) for dtype in (torch.float16, torch.bfloat16)
        },
        "float32Differs": differs(single, expected),
        "options": {
            "smoothing": SMOOTHING,
            "warmupSteps": WARMUP_STEPS,
            "weightDecay": WEIGHT_DECAY,
            "clipNorm": CLIP_NORM,
            "accumulated": ACCUMULATED,
            "inputs": inputs,
            "infix": {"positions": infix_positions, "pastLengths": infix_seen},
            "rates": {name: rates(name) for name in ("linear", "cosine", "constant")},
            "expected": options,
            "float32Differs": differs(single_options, options),
        },
    }
    write_golden(HERE / "golden.json", golden)
    print(json.dumps(golden["float32Differs"], indent=1))
    print(json.dumps(golden["options"]["float32Differs"], indent=1))
    print("gradient norms", expected["training"]["norms"], expected["reparametrized"]["training"]["norms"])
    print("losses", expected["training"]["losses"], expected["reparametrized"]["training"]["losses"])
    print("logits deviation", float(expected["logits"].std()), "token losses", expected["tokenLosses"].tolist())


if __name__ == "__main__":
    main()
