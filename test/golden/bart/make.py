"""Makes a tiny BART and what PyTorch computes with it: logits, losses, gradients of three prefixes, trainings, generation.

Usage: python make.py          (writes into the folder it lies in)
"""

import json
import platform
import shutil
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AttentionInterface, BartConfig, BartForConditionalGeneration
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, eager_mask
from transformers.models.bart.modeling_bart import BartAttention, eager_attention_forward

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from golden_file import differs, write_golden

ENCODER_LAYERS, DECODER_LAYERS, WIDTH, HEADS, POSITIONS, VOCABULARY = 3, 2, 32, 4, 64, 97
HEAD_DIM = WIDTH // HEADS
BEGIN, PAD, END = 0, 1, 2
PREFIX_LENGTH, MIDDLE = 5, 16
STEPS, LEARNING_RATE = 10, 0.02
SEED = 19104
# Tokens between begin and end: of a source, and of its target.
ROWS = [(9, 6), (6, 4), (3, 2)]
# Where a prefix is put in, in the order of its layers.
PLACES = {"decoder_self": DECODER_LAYERS, "cross": DECODER_LAYERS, "encoder_self": ENCODER_LAYERS}
LAYERS = sum(PLACES.values())


def prefixed(module: BartAttention, query, key, value, attention_mask, **options):
    """Attention over keys and values that stand before all others, visible to every query; positions are not shifted."""
    before = getattr(module, "prefix", None)
    if before is not None:
        keys, values = (each.expand(query.shape[0], -1, -1, -1) for each in before)
        key, value = torch.cat([keys, key], dim=2), torch.cat([values, value], dim=2)
        if attention_mask is not None:
            visible = attention_mask.new_zeros(*attention_mask.shape[:3], keys.shape[2])
            attention_mask = torch.cat([visible, attention_mask], dim=3)
    return eager_attention_forward(module, query, key, value, attention_mask, **options)


AttentionInterface.register("prefixed", prefixed)
ALL_MASK_ATTENTION_FUNCTIONS.register("prefixed", eager_mask)


def attentions(model) -> list[BartAttention]:
    """In the order of PLACES."""
    encoder, decoder = model.model.encoder.layers, model.model.decoder.layers
    return [l.self_attn for l in decoder] + [l.encoder_attn for l in decoder] + [l.self_attn for l in encoder]


def put_in(model, prefix: dict[str, torch.Tensor] | None, places: list[str] = list(PLACES)) -> None:
    """keys and values [layers of `places` together, heads, P, headDim]; elsewhere there is no prefix."""
    for attention in attentions(model):
        attention.prefix = None
    if prefix is None:
        return
    wanted = [name in places for name, layers in PLACES.items() for _ in range(layers)]
    layer = 0
    for attention, wants in zip(attentions(model), wanted, strict=True):
        attention.prefix = (prefix["keys"][layer], prefix["values"][layer]) if wants else None
        layer += wants


def make_model(generator: torch.Generator, **changes) -> BartForConditionalGeneration:
    settings = dict(
        vocab_size=VOCABULARY, max_position_embeddings=POSITIONS, d_model=WIDTH,
        encoder_layers=ENCODER_LAYERS, decoder_layers=DECODER_LAYERS, encoder_ffn_dim=48, decoder_ffn_dim=40,
        encoder_attention_heads=HEADS, decoder_attention_heads=HEADS, activation_function="gelu",
        dropout=0.0, attention_dropout=0.0, activation_dropout=0.0,
        bos_token_id=BEGIN, pad_token_id=PAD, eos_token_id=END, decoder_start_token_id=END,
        forced_bos_token_id=BEGIN, forced_eos_token_id=END,
    )
    model = BartForConditionalGeneration(BartConfig(**{**settings, **changes})).eval()
    with torch.no_grad():
        for name, parameter in [*model.named_parameters(), ("final_logits_bias", model.final_logits_bias)]:
            noise = torch.randn(parameter.shape, generator=generator)
            if "norm" in name and name.endswith("weight"):
                parameter.copy_(1 + 0.1 * noise)
            elif name.endswith("bias"):
                parameter.copy_(0.1 * noise)
            else:
                # Wider than BART's 0.02, or logits and attention would be flat and hide mistakes.
                parameter.copy_(0.3 * noise)
        # Or few texts would end before they must.
        model.final_logits_bias[0, END] += 3.5
    model.set_attn_implementation("prefixed")
    model.generation_config.forced_bos_token_id = BEGIN
    return model


def save_model(model: BartForConditionalGeneration, name: str, dtype=torch.float32, renamed: dict[str, str | None] = {}) -> None:
    """`renamed` to None: left out."""
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    model.set_attn_implementation("eager")
    model.save_pretrained(folder)
    model.set_attn_implementation("prefixed")
    stored = {renamed.get(n, n): t.to(dtype) for n, t in load_file(folder / "model.safetensors").items()}
    tensors = {n: t for n, t in stored.items() if n is not None}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    for file in folder.iterdir():
        file.chmod(0o644)


