"""Writes the BLEU test data: E2E system outputs with their figures, and odd segments scored by sacrebleu.

Usage: python make.py FOLDER     FOLDER holds e2e_first100_golden.json and e2e_test_first100_{tgen,slug}.json
"""

import json
import sys
from pathlib import Path

import sacrebleu
from sacrebleu.metrics import BLEU
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

HERE = Path(__file__).resolve().parent

SEGMENTS = [
    "", " ", ".", "...", "Hello, world!", "don't", "It's 5.50, or 1,000.", "10-20 and well-known and -5 and 3-",
    "&quot;x&quot; &amp;amp; &amp;lt; &lt;tag&gt; & co", "a<skipped>b", "line-\nbreak\nhere", "trailing  \t\n", "~`^|{}[]()<>@#$%*+=_\\/:;?!",
    "£20-25 in Café Adriatic, 北京 café。", "😀.😀,5.😀", "5 out of 5.", "a.b,c 1.b a.1 1.1", "e.g.,U.S.A.", "x\u00a0y\u2009z\u3000w\u0085v\u001cu",
    "\ufeffmark", "''quoted''", "\"double\"", "1-800-555", "...5", ",,1,,", "A&B", "ÀÉÎ ΣΑΣ İI ẞ", "tab\tsep\x0bvt\x0cff",
]

# Each with hypotheses, and for every hypothesis its references.
CORPORA = {
    "no match at all": (["a b c d e"], [["v w x y z"]]),
    "no four-gram matches": (["the cat sat on the mat today"], [["the cat is on the mat now"]]),
    "no pair matches": (["a x b y c"], [["c a b q r s t"]]),
    "too short for four-grams": (["good food"], [["good food"]]),
    "short against a long reference": (["the cat"], [["the cat sat on the mat by the door"]]),
    "an empty hypothesis among others": (["", "the cat sat on the mat"], [["a dog"], ["the cat sat on the mat"]]),
    "all hypotheses empty": (["", ""], [["a dog"], ["a cat"]]),
    "an empty reference beside a real one": (["the cat sat on the mat"], [["", "the cat sat on a mat"]]),
    "only an empty reference": (["the cat sat", "a dog ran off now"], [[""], ["a dog ran off now"]]),
    "references of different number": (
        ["The Vaults is a pub.", "Blue Spice, in the city centre, serves Thai food.", "It costs £20-25."],
        [["The Vaults is a pub.", "There is a pub, The Vaults."], ["In the city centre Blue Spice serves Thai food."], ["It costs £20-25.", "Prices: £20-25.", "£20-25"]],
    ),
    "two references equally near in length": (["a b c d e f"], [["a b c d e", "a b c d e f g", "a b c d x y z w"]]),
    "clipped counts": (["the the the the the the the"], [["the cat is on the mat", "there is a cat on the mat"]]),
    "case": (["THE CAT SAT ON THE MAT"], [["the cat sat on the mat"]]),
}


def figures(score) -> dict:
    return {"score": score.score, "precisions": score.precisions, "brevityPenalty": score.bp, "hypothesisLength": score.sys_len, "referenceLength": score.ref_len}


def bleu(hypotheses: list[str], references: list[list[str]], lowercase: bool) -> dict:
    most = max(len(refs) for refs in references)
    # sacrebleu wants one stream per reference number, None where a segment has fewer.
    streams = [[refs[i] if i < len(refs) else None for refs in references] for i in range(most)]
    return figures(BLEU(lowercase=lowercase).corpus_score(hypotheses, streams))


def main(source: str) -> None:
    published = json.loads((Path(source) / "e2e_first100_golden.json").read_text())
    systems, references = {}, []
    for system in ("tgen", "slug"):
        records = json.loads((Path(source) / f"e2e_test_first100_{system}.json").read_text())
        hypotheses, references = [r["hyp"] for r in records], [r["refs"] for r in records]
        expected = {}
        for name, lowercase in (("mixed", False), ("lowercase", True)):
            given = published[system][f"sacrebleu tok=13a lc={lowercase}"]
            expected[name] = {
                "score": given["score"], "precisions": given["precisions"], "brevityPenalty": given["bp"],
                "hypothesisLength": given["sys_len"], "referenceLength": given["ref_len"],
            }
            assert bleu(hypotheses, references, lowercase) == expected[name], (system, name)
        systems[system] = {"hypotheses": hypotheses, **expected}
    write("e2e-first100.json", {"references": references, "systems": systems})

    tokenize = Tokenizer13a()
    write("odd.json", {
        "sacrebleu": sacrebleu.__version__,
        "segments": [{"text": text, "tokens": tokenize(text.rstrip()).split()} for text in SEGMENTS],
        "corpora": {
            name: {"hypotheses": hyps, "references": refs, "mixed": bleu(hyps, refs, False), "lowercase": bleu(hyps, refs, True)}
            for name, (hyps, refs) in CORPORA.items()
        },
    })


def write(name: str, value: dict) -> None:
    (HERE / name).write_text(json.dumps(value, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
