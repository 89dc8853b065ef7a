"""Writes the metrics' test data: E2E system outputs and odd texts, with the figures that the metrics' own tools give them.

Usage: python make.py FOLDER E2E_METRICS
FOLDER holds e2e_first100_golden.json and e2e_test_first100_{tgen,slug}.json; E2E_METRICS is a copy of tuetschek/e2e-metrics.
"""

import json
import random
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pycocoevalcap
import sacrebleu
from nltk.stem.porter import PorterStemmer
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU, CHRF, TER
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

# For TER's search beside CORPORA: runs that moved, lengths that leave the band around the diagonal, many repetitions.
SHIFTED = {
    "two runs moved": (["near the river there is a pub called The Mill with a high rating"], [["The Mill is a pub with a high rating near the river"]]),
    "a run moved inside itself": (["a b a b a c"], [["b a b a c a"]]),
    "short against very long": (["pub the mill"], [[" ".join(f"w{i} the mill" for i in range(40))]]),
    "very long against short": ([" ".join(f"w{i} the mill" for i in range(40))], [["the mill w3 pub", "w39 the mill"]]),
    "marks and possessives": (["Strada's prices, e.g. 1,000.50 or 5-10, aren't \"low\"."], [["The prices of Strada's are not \"low\": 1,000.50, or 5-10."]]),
}

# Stems that show each rule and each exception; the words of the E2E texts are added.
WORDS = """caresses ponies ties dies flies caress cats feed agreed plastered bled motoring sing conflated troubled sized hopping tanned
falling hissing fizzed failing filing happy sky skies enjoy by spy relational conditional rational valency hesitancy digitizer
conformably radically differently vilely analogously vietnamization predication operator feudalism decisiveness hopefulness
callousness formality sensitivity sensibility triplicate formative formalize electricity electrical hopeful goodness revival
allowance inference airliner gyroscopic adjustable defensible irritant replacement adjustment dependent adoption homologous
communism activate angularity effective bowdlerize probate rate cease controlling roll dying lying tying news innings outing
cannings proceed exceed succeed howe died spied tried geology theology archaeology fully hopefully usually us as ys yyyy syzygy
toy oed eed ied ing ed a 5th 20s caffeine usefully ally rally""".split()

# Where the words of COCO's evaluation are not what one would guess.
SENTENCES = [
    "It's £20-25, isn't it?", "They can't, won't and cannot.", "Prices (£20–25) are \"low\".", "In the city center., near U.K. food.",
    "A 3/5 rating: 1,000.50 or .5 at -25.", "Hors d'oeuvres & more!", "We're gonna say I'm sure they'd've seen 'em.", "family-friendly, kid-friendly pub -- cheap...",
    "Mr. Smith of St. John's vs. Dr. Who.", "Café Adriatic's €30 menu", "5of5 l20-25 5-star", "[x] {y}", "",
]


def figures(score) -> dict:
    return {"score": score.score, "precisions": score.precisions, "brevityPenalty": score.bp, "hypothesisLength": score.sys_len, "referenceLength": score.ref_len}


def bleu(hypotheses: list[str], references: list[list[str]], lowercase: bool) -> dict:
    most = max(len(refs) for refs in references)
    # sacrebleu wants one stream per reference number, None where a segment has fewer.
    streams = [[refs[i] if i < len(refs) else None for refs in references] for i in range(most)]
    return figures(BLEU(lowercase=lowercase).corpus_score(hypotheses, streams))


def all_figures(hypotheses: list[str], references: list[list[str]], nist_score, with_coco: bool, with_meteor: bool) -> dict:
    """What each metric's own tool gives, lower-cased where the E2E challenge does so."""
    most = max(len(refs) for refs in references)
    streams = [[refs[i] if i < len(refs) else None for refs in references] for i in range(most)]
    found = {
        "chrf": CHRF().corpus_score(hypotheses, streams).score,
        "chrfLowercase": CHRF(lowercase=True).corpus_score(hypotheses, streams).score,
        "chrf++": CHRF(word_order=2).corpus_score(hypotheses, streams).score,
        "ter": TER().corpus_score(hypotheses, streams).score,
        "terNormalized": TER(normalized=True).corpus_score(hypotheses, streams).score,
    }
    kinds = ["rouge1", "rouge2", "rougeL"]
    for name, stemming in (("rougeStemmed", True), ("rouge", False)):
        scorer = RougeScorer(kinds, use_stemmer=stemming)
        scores = [scorer.score_multi(refs, hypothesis) for hypothesis, refs in zip(hypotheses, references)]
        found[name] = {
            kind: {part: sum(getattr(s[kind], part) for s in scores) / len(scores) for part in ("precision", "recall", "fmeasure")}
            for kind in kinds
        }
    # The Python script takes a text of fewer than five words for one with a negative number of n-grams, an empty one for one word.
    short = any(len(Tokenizer13a()(text).split()) < 5 for text in hypotheses)
    if not short and "" not in [text for refs in references for text in refs]:
        nist = nist_score()
        for hypothesis, refs in zip(hypotheses, references):
            nist.append(hypothesis, refs)
        found["nist"] = nist.score()
    if with_coco:
        words = [coco_words(refs) for refs in references]
        ours = {i: [text] for i, text in enumerate(coco_words(hypotheses))}
        theirs = dict(enumerate(words))
        found["cocoRougeL"] = float(Rouge().compute_score(theirs, ours)[0])
        found["cider"] = float(Cider().compute_score(theirs, ours)[0])
        if with_meteor:
            found["meteor"] = meteor([ours[i][0] for i in ours], words)
    return found


