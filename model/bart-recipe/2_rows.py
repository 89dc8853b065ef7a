"""Trains a tokenizer on docs.jsonl and writes rows of source and target tokens (rows.npz): damaged passages to be mended, and first sentences to be found.

usage: python 2_rows.py WORK_FOLDER [ROWS] [SEED]
"""
import json
import pathlib
import random
import re
import sys

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

VOCABULARY = 4096
SPECIAL = ['<s>', '<pad>', '</s>', '<unk>', '<mask>']
BEGIN, PAD, END, _, MASK = range(5)
TOKENS_MAX = 128  # of a source and of a target, begin and end among them
# Of a passage's tokens under a mask, and the mean length of what one mask stands for (Lewis et al. 2020, section 2.2).
MASKED_SHARE, SPAN_MEAN = 0.3, 3
FIRST_SENTENCE_SHARE = 0.35  # of all rows: the rest of a passage is the source, its first sentence the target
# How often a source is drawn: novels are thirteen times the rest, and read like nothing that is to be summarized.
WEIGHTS = {'fact': 5, 'wiki': 4, 'state_union': 1, 'inaugural': 0.5, 'genesis': 0.3, 'novel': 4}
# examples/factsheets has these as its summaries: a model that had read them would know the answers.
LEFT_OUT = re.compile(r'^Economic overview: .*$', re.MULTILINE)


def passages(source: str, text: str) -> list[list[str]]:
    """Neighbouring sentences; of the Factbook neighbouring fields, joined as a sheet."""
    if source == 'fact':
        fields = [line for line in LEFT_OUT.sub('', text).split('\n') if 4 < len(line) < 400]
        return [fields[at:at + 6] for at in range(0, len(fields), 6)]
    sentences = re.split(r'(?<=[.!?])\s+', text)
    return [sentences[at:at + 5] for at in range(0, len(sentences), 5)]


def trained(sample: list[str]) -> Tokenizer:
    """BART's kind of tokenizer: byte-level BPE, its special tokens the first five."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(sample, trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False))
    return tokenizer


def damaged(parts: list[list[int]], draw: random.Random, numbers: np.random.Generator) -> list[int]:
    """Sentences in another order, and spans of them under one mask each: text infilling and sentence permutation."""
    tokens = [token for part in draw.sample(parts, len(parts)) for token in part]
    budget = round(MASKED_SHARE * len(tokens))
    while budget > 0 and tokens:
        length = min(int(numbers.poisson(SPAN_MEAN)), budget)
        at = draw.randrange(len(tokens) - length + 1) if length <= len(tokens) else 0
        tokens[at:at + length] = [MASK]
        budget -= max(length, 1)
    return tokens


def main() -> None:
    work = pathlib.Path(sys.argv[1])
    count, seed = (int(sys.argv[i]) if len(sys.argv) > i else usual for i, usual in ((2, 60_000), (3, 5)))
    draw, numbers = random.Random(seed), np.random.default_rng(seed)
    found: dict[str, list[list[str]]] = {}
    for line in open(work / 'docs.jsonl', encoding='utf8'):
        document = json.loads(line)
        if document['source'] in WEIGHTS:
            found.setdefault(document['source'], []).extend(p for p in passages(document['source'], document['text']) if len(p) > 1)
    kinds = draw.choices(list(found), [WEIGHTS[kind] for kind in found], k=count)
    chosen = [(kind, draw.choice(found[kind])) for kind in kinds]
    joint = {kind: ' | ' if kind == 'fact' else ' ' for kind in found}
    tokenizer = trained([joint[kind].join(parts) for kind, parts in chosen[:20_000]])
    tokenizer.save(str(work / 'tokenizer.json'))

    sources, targets = (np.full((count, TOKENS_MAX), PAD, dtype=np.uint16) for _ in range(2))
    for row, (kind, parts) in enumerate(chosen):
        texts = [part if i == 0 else joint[kind] + part for i, part in enumerate(parts)]
        encoded = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
        if draw.random() < FIRST_SENTENCE_SHARE:
            source, target = [token for part in encoded[1:] for token in part], encoded[0]
        else:
            source, target = damaged(encoded, draw, numbers), [token for part in encoded for token in part]
        for rows, tokens in ((sources, source), (targets, target)):
            framed = [BEGIN, *tokens[:TOKENS_MAX - 2], END]
            rows[row, :len(framed)] = framed
    np.savez(work / 'rows.npz', sources=sources, targets=targets)
    print(f'{count} rows, {(sources != PAD).sum() / 1e6:.1f} M tokens to read, {(targets != PAD).sum() / 1e6:.1f} M to say')


if __name__ == '__main__':
    main()
