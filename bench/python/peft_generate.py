"""Measures greedy `generate` of PEFT: one prefix a call, for one row or several rows of the same length; the next prefix in the next call."""

from itertools import cycle

import torch

from rounds import about, add_prefixes, open_model, parser
from turns import drive, summary


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--rows", type=int, default=1)
    options.add_argument("--prefixes", type=int, default=1, help="taken in turn: PEFT plays one of them at a time")
    options.add_argument("--prompt-tokens", type=int, default=32)
    options.add_argument("--new-tokens", type=int, default=64)
    options = options.parse_args()
    model = open_model(options)
    names = cycle(add_prefixes(model, options.prefixes))
    # No token ends a row: every run makes the same number of tokens.
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    prompts = torch.randint(model.config.vocab_size, (options.rows, options.prompt_tokens))
    mask = torch.ones_like(prompts)

    @torch.inference_mode()
    def generate() -> None:
        if options.prefixes > 1:
            model.set_adapter(next(names), inference_mode=True)
        output = model.generate(input_ids=prompts, attention_mask=mask, max_new_tokens=options.new_tokens, do_sample=False)
        assert output.shape == (options.rows, options.prompt_tokens + options.new_tokens), output.shape

    def report(times: list[float]) -> dict:
        made = options.rows * options.new_tokens
        best = summary(times)
        return {
            "generateMs": best, "generationsMs": times, "runs": len(times), "rows": options.rows, "prefixes": options.prefixes,
            "promptTokens": options.prompt_tokens, "newTokens": options.new_tokens,
            "tokensPerSecond": {"median": 1000 * made / best["median"], "max": 1000 * made / best["min"]},
        }

    drive(options, generate, report, about(options))


if __name__ == "__main__":
    main()