def rounded(model, dtype: torch.dtype) -> BartForConditionalGeneration:
    """The model with its weights rounded to `dtype`, computing in float64."""
    other = BartForConditionalGeneration(model.config).eval()
    other.load_state_dict({n: t.to(dtype).to(torch.float32) for n, t in model.state_dict().items()})
    other.set_attn_implementation("prefixed")
    return other.double()


class Batch:
    """Three sources and targets of different lengths, padded at the end."""

    def __init__(self, generator: torch.Generator) -> None:
        draw = lambda count: torch.randint(3, VOCABULARY, (count,), generator=generator).tolist()
        self.sources = [[BEGIN, *draw(source), END] for source, _ in ROWS]
        self.targets = [[BEGIN, *draw(target), END] for _, target in ROWS]
        pad = lambda rows: torch.tensor([row + [PAD] * (max(map(len, rows)) - len(row)) for row in rows])
        self.source = pad(self.sources)
        self.mask = (torch.arange(self.source.shape[1]) < torch.tensor([[len(row)] for row in self.sources])).long()
        self.tokens = pad([[END, *row[:-1]] for row in self.targets])
        width = self.tokens.shape[1]
        self.rows = [b * width + t for b, row in enumerate(self.targets) for t in range(len(row))]
        self.labels = [token for row in self.targets for token in row]

    def logits(self, model) -> torch.Tensor:
        """At the target rows, [R, vocabulary]."""
        output = model(input_ids=self.source, attention_mask=self.mask, decoder_input_ids=self.tokens, use_cache=False)
        return output.logits.flatten(0, 1)[self.rows]

    def losses(self, model, prefix, places=list(PLACES)) -> dict[str, torch.Tensor]:
        """`tokens` [R]; `sum`: over a row's targets, mean over rows; `mean`: over all targets."""
        put_in(model, prefix, places)
        logits = self.logits(model)
        tokens = torch.nn.functional.cross_entropy(logits, torch.tensor(self.labels), reduction="none")
        return {"logits": logits, "tokens": tokens, "sum": tokens.sum() / len(ROWS), "mean": tokens.mean()}

    @torch.no_grad()
    def cross(self, model, prefix) -> torch.Tensor:
        """What cross-attention sees of the first source: keys and values by layer, [2·layers, S, width]."""
        put_in(model, prefix)
        source = torch.tensor([self.sources[0]])
        hidden = model.model.encoder(input_ids=source).last_hidden_state[0]
        layers = [layer.encoder_attn for layer in model.model.decoder.layers]
        return torch.stack([part(hidden) for layer in layers for part in (layer.k_proj, layer.v_proj)])


