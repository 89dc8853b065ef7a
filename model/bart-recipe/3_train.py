"""Trains a small BART on rows.npz for so many minutes and keeps a model folder, WORK_FOLDER/checkpoint.

usage: python 3_train.py WORK_FOLDER MINUTES [START_FOLDER]
"""
import os
import pathlib
import shutil
import sys
import time

import numpy as np
import torch
from transformers import BartConfig, BartForConditionalGeneration

SHAPE = dict(
    vocab_size=4096, d_model=192, encoder_layers=3, decoder_layers=3, encoder_attention_heads=3, decoder_attention_heads=3,
    encoder_ffn_dim=768, decoder_ffn_dim=768, max_position_embeddings=512, activation_function='gelu', scale_embedding=False,
    dropout=0.0, attention_dropout=0.0, activation_dropout=0.0, bos_token_id=0, pad_token_id=1, eos_token_id=2,
    decoder_start_token_id=2, forced_bos_token_id=0, forced_eos_token_id=2,
)
SEED, BATCH, HELD_OUT = 1, 16, 320  # rows
RATE, RISING = 2e-3, 60  # the rate, and over how many steps it rises
PAD = 1


def batch_of(sources, targets, rows) -> dict:
    """As wide as its longest rows; padding has no loss."""
    def cut(tokens):
        return tokens[rows][:, :int((tokens[rows] != PAD).sum(1).max())]

    source, target = cut(sources), cut(targets)
    return {'input_ids': source, 'attention_mask': (source != PAD).long(), 'labels': target.masked_fill(target == PAD, -100)}


@torch.no_grad()
def held_out(model, sources, targets) -> float:
    """Mean loss of a token of the last rows, in nats."""
    total, count = 0.0, 0
    for at in range(len(sources) - HELD_OUT, len(sources), BATCH):
        batch = batch_of(sources, targets, torch.arange(at, at + BATCH))
        said = int((batch['labels'] >= 0).sum())
        total, count = total + model(**batch).loss.item() * said, count + said
    return total / count


def save(model, work: pathlib.Path) -> None:
    """Writes the folder whole or not at all, in float16."""
    new, old, final = work / 'checkpoint.new', work / 'checkpoint.old', work / 'checkpoint'
    for folder in (new, old):
        shutil.rmtree(folder, ignore_errors=True)
    half = BartForConditionalGeneration(model.config)
    half.load_state_dict(model.state_dict())
    half.half().save_pretrained(new)
    shutil.copy(work / 'tokenizer.json', new / 'tokenizer.json')
    if final.exists():
        os.rename(final, old)
    os.rename(new, final)


def main() -> None:
    work, minutes = pathlib.Path(sys.argv[1]), float(sys.argv[2])
    torch.set_num_threads(os.cpu_count() or 1)
    torch.manual_seed(SEED)
    rows = np.load(work / 'rows.npz')
    sources, targets = (torch.from_numpy(rows[name].astype(np.int64)) for name in ('sources', 'targets'))
    model = BartForConditionalGeneration.from_pretrained(sys.argv[3], dtype=torch.float32) if len(sys.argv) > 3 else BartForConditionalGeneration(BartConfig(**SHAPE))
    matrices, vectors = ([p for p in model.parameters() if (p.dim() > 1) == wanted] for wanted in (True, False))
    optimizer = torch.optim.AdamW([{'params': matrices, 'weight_decay': 0.05}, {'params': vectors, 'weight_decay': 0.0}], lr=RATE, betas=(0.9, 0.98), foreach=True)
    order = torch.randperm(len(sources) - HELD_OUT)
    begun, step, said, mean = time.time(), 0, 0, None
    while (share := (time.time() - begun) / (60 * minutes)) < 1:
        at = step * BATCH % (len(order) - BATCH)
        batch = batch_of(sources, targets, order[at:at + BATCH])
        for group in optimizer.param_groups:
            group['lr'] = RATE * min(1, (step + 1) / RISING, max(0.02, 1.4 * (1 - share)))
        loss = model.train()(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step, said = step + 1, said + int((batch['labels'] >= 0).sum())
        mean = loss.item() if mean is None else 0.97 * mean + 0.03 * loss.item()
        if step % 50 == 0:
            print(f'step {step} loss {mean:.3f} {said / 1e6:.2f} M tokens said {time.time() - begun:.0f} s', flush=True)
    model.eval()
    save(model, work)
    print(f'held-out loss {held_out(model, sources, targets):.3f} after {step} steps, {said / 1e6:.2f} M tokens said', flush=True)


if __name__ == '__main__':
    main()
