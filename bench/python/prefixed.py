"""Prefixes at all three places of a BART, which PEFT has no adapter for: transformers' own attention over keys and values that stand before all others."""

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask


def prefixed(module, query, key, value, attention_mask, **options):
    """Every query sees the prefix; positions are not shifted."""
    before = getattr(module, "prefix", None)
    if before is not None:
        keys, values = (each.expand(query.shape[0], -1, -1, -1) for each in before)
        if attention_mask is not None:
            visible = torch.ones_like(attention_mask[..., :1]).expand(*attention_mask.shape[:3], keys.shape[2])
            attention_mask = torch.cat([visible, attention_mask], dim=3)
        elif options.get("is_causal", getattr(module, "is_causal", False)) and query.shape[2] > 1:
            # Without a mask SDPA would count the diagonal from the first of the keys, which is the prefix'.
            seen = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool).tril()
            attention_mask = torch.cat([torch.ones(query.shape[2], keys.shape[2], dtype=torch.bool), seen], dim=1)[None, None]
        key, value = torch.cat([keys, key], dim=2), torch.cat([values, value], dim=2)
    return sdpa_attention_forward(module, query, key, value, attention_mask, **options)


def put_prefixes(model, length: int) -> list[torch.nn.Parameter]:
    """Keys and values of an untrained prefix for each attention of the model, which stays frozen otherwise."""
    AttentionInterface.register("prefixed", prefixed)
    ALL_MASK_ATTENTION_FUNCTIONS.register("prefixed", sdpa_mask)
    model.requires_grad_(False)
    model.set_attn_implementation("prefixed")
    encoder, decoder = model.model.encoder.layers, model.model.decoder.layers
    attentions = [l.self_attn for l in encoder] + [l.self_attn for l in decoder] + [l.encoder_attn for l in decoder]
    trained = []
    for attention in attentions:
        shape = (1, attention.num_heads, length, attention.head_dim)
        attention.prefix = tuple(torch.nn.Parameter(0.1 * torch.randn(shape)) for _ in ("key", "value"))
        trained += attention.prefix
    return trained
