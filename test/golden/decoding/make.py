"""Makes what Hugging Face transformers does with rows of logits, and what its beam search generates with the tiny GPT-2.

Usage: python make.py          (writes into the folder it lies in)
"""

import json
from pathlib import Path

import torch
from transformers import (
    GenerationConfig, GPT2LMHeadModel, LogitsProcessor, LogitsProcessorList, MinNewTokensLengthLogitsProcessor,
    MinPLogitsWarper, NoBadWordsLogitsProcessor, NoRepeatNGramLogitsProcessor, RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper, TypicalLogitsWarper,
)

HERE = Path(__file__).resolve().parent
VOCABULARY = 97
END_OF_TEXT = 0
SEED = 50205


class OpenAIPenalty(LogitsProcessor):
    """μ[j] - c[j]·frequency - (c[j] > 0)·presence over the tokens made, as OpenAI's reference says; transformers has none."""

    def __init__(self, prompt_length: int, presence: float, frequency: float):
        self.prompt_length, self.presence, self.frequency = prompt_length, presence, frequency

    def __call__(self, input_ids, scores):
        made = input_ids[:, self.prompt_length:]
        counts = torch.stack([torch.bincount(row, minlength=scores.shape[-1]) for row in made])
        return scores - counts * self.frequency - (counts > 0) * self.presence


def numbers(row: torch.Tensor) -> list:
    """-inf is null."""
    return [None if value == float("-inf") else float(f"{value:.9g}") for value in row.tolist()]


def rules(decoding: dict, min_new_tokens: int, prompt_length: int) -> list:
    """One processor each: what `decoding` says, in no particular order."""
    made = []
    if "logitBias" in decoding:
        made.append(SequenceBiasLogitsProcessor({(int(t),): float(b) for t, b in decoding["logitBias"].items()}))
    if "repetitionPenalty" in decoding:
        made.append(RepetitionPenaltyLogitsProcessor(decoding["repetitionPenalty"]))
    if "noRepeatNgramSize" in decoding:
        made.append(NoRepeatNGramLogitsProcessor(decoding["noRepeatNgramSize"]))
    if "bannedTokens" in decoding:
        made.append(NoBadWordsLogitsProcessor(decoding["bannedTokens"], END_OF_TEXT))
    if min_new_tokens > 0:
        made.append(MinNewTokensLengthLogitsProcessor(prompt_length, min_new_tokens, END_OF_TEXT))
    if "presencePenalty" in decoding or "frequencyPenalty" in decoding:
        made.append(OpenAIPenalty(prompt_length, decoding.get("presencePenalty", 0.0), decoding.get("frequencyPenalty", 0.0)))
    if "temperature" in decoding:
        made.append(TemperatureLogitsWarper(decoding["temperature"]))
    if "topK" in decoding:
        made.append(TopKLogitsWarper(decoding["topK"]))
    if "topP" in decoding:
        made.append(TopPLogitsWarper(decoding["topP"]))
    if "minP" in decoding:
        made.append(MinPLogitsWarper(decoding["minP"]))
    if "typicalP" in decoding:
        made.append(TypicalLogitsWarper(decoding["typicalP"]))
    return made


def generate_order(model, decoding: dict, min_new_tokens: int, prompt: list[int]) -> LogitsProcessorList:
    """The processors of `generate` for all at once, in its own order."""
    config = GenerationConfig(
        do_sample=True, num_beams=1,
        sequence_bias=[[[int(t)], float(b)] for t, b in decoding["logitBias"].items()],
        repetition_penalty=decoding["repetitionPenalty"], no_repeat_ngram_size=decoding["noRepeatNgramSize"],
        bad_words_ids=decoding["bannedTokens"], min_new_tokens=min_new_tokens, temperature=decoding["temperature"],
        top_k=decoding["topK"], top_p=decoding["topP"], min_p=decoding["minP"], typical_p=decoding["typicalP"],
    )
    config._eos_token_tensor = torch.tensor([END_OF_TEXT])
    own = [OpenAIPenalty(len(prompt), decoding["presencePenalty"], decoding["frequencyPenalty"])]
    return model._get_logits_processor(
        config, input_ids_seq_length=len(prompt), logits_processor=LogitsProcessorList(own), device="cpu",
    )


