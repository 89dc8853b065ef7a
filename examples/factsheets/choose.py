"""Makes fact sheets and their summaries from the CIA World Factbook: train.jsonl and heldout.jsonl beside this file.

usage: python choose.py CORPUS.jsonl.xz   (a JSON line per document, {"source", "text"}; those of the source "fact" are read)
"""
import html
import json
import lzma
import pathlib
import random
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
SEED = 7
HELD_OUT = 40
# What a sheet has of a country, in this order: the Factbook's field, and what it is called here.
FIELDS = [
    ('Location', 'location'), ('Climate', 'climate'), ('Natural resources', 'resources'), ('Government type', 'government'),
    ('Agricultural products', 'agriculture'), ('Industries', 'industries'), ('Exports - commodities', 'exports'),
    ('Exports - partners', 'customers'), ('Real GDP per capita 2023', 'GDP per capita'), ('Real GDP growth rate 2023', 'growth'),
    ('Unemployment rate 2023', 'unemployment'),
]
# Of a field, and of a sheet, in words: beyond it the encoder of a small model would read half of it only.
FIELD_WORDS_MAX, SHEET_WORDS_MIN, SHEET_WORDS_MAX = 24, 40, 150
CLAUSES_MAX, SUMMARY_WORDS_MAX = 3, 28


def tidy(text: str) -> str:
    """Without notes, shares and years in brackets, and in plain characters where there are such."""
    text = html.unescape(text).replace('\u2019', "'")
    text = re.split(r'\bnote\b', text)[0]
    text = re.sub(r'\s*\([^()]*\)', '', text)
    text = re.sub(r'\s*\d+(\.\d+)?%(?=[,;]|$)', '', text) if ',' in text and '%' in text else text
    return re.sub(r'\s+', ' ', text).strip(' ;,.')


def field(text: str, name: str) -> str:
    found = re.search(rf'^{re.escape(name)}: (.*)$', text, re.MULTILINE)
    words = tidy(found.group(1)).split() if found else []
    return ' '.join(words[:FIELD_WORDS_MAX]).rstrip(' ;,')


def row_of(text: str) -> tuple[str, str] | None:
    """The sheet, and the first clauses of what the Factbook's editors say in sum."""
    country, overview = field(text, 'conventional short form'), re.search(r'^Economic overview: (.*)$', text, re.MULTILINE)
    if not country or country == 'none' or not overview:
        return None
    clauses = [clause.strip() for clause in tidy(overview.group(1)).split(';')][:CLAUSES_MAX]
    while len('; '.join(clauses).split()) > SUMMARY_WORDS_MAX:
        clauses.pop()
    facts = [f'{ours}: {value}' for name, ours in FIELDS if (value := field(text, name))]
    sheet = ' | '.join([f'country: {country}', *facts])
    if not clauses or not SHEET_WORDS_MIN <= len(sheet.split()) <= SHEET_WORDS_MAX:
        return None
    return sheet, '; '.join(clauses)


def main() -> None:
    with lzma.open(sys.argv[1], 'rt', encoding='utf8') as lines:
        texts = [document['text'] for document in map(json.loads, lines) if document['source'] == 'fact']
    rows = sorted({row for row in map(row_of, texts) if row})
    random.Random(SEED).shuffle(rows)
    with open(HERE / 'heldout.jsonl', 'w', encoding='utf8') as out:
        for sheet, summary in rows[:HELD_OUT]:
            out.write(json.dumps({'input': sheet, 'references': [summary]}, ensure_ascii=False) + '\n')
    with open(HERE / 'train.jsonl', 'w', encoding='utf8') as out:
        for sheet, summary in rows[HELD_OUT:]:
            out.write(json.dumps({'input': sheet, 'output': summary}, ensure_ascii=False) + '\n')
    print(len(rows) - HELD_OUT, 'and', HELD_OUT)


if __name__ == '__main__':
    main()
