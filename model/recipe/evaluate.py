"""Measures a base: bare, and with a prefix trained on a few E2E examples, by greedy BLEU on development records.

The prefix is the paper's: keys and values of P positions for every layer, from an embedding through linear, tanh, linear.

usage: python evaluate.py MODEL_FOLDER E2E_FOLDER [EXAMPLES] [STEPS] [RECORDS] [RATE]
"""
import csv
import random
import re
import sys

import sacrebleu
import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import GPT2LMHeadModel
from transformers.cache_utils import DynamicCache

LABELS = {'eatType': 'Type', 'priceRange': 'price', 'customer rating': 'customer rating', 'familyFriendly': 'family friendly'}
PREFIX, WIDTH, BATCH, LONGEST = 10, 256, 10, 70


def source(meaning: str) -> str:
    fields = re.findall(r'([\w ]+)\[([^\]]*)\]', meaning)
    return ' | '.join(f'{LABELS.get(k.strip(), k.strip())} : {v}' for k, v in fields)


def read(path: str) -> list[tuple[str, str]]:
    with open(path, encoding='utf8') as rows:
        return [(source(row['mr']), row['ref']) for row in csv.DictReader(rows)]


class Prefix(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.shape = (PREFIX, config.n_layer, 2, config.n_head, config.n_embd // config.n_head)
        self.embedding = nn.Embedding(PREFIX, config.n_embd)
        self.network = nn.Sequential(nn.Linear(config.n_embd, WIDTH), nn.Tanh(), nn.Linear(WIDTH, config.n_layer * 2 * config.n_embd))

    def forward(self, rows: int):
        values = self.network(self.embedding.weight).view(self.shape).permute(1, 2, 3, 0, 4)
        return DynamicCache([(k[None].expand(rows, -1, -1, -1), v[None].expand(rows, -1, -1, -1)) for k, v in values])


def train(model, tokenizer, pairs, steps: int, rate: float):
    prefix = Prefix(model.config)
    optimizer = torch.optim.AdamW(prefix.parameters(), lr=rate, weight_decay=0.0)
    for step in range(steps):
        batch = [pairs[(step * BATCH + i) % len(pairs)] for i in range(BATCH)]
        prompts = [tokenizer.encode(f' {a} ').ids + [0] for a, _ in batch]
        outputs = [tokenizer.encode(f' {b}').ids + [0] for _, b in batch]
        length = max(len(a) + len(b) for a, b in zip(prompts, outputs))
        ids = torch.tensor([a + b + [0] * (length - len(a) - len(b)) for a, b in zip(prompts, outputs)])
        labels = torch.tensor([[-100] * len(a) + b + [-100] * (length - len(a) - len(b)) for a, b in zip(prompts, outputs)])
        optimizer.param_groups[0]['lr'] = rate * (1 - step / steps)
        mask = torch.ones(BATCH, PREFIX + length, dtype=torch.long)
        logits = model(ids, past_key_values=prefix(BATCH), attention_mask=mask, position_ids=torch.arange(PREFIX, PREFIX + length)[None].expand(BATCH, -1)).logits
        loss = nn.functional.cross_entropy(logits[:, :-1].reshape(-1, logits.shape[-1]), labels[:, 1:].reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(prefix.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 99:
            print(f'step {step + 1} loss {loss.item():.3f}', flush=True)
    return prefix


@torch.no_grad()
def greedy(model, tokenizer, text: str, prefix) -> str:
    ids = torch.tensor([tokenizer.encode(f' {text} ').ids + [0]])
    cache, at, out = (prefix(1), PREFIX, []) if prefix else (DynamicCache(), 0, [])
    while len(out) < LONGEST:
        step = model(ids, past_key_values=cache, position_ids=torch.arange(at, at + ids.shape[1])[None], attention_mask=torch.ones(1, at + ids.shape[1], dtype=torch.long))
        cache, at, token = step.past_key_values, at + ids.shape[1], int(step.logits[0, -1].argmax())
        if token == 0:
            break
        out.append(token)
        ids = torch.tensor([[token]])
    return tokenizer.decode(out).strip()


def main() -> None:
    folder, data = sys.argv[1], sys.argv[2]
    examples, steps, records = (int(sys.argv[i]) if len(sys.argv) > i else d for i, d in ((3, 300), (4, 300), (5, 50)))
    rate = float(sys.argv[6]) if len(sys.argv) > 6 else 5e-3
    torch.set_num_threads(2)
    torch.manual_seed(7)
    model = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32).eval().requires_grad_(False)
    tokenizer = Tokenizer.from_file(f'{folder}/tokenizer.json')
    pairs = read(f'{data}/trainset.csv')
    random.Random(7).shuffle(pairs)
    references: dict[str, list[str]] = {}
    for text, reference in read(f'{data}/devset.csv'):
        references.setdefault(text, []).append(reference)
    chosen = sorted(references)
    random.Random(7).shuffle(chosen)
    chosen = chosen[:records]
    most = max(len(references[c]) for c in chosen)
    streams = [[references[c][i] if i < len(references[c]) else None for c in chosen] for i in range(most)]
    for name, prefix in (('bare', None), ('prefix', train(model, tokenizer, pairs[:examples], steps, rate))):
        said = [greedy(model, tokenizer, text, prefix) for text in chosen]
        print(f'{name}: BLEU {sacrebleu.corpus_bleu(said, streams, lowercase=True).score:.1f} on {len(chosen)} records')
        for text, sentence in list(zip(chosen, said))[:8]:
            print(f'  {text}\n    => {sentence}')


if __name__ == '__main__':
    main()