SINGLE = [
    ({"logitBias": {"3": 5.0, "60": -100.0}}, 0),
    ({"repetitionPenalty": 1.7}, 0), ({"repetitionPenalty": 0.6}, 0),
    ({"presencePenalty": 0.7}, 0), ({"frequencyPenalty": 0.4}, 0), ({"presencePenalty": -1.5, "frequencyPenalty": 1.1}, 0),
    ({"noRepeatNgramSize": 1}, 0), ({"noRepeatNgramSize": 2}, 0), ({"noRepeatNgramSize": 3}, 0), ({"noRepeatNgramSize": 9}, 0),
    ({"bannedTokens": [[5], [9, 8], [7, 4, 2], [0]]}, 0),
    ({}, 5), ({}, 3),
    ({"temperature": 0.3}, 0), ({"temperature": 2.5}, 0),
    ({"topK": 1}, 0), ({"topK": 7}, 0), ({"topK": 200}, 0),
    ({"topP": 0.05}, 0), ({"topP": 0.5}, 0), ({"topP": 0.9}, 0), ({"topP": 0.999}, 0),
    ({"minP": 0.02}, 0), ({"minP": 0.3}, 0), ({"minP": 1.0}, 0),
    ({"typicalP": 0.1}, 0), ({"typicalP": 0.5}, 0), ({"typicalP": 0.95}, 0),
]
COMBINED = {
    "logitBias": {"3": 2.0, "11": -3.0}, "repetitionPenalty": 1.3, "noRepeatNgramSize": 2, "bannedTokens": [[5], [9, 8]],
    "presencePenalty": 0.5, "frequencyPenalty": 0.25, "temperature": 0.8, "topK": 40, "topP": 0.9, "minP": 0.01, "typicalP": 0.9,
}


def make_rows(model) -> dict:
    generator = torch.Generator().manual_seed(SEED)
    histories = []
    for _ in range(3):
        # Few distinct tokens, so that n-grams and banned sequences come up.
        tokens = torch.randint(2, 10, (24,), generator=generator).tolist()
        histories.append({"prompt": tokens[:20], "output": tokens[20:]})
    rows = [(torch.randn(VOCABULARY, generator=generator) * 3 - 2).float() for _ in histories]
    cases = []
    everything = [(d, m, None) for d, m in SINGLE]
    everything += [({**COMBINED, **change}, 6, "generate") for change in ({}, {"temperature": 1.6, "topK": 60}, {"topK": 0, "topP": 0.97})]
    for decoding, min_new_tokens, order in everything:
        expected = []
        for row, history in zip(rows, histories, strict=True):
            ids = torch.tensor([history["prompt"] + history["output"]])
            if order is None:
                processors = LogitsProcessorList(rules(decoding, min_new_tokens, len(history["prompt"])))
            else:
                processors = generate_order(model, decoding, min_new_tokens, history["prompt"])
            expected.append(numbers(processors(ids, row[None].clone())[0]))
        cases.append({"decoding": decoding, "minNewTokens": min_new_tokens, "expected": expected})
    return {"histories": histories, "rows": [numbers(row) for row in rows], "cases": cases}


