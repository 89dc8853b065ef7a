"""Gives most records of groups.jsonl another task than a sentence, so that the bare model does not settle on one.

A frozen base should know several things that can be done with a record, and leave it to a prefix to say which. Of the rows from
one speaker or of many, about a third keep their sentences; the others, row by row, repeat the record as it is, write it in
another notation, list values or labels, sort or count the fields, or ask for one. Writes tasks/groups.jsonl.

usage: python 2_tasks.py WORK_FOLDER [SEED]
"""
import json
import pathlib
import random
import re
import sys

SENTENCE_SHARE = 0.35
REPEAT_SHARE = 0.30

Fields = list[tuple[str, str]]


def fields_of(record: str) -> Fields | None:
    """Label and value pairs of a record in one of the common notations; None where it is in no such notation."""
    for between in (' | ', '; ', ', '):
        parts = record.split(between)
        for inside in (r'(.+?) : (.+)', r'(.+?): (.+)', r'(.+?) = (.+)', r'(.+?)=(.+)', r'(.+?)\[(.+)\]'):
            matches = [re.fullmatch(inside, part.strip()) for part in parts]
            if len(parts) > 1 and all(matches):
                return [(m[1], m[2]) for m in matches]
    return None


TASKS = {
    'equals': lambda f: '; '.join(f'{k}={v}' for k, v in f),
    'colons': lambda f: ', '.join(f'{k}: {v}' for k, v in f),
    'brackets': lambda f: ', '.join(f'{k}[{v}]' for k, v in f),
    'list': lambda f: '\n'.join(f'- {k}: {v}' for k, v in f),
    'values': lambda f: ', '.join(v for _, v in f),
    'labels': lambda f: ', '.join(k for k, _ in f),
    'sorted': lambda f: ' | '.join(f'{k} : {v}' for k, v in sorted(f)),
    'count': lambda f: f'{len(f)} fields.',
    'question': lambda f: f'What is the {f[-1][0]} of {f[0][1]}?',
    'last': lambda f: f'{f[-1][0]}: {f[-1][1]}',
}


def main() -> None:
    work = pathlib.Path(sys.argv[1])
    random.seed(int(sys.argv[2]) if len(sys.argv) > 2 else 11)
    out = work / 'tasks'
    out.mkdir(exist_ok=True)
    names, counts = list(TASKS), {}
    with open(work / 'groups.jsonl', encoding='utf8') as source, open(out / 'groups.jsonl', 'w', encoding='utf8') as target:
        for line in source:
            kind, pairs = json.loads(line)
            chance = random.random()
            if kind in ('speaker', 'mixed') and chance > SENTENCE_SHARE:
                task = 'repeat' if chance < SENTENCE_SHARE + REPEAT_SHARE else random.choice(names)
                fields = [fields_of(record) for record, _ in pairs]
                if all(fields):
                    pairs = [(record, record if task == 'repeat' else TASKS[task](f)) for (record, _), f in zip(pairs, fields)]
                    kind = task
            counts[kind] = counts.get(kind, 0) + 1
            target.write(json.dumps([kind, pairs], ensure_ascii=False) + '\n')
    print(counts)


if __name__ == '__main__':
    main()
