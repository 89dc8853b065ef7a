"""Reads a corpus (one JSON document a line, xz: {"source", "text"}), cleans it and writes docs.jsonl.

usage: python 1_corpus.py CORPUS.jsonl.xz WORK_FOLDER
"""
import json
import lzma
import pathlib
import re
import sys

# Of NLTK's eight Genesis translations only these two are surely in the public domain (King James, World English Bible).
GENESIS_OPENINGS = (
    'In the beginning God created the heaven and the earth.\nAnd the earth was without form, and void;',
    'In the beginning God created the heavens and the earth.\nNow the earth was formless',
)


def clean(source: str, text: str) -> str | None:
    """Returns the text as the model shall see it, or nothing if the document is to be left out."""
    text = text.replace('\ufeff', '').replace('\r', '')
    if source == 'genesis' and not any(re.sub(r'\s+', ' ', text).startswith(re.sub(r'\s+', ' ', o)) for o in GENESIS_OPENINGS):
        return None
    text = text.replace('“', '"').replace('”', '"').replace('’', "'").replace('‘', "'").replace('—', ' - ')
    if source == 'wiki':  # WikiText is tokenized: "1 @,@ 000 ( about )" is put back together.
        text = text.replace(' <unk>', '')
        text = re.sub(r' ([,.;:!?%)\]])', r'\1', text)
        text = re.sub(r'([(\[$£€]) ', r'\1', text)
        text = re.sub(r" '(s|t|re|ve|ll|d|m)\b", r"'\1", text)
        text = re.sub(r'\n ?=+ .*? =+ ?\n', '\n', text)
    if source in ('state_union', 'inaugural', 'genesis'):  # Lines are wrapped there: join those of one paragraph.
        text = re.sub(r'(?<!\n)\n(?!\n)', ' ', text)
    text = re.sub(r'[ \t]+', ' ', text)
    return re.sub(r'\s*\n\s*', '\n', text).strip()


def main() -> None:
    corpus, work = sys.argv[1], pathlib.Path(sys.argv[2])
    work.mkdir(parents=True, exist_ok=True)
    counts: dict[str, list[int]] = {}
    with lzma.open(corpus, 'rt', encoding='utf8') as lines, open(work / 'docs.jsonl', 'w', encoding='utf8') as out:
        for line in lines:
            document = json.loads(line)
            text = clean(document['source'], document['text'])
            if not text:
                continue
            out.write(json.dumps({'source': document['source'], 'text': text}, ensure_ascii=False) + '\n')
            count = counts.setdefault(document['source'], [0, 0])
            count[0] += 1
            count[1] += len(text)
    for source, (documents, characters) in counts.items():
        print(f'{source}: {documents} documents, {characters / 1e6:.2f} M characters')


if __name__ == '__main__':
    main()
