"""Chooses the sample of the E2E NLG Challenge data set that lies beside this script.

Usage: python choose.py FOLDER     FOLDER holds the data set's trainset.csv and devset.csv
Plain Python, seeded: the same files give the same sample.
"""

import csv
import json
import random
import re
import sys
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).resolve().parent
TRAINING, HELD_OUT, SEED = 300, 50, 1
KEYS = {"eatType": "type", "priceRange": "price", "familyFriendly": "family friendly"}
# What a sentence must say word for word to be chosen for training; prices and ratings have too many paraphrases to ask it.
LITERAL = {"name", "type", "food", "near"}
DENIAL = re.compile(r"\b(not|non|no|never|un\w+|adults?|without)\b|n't")


def fields_of(mr: str) -> list[tuple[str, str]]:
    """name[The Vaults], eatType[pub] → [(name, The Vaults), (type, pub)]"""
    pairs = re.findall(r"\s*([^\[\],]+)\[([^\]]*)\]", mr)
    return [(KEYS.get(key, key), " ".join(value.split())) for key, value in pairs]


def read(file: Path) -> dict[str, list[str]]:
    """Sentences by record, both with their white space normalised."""
    sentences = defaultdict(dict)
    with file.open(encoding="utf-8", newline="") as rows:
        for row in csv.DictReader(rows):
            record = " | ".join(f"{key} : {value}" for key, value in fields_of(row["mr"]))
            sentences[record][" ".join(row["ref"].split())] = None
    return {record: list(texts) for record, texts in sentences.items()}


def says(sentence: str, record: str) -> bool:
    """Whether it has the literal values, denies being family friendly just when the record does, and ends properly."""
    fields = dict(field.split(" : ", 1) for field in record.split(" | "))
    literal = all(value.lower() in sentence.lower() for key, value in fields.items() if key in LITERAL)
    friendly = fields.get("family friendly")
    denial = friendly is None or (friendly == "no") == bool(DENIAL.search(sentence.lower()))
    return literal and denial and sentence.endswith(".")


def spread(records: list[str], count: int, chance: random.Random) -> list[str]:
    """As many short records as long ones, each length in random order."""
    by_length = defaultdict(list)
    for record in sorted(records):
        by_length[record.count(" | ")].append(record)
    for group in by_length.values():
        chance.shuffle(group)
    chosen = []
    while len(chosen) < count:
        for length in sorted(by_length):
            if by_length[length] and len(chosen) < count:
                chosen.append(by_length[length].pop())
    chance.shuffle(chosen)
    return chosen


def write(name: str, rows: list[dict]) -> None:
    (HERE / name).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def main(source: str) -> None:
    chance = random.Random(SEED)
    train, development = read(Path(source) / "trainset.csv"), read(Path(source) / "devset.csv")
    whole = {record: [s for s in sentences if says(s, record)] for record, sentences in train.items() if record not in development}
    chosen = spread([record for record, sentences in whole.items() if sentences], TRAINING, chance)
    write("train.jsonl", [{"input": record, "output": chance.choice(whole[record])} for record in chosen])
    held_out = spread(list(development), HELD_OUT, chance)
    assert not set(held_out) & set(chosen)
    write("heldout.jsonl", [{"input": record, "references": development[record]} for record in held_out])


if __name__ == "__main__":
    main(*sys.argv[1:])
