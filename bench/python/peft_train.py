"""Measures a training step of PEFT's prefix-tuning: forward, backward and AdamW on one batch."""

import torch

from rounds import drive, open_model, parser, summary


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--batch", type=int, default=10)
    options.add_argument("--tokens", type=int, default=64, help="of one row")
    options.add_argument("--targets", type=int, default=32, help="tokens at the end of a row that have a loss")
    options = options.parse_args()
    model = open_model(options)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, weight_decay=0.0)
    tokens = torch.randint(model.config.vocab_size, (options.batch, options.tokens))
    labels = tokens.clone()
    labels[:, : options.tokens - options.targets] = -100
    mask = torch.ones_like(tokens)
    losses = []

    def step() -> None:
        optimizer.zero_grad()
        loss = model(input_ids=tokens, attention_mask=mask, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        losses.append(loss.item())

    def report(times: list[float]) -> dict:
        return {
            "stepMs": summary(times), "stepsMs": times, "steps": len(times), "loss": losses[-1],
            "batch": options.batch, "tokens": options.tokens, "targets": options.targets, "trained": sum(p.numel() for p in trained),
        }

    drive(options, step, report)


if __name__ == "__main__":
    main()
