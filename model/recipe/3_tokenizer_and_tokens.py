"""Trains the tokenizer on groups.jsonl, or takes a given one, and writes rows of token ids (tokens.npy) with what each token counts for (marks.npy).

A pair becomes " record " <|endoftext|> " sentence" <|endoftext|>. Marks: 0 padding, 1 record, 2 sentence or plain text.

usage: python 3_tokenizer_and_tokens.py WORK_FOLDER [TOKENIZER.json]
"""
import json
import pathlib
import random
import sys

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

VOCABULARY = 4096
ROW = 224  # tokens


def trained(groups: list) -> Tokenizer:
    """GPT-2's kind of tokenizer: byte-level BPE, `<|endoftext|>` is token 0."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=['<|endoftext|>'], initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False)
    sample = random.sample(groups, min(len(groups), 20_000))
    tokenizer.train_from_iterator((f' {a}  {b}' for _, pairs in sample for a, b in pairs), trainer)
    return tokenizer


def main() -> None:
    work = pathlib.Path(sys.argv[1])
    random.seed(5)
    groups = [json.loads(line) for line in open(work / 'groups.jsonl', encoding='utf8')]
    tokenizer = Tokenizer.from_file(sys.argv[2]) if len(sys.argv) > 2 else trained(groups)
    tokenizer.save(str(work / 'tokenizer.json'))

    tokens = np.zeros((len(groups), ROW), dtype=np.uint16)
    marks = np.zeros((len(groups), ROW), dtype=np.uint8)
    flat = [text for _, pairs in groups for a, b in pairs for text in (f' {a} ', f' {b}' if a else b)]
    encoded = iter(e.ids for start in range(0, len(flat), 20_000) for e in tokenizer.encode_batch(flat[start:start + 20_000]))
    for row, (_, pairs) in enumerate(groups):
        ids, kinds = [], []
        for source, _ in pairs:
            record, sentence = next(encoded), next(encoded)
            if source:
                ids += record + [0]
                kinds += [1] * (len(record) + 1)
            ids += sentence + [0]
            kinds += [2] * (len(sentence) + 1)
        tokens[row, :len(ids)] = ids[:ROW]
        marks[row, :len(ids)] = kinds[:ROW]
    np.save(work / 'tokens.npy', tokens)
    np.save(work / 'marks.npy', marks)
    json.dump([kind for kind, _ in groups], open(work / 'kinds.json', 'w'))
    print(f'{len(groups)} rows, {(marks > 0).sum() / 1e6:.1f} M tokens, {(marks == 2).sum() / 1e6:.1f} M of them sentence or text')


if __name__ == '__main__':
    main()
