"""What the scripts that make golden files from tensors share: how the file is written, and how far two results are apart."""

import json
from pathlib import Path

import torch


def differs(a, b, path: str = "") -> dict[str, float]:
    """Largest |a − b| of each tensor over the largest |b|, by its path; texts are left out."""
    if isinstance(a, dict):
        return {k: v for name in a for k, v in differs(a[name], b[name], f"{path}.{name}".strip(".")).items()}
    if isinstance(a, list) and a and isinstance(a[0], dict):
        return {k: v for i in range(len(a)) for k, v in differs(a[i], b[i], f"{path}.{i}").items()}
    if isinstance(a, list) and a and isinstance(a[0], str):
        return {}
    a, b = torch.as_tensor(a, dtype=torch.float64), torch.as_tensor(b, dtype=torch.float64)
    return {path: float((a - b).abs().max() / b.abs().max())}


def plain(value):
    """Tensors as {shape, data}; Python writes the shortest digits that give the same double back."""
    if isinstance(value, torch.Tensor):
        return {"shape": list(value.shape), "data": value.detach().flatten().tolist()}
    if isinstance(value, dict):
        return {name: plain(entry) for name, entry in value.items()}
    return [plain(entry) for entry in value] if isinstance(value, list) else value


def write_golden(file: Path, golden: dict) -> None:
    """JSON, one entry a line."""
    lines = [f"{json.dumps(name)}: {json.dumps(plain(value))}" for name, value in golden.items()]
    file.write_text("{\n" + ",\n".join(lines) + "\n}\n")
