"""Measures products of square matrices: the most that the device reaches. Answers the fastest of each size."""

import argparse

import torch

from turns import add_turns, measure, take_turns


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--device", default="cpu", help="PyTorch's name of it: cpu, cuda")
    options.add_argument("--dtype", default="bfloat16", choices=["float32", "bfloat16"])
    options.add_argument("--sizes", default="4096,8192", help="rows, columns and inner extent of each product")
    add_turns(options)
    options = options.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    made = {"device": options.device, "dtype": getattr(torch, options.dtype)}
    factors = {size: [torch.randn(size, size, **made) for _ in range(2)] for size in sizes}

    def multiply(size: int) -> None:
        left, right = factors[size]
        left @ right
        if options.device != "cpu":
            torch.cuda.synchronize()

    def answer(count: int) -> dict:
        for size in sizes:
            multiply(size)
        return {"productsMs": {str(size): min(measure(lambda size=size: multiply(size), count)) for size in sizes}}

    take_turns(options, answer, {"device": options.device, "dtype": options.dtype, "torch": torch.__version__})


if __name__ == "__main__":
    main()