BEAMS = [
    {"beams": 2}, {"beams": 4}, {"beams": 6},
    {"beams": 4, "lengthPenalty": 0.6}, {"beams": 4, "lengthPenalty": 2.0}, {"beams": 3, "lengthPenalty": -1.0},
    {"beams": 4, "earlyStopping": True}, {"beams": 4, "earlyStopping": "never"},
    {"beams": 4, "earlyStopping": "never", "lengthPenalty": 2.0}, {"beams": 4, "earlyStopping": "never", "lengthPenalty": 0.0},
    {"beams": 6, "earlyStopping": True, "lengthPenalty": 0.6},
    {"beams": 4, "minNewTokens": 6}, {"beams": 4, "noRepeatNgramSize": 3}, {"beams": 4, "noRepeatNgramSize": 2},
    {"beams": 4, "repetitionPenalty": 1.4}, {"beams": 6, "repetitionPenalty": 1.2, "noRepeatNgramSize": 3, "minNewTokens": 4},
    {"beams": 4, "bannedTokens": [[9], [8, 30]]},
]


def beam_search(model, prompt: list[int], case: dict, max_new_tokens: int, bias: float, dtype) -> tuple:
    extra = {}
    if bias != 0:
        extra["sequence_bias"] = [[[END_OF_TEXT], bias]]
    if "bannedTokens" in case:
        extra["bad_words_ids"] = case["bannedTokens"]
    out = model.to(dtype).generate(
        torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long), do_sample=False,
        num_beams=case["beams"], num_return_sequences=case["beams"], max_new_tokens=max_new_tokens,
        length_penalty=case.get("lengthPenalty", 1.0), early_stopping=case.get("earlyStopping", False),
        min_new_tokens=case.get("minNewTokens"), no_repeat_ngram_size=case.get("noRepeatNgramSize", 0),
        repetition_penalty=case.get("repetitionPenalty", 1.0), pad_token_id=END_OF_TEXT, eos_token_id=END_OF_TEXT,
        return_dict_in_generate=True, output_scores=True, **extra,
    )
    texts = []
    for sequence in out.sequences[:, len(prompt):].tolist():
        # Padding and end-of-text are the same token: all behind the first is padding.
        end = sequence.index(END_OF_TEXT) + 1 if END_OF_TEXT in sequence else len(sequence)
        texts.append(sequence[:end])
    return texts, [float(f"{score:.9g}") for score in out.sequences_scores.tolist()]


def make_beams(model) -> list:
    generator = torch.Generator().manual_seed(SEED + 1)
    cases = []
    for case in BEAMS:
        for length, max_new_tokens, bias in [(3, 12, 0.0), (6, 16, 2.5), (9, 20, 4.0)]:
            while True:
                prompt = torch.randint(1, VOCABULARY, (length,), generator=generator).tolist()
                texts, scores = beam_search(model, prompt, case, max_new_tokens, bias, torch.float32)
                exact, _ = beam_search(model, prompt, case, max_new_tokens, bias, torch.float64)
                # Only what holds in any precision: in float64 the same texts come out.
                if texts == exact:
                    break
            decoding = {name: value for name, value in case.items() if name != "minNewTokens"}
            if bias != 0:
                decoding["logitBias"] = {str(END_OF_TEXT): bias}
            cases.append({
                "prompt": prompt, "decoding": decoding, "minNewTokens": case.get("minNewTokens", 0),
                "maxNewTokens": max_new_tokens, "tokens": texts, "scores": scores,
            })
    return cases


def main() -> None:
    model = GPT2LMHeadModel.from_pretrained(HERE.parent / "gpt2/model", attn_implementation="eager").eval()
    rows = make_rows(model)
    beams = make_beams(model)
    text = json.dumps({"endOfText": END_OF_TEXT, **rows, "beams": beams}, separators=(",", ":"))
    (HERE / "golden.json").write_text(text.replace('{"decoding"', '\n{"decoding"').replace('{"prompt"', '\n{"prompt"') + "\n")
    ended = sum(text[-1] == END_OF_TEXT for case in beams for text in case["tokens"])
    total = sum(len(case["tokens"]) for case in beams)
    print(f"{len(rows['cases'])} cases of rows, {len(beams)} of beams, {ended} of {total} texts ended by end-of-text")


main()