def coco_words(texts: list[str]) -> list[str]:
    tokenized = PTBTokenizer().tokenize({i: [{"caption": text}] for i, text in enumerate(texts)})
    return [tokenized[i][0] for i in range(len(texts))]


def meteor(hypotheses: list[str], references: list[list[str]]) -> float:
    """The official program without synonyms and paraphrases, which need its tables."""
    jar = Path(pycocoevalcap.__path__[0]) / "meteor" / "meteor-1.5.jar"
    command = ["java", "-jar", str(jar), "-", "-", "-stdio", "-l", "en", "-norm", "-m", "exact stem"]

    def ask(lines: list[str]) -> list[str]:
        return subprocess.run(command, input="\n".join(lines) + "\n", capture_output=True, text=True, check=True).stdout.split("\n")

    statistics = ask([" ||| ".join(["SCORE", *refs, hypothesis]) for hypothesis, refs in zip(hypotheses, references)])
    return float(ask([" ||| ".join(["EVAL", *statistics[: len(hypotheses)]])])[len(hypotheses)])


def random_corpus(seed: int) -> tuple[list[str], list[list[str]]]:
    """Few words, often repeated, so that TER has many shifts to choose from."""
    draw = random.Random(seed)
    text = lambda: " ".join(draw.choice("the a of pub mill river food near low".split()) for _ in range(draw.randint(5, 45)))
    return [text() for _ in range(12)], [[text() for _ in range(draw.randint(1, 4))] for _ in range(12)]


def main(source: str, e2e_metrics: str) -> None:
    sys.path.insert(0, e2e_metrics)
    from metrics.pymteval import NISTScore

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

    # The texts of these two are in e2e-first100.json.
    scores = {name: all_figures(s["hypotheses"], references, NISTScore, True, True) for name, s in systems.items()}
    for name in systems:
        official = published[name]["official_e2e_metrics(py-mteval BLEU/NIST, METEOR 1.5, COCO ROUGE_L, CIDEr)"]
        for ours, theirs in (("nist", "NIST"), ("cocoRougeL", "ROUGE_L"), ("cider", "CIDEr")):
            assert f"{scores[name][ours]:.4f}" == official[theirs], (name, ours)
        scores[name]["officialMeteor"] = float(official["METEOR"])
    odd = {}
    for name, (hyps, refs) in {**CORPORA, **SHIFTED, **{f"random {seed}": random_corpus(seed) for seed in (1, 2, 3)}}.items():
        empty = any(text == "" for text in [*hyps, *(ref for some in refs for ref in some)])
        odd[name] = {"hypotheses": hyps, "references": refs, "figures": all_figures(hyps, refs, NISTScore, not empty, False)}
    write("scores.json", {
        "versions": {name: version(name) for name in ("sacrebleu", "rouge-score", "nltk", "pycocoevalcap")},
        "e2e": scores,
        "odd": odd,
    })

    texts = [*(s for some in references for s in some), *(h for s in systems.values() for h in s["hypotheses"])]
    words = sorted({*WORDS, *(word for text in texts for word in re.findall("[a-z0-9]+", text.lower()))})
    stemmer = PorterStemmer()
    write("words.json", {
        "stems": {word: stemmer.stem(word) for word in words},
        "coco": [{"text": text, "words": words.split()} for text, words in zip(SENTENCES, coco_words(SENTENCES))],
    })


def write(name: str, value: dict) -> None:
    (HERE / name).write_text(json.dumps(value, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
