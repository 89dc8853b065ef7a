"""Trains the model on tokens.npy, from chance or from a model folder, and keeps a usable checkpoint folder beside it.

The rate rises for 100 steps and falls linearly over the last 70 % of them. WORK_FOLDER/steps, if there, overrides the number
of steps while the training runs.

usage: python 4_train.py WORK_FOLDER STEPS [START_FOLDER]
"""
import json
import math
import os
import pathlib
import shutil
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

VOCABULARY, WIDTH, LAYERS, HEADS, POSITIONS = 4096, 192, 6, 3, 256
SEED = 1
BATCH = 16  # rows
HELD_OUT = 400  # rows, the last ones
RATE_FROM_CHANCE, RATE_FROM_MODEL = 4e-3, 2e-3
RECORD_SHARE = 0.12  # Records are mostly chance: only this share of their tokens is predicted.


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attend, self.attend_out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.widen, self.narrow = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x):
        rows, length, _ = x.shape
        q, k, v = self.attend(self.ln_1(x)).view(rows, length, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        x = x + self.attend_out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(rows, length, WIDTH))
        return x + self.narrow(F.gelu(self.widen(self.ln_2(x)), approximate='tanh'))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(POSITIONS, WIDTH)
        self.h, self.ln_f = nn.ModuleList(Block() for _ in range(LAYERS)), nn.LayerNorm(WIDTH)
        for name, p in self.named_parameters():
            if p.dim() > 1:
                nn.init.normal_(p, 0, 0.02 / math.sqrt(2 * LAYERS) if 'out' in name or 'narrow' in name else 0.02)
            elif name.endswith('bias'):
                nn.init.zeros_(p)

    def forward(self, ids, targets, chosen, start: int):
        """Mean loss over the chosen positions; `start` is the number of the first position."""
        x = self.wte(ids) + self.wpe.weight[start:start + ids.shape[1]]
        for block in self.h:
            x = block(x)
        return F.cross_entropy(F.linear(self.ln_f(x)[chosen], self.wte.weight).float(), targets[chosen])


def hub_name(name: str) -> str:
    """A parameter's name in a Hugging Face GPT-2 folder."""
    for ours, theirs in (('attend_out', 'attn.c_proj'), ('attend', 'attn.c_attn'), ('widen', 'mlp.c_fc'), ('narrow', 'mlp.c_proj')):
        name = name.replace(f'.{ours}.', f'.{theirs}.')
    return 'transformer.' + name


def turned(name: str, value):
    """GPT-2 stores a layer's matrices as [in, out], PyTorch's Linear as [out, in]."""
    return value.t() if value.dim() == 2 and name.startswith('h.') else value


@torch.no_grad()
def load(model: Model, folder: str) -> None:
    tensors = load_file(f'{folder}/model.safetensors')
    for name, p in model.named_parameters():
        p.copy_(turned(name, tensors[hub_name(name)].float()))


def save(model: Model, work: pathlib.Path) -> None:
    """Writes the checkpoint folder whole or not at all; the head is tied to wte, so it has no tensor of its own."""
    tensors = {hub_name(n): turned(n, p).detach().half().contiguous().clone() for n, p in model.named_parameters()}
    config = dict(architectures=['GPT2LMHeadModel'], model_type='gpt2', activation_function='gelu_new', n_ctx=POSITIONS, n_embd=WIDTH, n_head=HEADS, n_layer=LAYERS, n_positions=POSITIONS,
                  vocab_size=VOCABULARY, layer_norm_epsilon=1e-5, bos_token_id=0, eos_token_id=0, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, initializer_range=0.02,
                  tie_word_embeddings=True, dtype='float16')
    new, old, final = work / 'checkpoint.new', work / 'checkpoint.old', work / 'checkpoint'
    for folder in (new, old):
        shutil.rmtree(folder, ignore_errors=True)
    new.mkdir()
    save_file(tensors, new / 'model.safetensors', metadata={'format': 'pt'})
    (new / 'config.json').write_text(json.dumps(config, indent=2) + '\n')
    shutil.copy(work / 'tokenizer.json', new / 'tokenizer.json')
    if final.exists():
        os.rename(final, old)
    os.rename(new, final)


@torch.no_grad()
def held_out(model: Model, tokens, marks, kinds: list[str]) -> dict[str, float]:
    """Mean loss per token of sentence or text in nats, by kind of row."""
    losses: dict[str, list[float]] = {}
    for row in range(len(tokens) - HELD_OUT, len(tokens)):
        chosen = marks[row:row + 1, 1:] == 2
        losses.setdefault(kinds[row], []).append(model(tokens[row:row + 1, :-1], tokens[row:row + 1, 1:], chosen, 0).item())
    return {k: round(sum(v) / len(v), 3) for k, v in sorted(losses.items())} | {'all': round(sum(map(sum, losses.values())) / HELD_OUT, 3)}


def main() -> None:
    work, steps = pathlib.Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(2)
    torch.manual_seed(SEED)
    random = np.random.default_rng(SEED)
    tokens = torch.from_numpy(np.load(work / 'tokens.npy').astype(np.int64))
    marks = torch.from_numpy(np.load(work / 'marks.npy'))
    rows = len(tokens) - HELD_OUT
    model, rate = Model(), RATE_FROM_CHANCE
    if len(sys.argv) > 3:
        load(model, sys.argv[3])
        rate = RATE_FROM_MODEL
    groups = [{'params': [p for p in model.parameters() if p.dim() > 1], 'weight_decay': 0.05}, {'params': [p for p in model.parameters() if p.dim() < 2], 'weight_decay': 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.95), foreach=True)
    order, mean, seen, begun, step = random.permutation(rows), None, 0, time.time(), 0
    while step < steps:
        if step % 20 == 0 and (work / 'steps').exists():
            steps = int((work / 'steps').read_text())
        at = (step * BATCH) % (rows - BATCH)
        ids, mark = tokens[order[at:at + BATCH]], marks[order[at:at + BATCH]]
        chosen = (mark[:, 1:] == 2) | ((mark[:, 1:] == 1) & (torch.rand(mark[:, 1:].shape) < RECORD_SHARE))
        loss = model(ids[:, :-1], ids[:, 1:], chosen, int(random.integers(0, POSITIONS - ids.shape[1] + 2)))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group['lr'] = rate * min(1, (step + 1) / 100, max(0.02, (steps - step) / (0.7 * steps)))
        optimizer.step()
        step += 1
        seen += int((mark > 0).sum())
        mean = loss.item() if mean is None else 0.97 * mean + 0.03 * loss.item()
        if step % 50 == 0:
            print(f'step {step}/{steps} loss {mean:.3f} {seen / 1e6:.2f} M tokens {time.time() - begun:.0f} s cpu {time.process_time():.0f} s', flush=True)
        if step % 200 == 0:
            save(model, work)
    save(model, work)
    print('held-out loss', held_out(model, tokens, marks, json.load(open(work / 'kinds.json'))), 'steps', step, 'tokens', seen, flush=True)


if __name__ == '__main__':
    main()