def fold(p: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Column ((2·layer + s)·heads + head)·headDim + i of each place's output, s = 0 key, 1 value → [layers, heads, P, headDim]."""
    parts = []
    for place, layers in PLACES.items():
        name = "" if place == "decoder_self" else f"{place}."
        hidden = torch.tanh(p[f"{name}embedding"] @ p[f"{name}hidden.weight"] + p[f"{name}hidden.bias"])
        output = hidden @ p[f"{name}output.weight"] + p[f"{name}output.bias"]
        parts.append(output.reshape(PREFIX_LENGTH, layers, 2, HEADS, HEAD_DIM).permute(2, 1, 3, 0, 4))
    keys, values = torch.cat(parts, dim=1)
    return {"keys": keys, "values": values}


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


def of_places(prefix: dict[str, torch.Tensor], places: list[str]) -> dict[str, torch.Tensor]:
    """The layers of some places alone."""
    wanted = [name in places for name, layers in PLACES.items() for _ in range(layers)]
    return {name: value[wanted] for name, value in prefix.items()}


SUBSETS = [["cross"], ["encoder_self"], ["decoder_self"], ["decoder_self", "encoder_self"]]


def compute(model, batch: Batch, prefix: dict, network: dict) -> dict:
    """Everything expected, in the precision of the model and the parameters."""
    direct = lambda kind, places=list(PLACES): lambda p: batch.losses(model, p, places)[kind]
    folded = lambda kind: lambda p: batch.losses(model, fold(p))[kind]
    losses = {name: value.detach() for name, value in batch.losses(model, prefix).items()}
    training = train(folded("mean"), network)
    training.pop("final")
    bare = batch.losses(model, None)
    return {
        "logits": losses["logits"],
        "bareLogits": bare["logits"].detach(),
        "cross": batch.cross(model, prefix),
        "tokenLosses": losses["tokens"],
        "gradients": {kind: gradients(direct(kind), prefix) for kind in ("sum", "mean")},
        "subsets": [
            {
                "places": places,
                "tokenLosses": batch.losses(model, of_places(prefix, places), places)["tokens"].detach(),
                "gradients": gradients(direct("sum", places), of_places(prefix, places)),
            }
            for places in SUBSETS
        ],
        "reparametrized": {**fold(network), "gradients": gradients(folded("sum"), network), "training": training},
        "training": train(direct("mean"), prefix),
    }


GENERATIONS = [
    {"strategy": "greedy"},
    {"strategy": "greedy", "noRepeatNgramSize": 2, "minNewTokens": 9},
    {"strategy": "beam", "beams": 4},
    {"strategy": "beam", "beams": 6, "lengthPenalty": 0.8, "noRepeatNgramSize": 3, "minNewTokens": 11, "earlyStopping": True},
    {"strategy": "beam", "beams": 3, "lengthPenalty": 2.0, "earlyStopping": "never", "repetitionPenalty": 1.4},
]
NEW_TOKENS = 14


@torch.no_grad()
def generate(model, source: list[int], decoding: dict) -> list[list[int]]:
    """What is said after the decoder's start token, the best first, up to and with the end."""
    beams = decoding.get("beams", 1)
    options = dict(
        num_beams=beams, num_return_sequences=beams, do_sample=False, max_new_tokens=NEW_TOKENS,
        min_new_tokens=decoding.get("minNewTokens", 0), no_repeat_ngram_size=decoding.get("noRepeatNgramSize", 0),
        repetition_penalty=decoding.get("repetitionPenalty", 1.0),
    )
    if beams > 1:
        options |= dict(length_penalty=decoding.get("lengthPenalty", 1.0), early_stopping=decoding.get("earlyStopping", False))
    output = model.generate(input_ids=torch.tensor([source]), attention_mask=torch.ones(1, len(source), dtype=torch.long), **options)
    texts = []
    for row in output.tolist():
        said = row[1:]
        end = next((i for i, token in enumerate(said) if token == END), len(said) - 1)
        texts.append(said[: end + 1])
    return texts


def generations(model, batch: Batch, prefix: dict) -> list[dict]:
    cases = []
    for forced in (True, False):
        model.generation_config.forced_bos_token_id = BEGIN if forced else None
        model.generation_config.forced_eos_token_id = END if forced else None
        for decoding in GENERATIONS:
            rows = []
            for with_prefix in (True, False):
                put_in(model, prefix if with_prefix else None)
                rows += [{"prefix": with_prefix, "source": source, "tokens": generate(model, source, decoding)} for source in batch.sources]
            cases.append({"forced": forced, "decoding": decoding, "maxNewTokens": NEW_TOKENS, "rows": rows})
    return cases


def main() -> None:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    generator = torch.Generator().manual_seed(SEED)
    model = make_model(generator)
    save_model(model, "model")
    # What the first does not show: embeddings that are scaled, the other gelu, no bias of the logits, half precision,
    # and the embedding under another of its names.
    other = make_model(generator, encoder_layers=1, decoder_layers=2, scale_embedding=True, activation_function="gelu_new")
    other.final_logits_bias.zero_()
    save_model(other, "model-other", torch.float16, {"final_logits_bias": None, "model.shared.weight": "lm_head.weight"})

    def normal(*shape: int, scale: float) -> torch.Tensor:
        return scale * torch.randn(shape, generator=generator)

    prefix = {name: normal(LAYERS, HEADS, PREFIX_LENGTH, HEAD_DIM, scale=0.5) for name in ("keys", "values")}
    network = {}
    for place, layers in PLACES.items():
        name, columns = "" if place == "decoder_self" else f"{place}.", 2 * layers * WIDTH
        network |= {
            f"{name}embedding": normal(PREFIX_LENGTH, WIDTH, scale=1.0),
            f"{name}hidden.weight": normal(WIDTH, MIDDLE, scale=0.2),
            f"{name}hidden.bias": normal(MIDDLE, scale=0.1),
            f"{name}output.weight": normal(MIDDLE, columns, scale=0.2),
            f"{name}output.bias": normal(columns, scale=0.1),
        }
    batch = Batch(generator)

    double = {name: value.double() for name, value in prefix.items()}
    double_network = {name: value.double() for name, value in network.items()}
    single = compute(model, batch, prefix, network)
    exact = rounded(model, torch.float32)
    expected = compute(exact, batch, double, double_network)
    other_half = rounded(other, torch.float16)
    golden = {
        "versions": {"python": platform.python_version(), "torch": torch.__version__.split("+")[0], "transformers": transformers.__version__},
        "prefixLength": PREFIX_LENGTH,
        "middle": MIDDLE,
        "optimizer": {"steps": STEPS, "learningRate": LEARNING_RATE},
        "batch": {"sources": batch.sources, "targets": batch.targets},
        "prefix": prefix,
        "network": network,
        "expected": expected,
        "otherLogits": batch.losses(other_half, None)["logits"].detach(),
        "generations": generations(exact, batch, double),
        "float32Differs": differs(single, expected),
    }
    singly = generations(model, batch, prefix)
    assert singly == golden["generations"], "float32 generates otherwise than float64: choose another seed"
    write_golden(HERE / "golden.json", golden)
    print(json.dumps(golden["float32Differs"], indent=1))
    print("losses", expected["training"]["losses"], expected["reparametrized"]["training"]["losses"])
    print("logits deviation", float(expected["logits"].std()), "token losses", expected["tokenLosses"].tolist())
    for case in golden["generations"]:
        print(case["forced"], case["decoding"], [row["tokens"][0] for row in case["rows"]])


if __name__ == "__main__":
    main()
