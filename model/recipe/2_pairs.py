"""Writes groups.jsonl: groups of (record, sentence) pairs and of plain text, on which the model is trained.

A group is what one training row holds. In most groups all records come from one "speaker": one domain, one way to write records
and a few ways to word them. So the model learns to take the way of speaking from what stands before it, which is what a prefix does.

usage: python 2_pairs.py WORK_FOLDER [GROUPS] [SEED]
"""
import json
import pathlib
import random
import re
import sys

import grammar as g
from words import Words

PRICE_ADJ = dict(cheap=['cheap', 'low-priced', 'inexpensive'], low=['cheap', 'low-priced'], moderate=['moderately priced', 'mid-priced'], average=['average-priced', 'moderately priced'],
                 high=['expensive', 'high-priced', 'pricey'], expensive=['expensive', 'pricey'], reasonable=['reasonably priced', 'affordable'])
RATE_ADJ = dict(low=['low-rated', 'poorly rated'], average=['average', 'average-rated'], high=['highly rated', 'well rated', 'popular'], excellent=['excellent', 'top-rated'], poor=['poorly rated', 'poor'],
                good=['good', 'well rated'])
PLANS = 'isa isa isa there there appos vps the the called offer front label terse'.split()
STOP = set('the a an and or but of to in on at by for with from as is are was were be been being it its this that these those he she they his her their him them you your i my me we our us not no so if then than there here had has have do does did would could should will shall may might can must very what which who whom whose when where how all any some such more most other into upon over under about after before again out up down own same too only just now said'.split())


def case(label: str, style: str) -> str:
    parts = label.split(' ')
    if style == 'camel':
        return parts[0] + ''.join(p.capitalize() for p in parts[1:])
    if style == 'snake':
        return '_'.join(parts)
    if style == 'title':
        return label[:1].upper() + label[1:]
    return label.upper() if style == 'upper' else label


class Speaker:
    """One way to write records of one domain and to word them."""

    def __init__(self, words: Words):
        self.words = words
        self.kind, self.types, self.pronoun, fields = random.choice(g.DOMAINS)
        self.types = self.types.split(';')
        fields = list(fields)
        fields += [self.open_field() for _ in range(random.choice((0, 0, 1, 1, 2)))] + ([self.open_boolean()] if random.random() < 0.25 else [])
        random.shuffle(fields)
        self.fields = []
        for labels, variants in fields[:random.choice((2, 3, 4, 5, 6, 6, 7))]:
            label = random.choice(labels)
            if all(label != known for known, _ in self.fields):
                self.fields.append((label, [(value, {r: random.sample(t, min(len(t), random.choice((1, 2)))) for r, t in roles.items() if t}) for value, roles in variants]))
        self.case = random.choices(('plain', 'camel', 'snake', 'title', 'upper'), (70, 12, 6, 8, 4))[0]
        self.form = random.choices((' : ', ': ', ' = ', '[]', 'triple'), (70, 8, 4, 8, 10))[0]
        self.separator = random.choices((' | ', ' ; ', ', ', ' / '), (84, 6, 6, 4))[0]
        self.name_label = random.choice(('name', 'name', 'name', 'name', 'title', 'called', 'id'))
        self.type_label = random.choice(('type', 'type', 'Type', 'kind', 'category', f'{self.kind} type', 'what'))
        self.type_p = random.choice((0, 0.85, 0.85, 1, 1))
        self.field_p = random.choice((0.6, 0.75, 0.9, 1))
        self.shuffled = random.random() < 0.4
        self.plans = random.sample(PLANS, random.choice((1, 1, 2, 3)))
        self.front_p, self.adj_max, self.pp_max = random.choice((0, 0, 0.3, 0.9)), random.choice((0, 1, 2, 2)), random.choice((0, 1, 2, 2, 3))
        self.vp_join = random.choice(('list', 'list', 'sentences', 'pairs', 'with'))
        self.subject2 = random.choice(('pronoun', 'pronoun', 'noun', 'name'))

    def open_field(self):
        label, w = self.words.noun(), self.words
        value = random.choice((w.topic, w.proper, w.noun, w.adjective, w.person, lambda: str(random.randint(2, 3000))))
        return [label], [(lambda _: value(), dict(pp=['with a {l} of {v}', 'whose {l} is {v}', 'with {v} as its {l}'], vp=['[has] a {l} of {v}', '[has] {v} as its {l}', '[has] the {l} {v}'], front=['With a {l} of {v}', 'With {v} as its {l}']))]

    def open_boolean(self):
        return g.boolean(self.words.noun(), dict(pp=['with a {l}'], vp=['[has] a {l}', 'offers a {l}'], front=['With a {l}']), dict(pp=['without a {l}'], vp=['[has] no {l}', 'lacks a {l}'], front=['Without a {l}']))

    def item(self, label, variants):
        value, roles = random.choice(variants)
        text = value(self.words)
        return dict(label=label, value=text, roles=roles)

    def pair(self) -> tuple[str, str]:
        name, pronoun = self.words.subject(self.kind)
        pronoun = pronoun or self.pronoun
        noun = random.choice(self.types)
        typed = random.random() < self.type_p
        items = [self.item(*f) for f in self.fields if random.random() < self.field_p] or [self.item(*self.fields[0])]
        record = [(self.name_label, name)] + ([(self.type_label, noun)] if typed else []) + [(i['label'], i['value']) for i in items]
        if self.form == 'triple':
            record = record[1:]
        elif self.shuffled:
            random.shuffle(record)
        shown = [(case(k, self.case), v) for k, v in record]
        if self.form == 'triple':
            source = self.separator.join(f'{name} : {k} : {v}' for k, v in shown)
        elif self.form == '[]':
            source = self.separator.join(f'{k}[{v}]' for k, v in shown)
        else:
            source = self.separator.join(f'{k}{self.form}{v}' for k, v in shown)
        if not typed:
            noun = {'venue': 'place', 'person': 'person', 'title': 'work', 'creature': 'species', 'place': 'place', 'vehicle': 'vehicle', 'device': 'product', 'team': 'team', 'company': 'company', 'event': 'event', 'job': 'job'}[self.kind]
        return source, articles(Sentence(self, name, noun, pronoun, items, typed).text())


def articles(text: str) -> str:
    """Puts "an" for "a" where the sound asks for it."""
    return re.sub(r'\b([Aa]) (?=(?:[aeioAEIO]|u(?!ni|se|su|ti|to)|8|11\b|18))(?!one\b|once\b|Eu|eu)', r'\1n ', text)


class Sentence:
    def __init__(self, speaker, name, noun, pronoun, items, typed):
        self.s, self.name, self.noun, self.pronoun, self.items, self.typed = speaker, name, noun, pronoun, items, typed
        self.plural = noun.endswith('people')

    def word(self, item, role):
        templates = item['roles'].get(role)
        if not templates:
            return None
        l, v = item['label'], item['value']
        ed = l if l in ('founded', 'established', 'opened', 'built', 'completed') else ('born' if self.s.kind == 'person' else 'founded')
        dim = l if l in ('length', 'height', 'width', 'depth', 'span') else 'length'
        fill = dict(l=l, v=v, an='a', l_ed=ed, L_ed=ed.capitalize(), l_noun=l if l in ('owner', 'manager', 'director', 'head', 'keeper') else 'owner', l_dim=dim,
                    l_dim_adj=dict(height='high', width='wide', depth='deep').get(dim, 'long'), l_people={'crew': 'crew members', 'passengers': 'passengers'}.get(l, 'people'))
        text = random.choice(templates)
        for key, table in (('price_adj', PRICE_ADJ), ('rate_adj', RATE_ADJ)):
            fill[key] = random.choice(table.get(v, [v + '-rated']))
        text = text.format(**fill)
        text = text.replace('priced priced', 'priced')
        return text.replace('[is]', 'is').replace('[has]', 'has').replace('[was]', 'was')

    def assign(self, front: bool):
        """Gives every item a place: adjectives, phrases after the noun, an opening, and verb phrases for the rest."""
        adj, pp, vp, opening = [], [], [], None
        for item in self.items:
            if front and opening is None and item['roles'].get('front'):
                opening = self.word(item, 'front')
            elif len(adj) < self.s.adj_max and item['roles'].get('adj') and random.random() < 0.9:
                adj.append(self.word(item, 'adj'))
            elif len(pp) < self.s.pp_max and item['roles'].get('pp'):
                pp.append(self.word(item, 'pp'))
            else:
                vp.append(self.word(item, 'vp'))
        return adj, pp, vp, opening

    def follow(self, vps: list[str]) -> str:
        """Later sentences, from verb phrases."""
        if not vps:
            return ''
        subjects = [self.pronoun if self.s.subject2 == 'pronoun' else f'The {self.noun}' if self.s.subject2 == 'noun' else self.name, self.pronoun]
        if self.s.vp_join == 'sentences':
            return ''.join(f' {subjects[min(i, 1)]}{" also" if i and random.random() < 0.5 else ""} {v}.' for i, v in enumerate(vps))
        size = 2 if self.s.vp_join == 'pairs' else 9
        return ''.join(f' {subjects[min(i, 1)]} {joined(vps[i:i + size])}.' for i in range(0, len(vps), size))

    def text(self) -> str:
        plan = random.choice(self.s.plans)
        if plan == 'offer' and self.s.kind in ('person', 'creature', 'place'):
            plan = 'isa'
        adj, pp, vp, opening = self.assign(plan == 'front' or random.random() < self.s.front_p)
        if plan in ('label', 'terse', 'vps'):
            return self.plain(plan)
        if len(pp) > 1 and random.random() < 0.35:
            pp[-1] = 'and ' + pp[-1]
        head, after = ' '.join(adj + [self.noun]), ''.join(' ' + p for p in pp)
        lead = opening + ', ' if opening else ''
        there = lead + ('there is' if lead else 'There is')
        if plan == 'there':
            called = random.choice(('called', 'named'))
            first = random.choice((f'{there} a {head} {called} {self.name}{after}', f'{there} a {head}{after} {called} {self.name}'))
        elif plan == 'front' and opening:
            first = random.choice((f'{lead}there is a {head}{after} called {self.name}', f'{lead}{self.name} is a {head}{after}', f'{lead}you can find {self.name}, a {head}{after}'))
        elif plan == 'appos' and vp:
            return f'{lead}{self.name}, a {head}{after}, {joined(vp)}.'
        elif plan == 'the' and (vp or pp or opening):
            return f'{lead}{"the" if lead else "The"} {head} {self.name}{after} {joined(vp)}.' if vp else f'{lead}{self.name} is the {head}{after}.'
        elif plan == 'called':
            first = random.choice((f'{lead}{self.name} is the name of a {head}{after}', f'{lead}{"a" if lead else "A"} {head}{after} is called {self.name}', f'{lead}{self.name} is the {head}{after}'))
        elif plan == 'offer':
            first = random.choice((f'For a {head}{after}, try {self.name}', f'If you want a {head}{after}, look at {self.name}', f'{self.name} offers you a {head}{after}', f'Looking for a {head}{after}? Try {self.name}'))
            if opening:
                first = f'{lead}{self.name} is a {head}{after}'
        else:
            first = f'{lead}{self.name} is a {head}{after}'
        if vp and self.s.vp_join == 'with' and plan in ('isa', 'front'):
            rest = f'{random.choice((", and", " and", " that", ". It" if self.s.kind != "person" else " who"))} {joined(vp)}.'
            return first + (rest if 'who' not in rest and 'that' not in rest or after == '' or len(pp) < 2 else ' and ' + joined(vp) + '.')
        return first + '.' + self.follow(vp)

    def labelled(self, item) -> str:
        if item['value'] in ('yes', 'no', 'true', 'false') or re.search(r'( |^)(in|by|to|for|on|near|with|from|of|\w+s)$', item['label']):
            return f'{self.name} {self.word(item, "vp")}'
        return random.choice((f'The {item["label"]} of {self.name} is {item["value"]}', f"{self.name}'s {item['label']} is {item['value']}"))

    def plain(self, plan: str) -> str:
        if plan == 'label':
            parts = [self.labelled(i) for i in self.items]
            kind = [f'{self.name} is a {self.noun}'] if self.typed else []
            return '. '.join(kind + parts) + '.'
        if plan == 'terse':
            kind = [self.noun] if self.typed else []
            return f'{self.name}: ' + ', '.join(kind + [self.word(i, 'pp') or self.word(i, 'vp') for i in self.items]) + '.'
        vps = [self.word(i, 'vp') for i in self.items]
        if self.typed:
            vps.insert(0, f'is a {self.noun}')
        if len(vps) <= 3:
            return f'{self.name} {joined(vps)}.'
        return f'{self.name} {joined(vps[:2])}.' + self.follow(vps[2:])


def joined(phrases: list[str]) -> str:
    """One verb phrase of several: a, b and c; a verb that repeats is said once, and a denial after a claim gets a "but"."""
    out = [phrases[0]]
    for before, phrase in zip(phrases, phrases[1:]):
        verb = phrase.split(' ')[0]
        out.append(phrase[len(verb) + 1:] if verb == before.split(' ')[0] and verb in ('is', 'has', 'was') and random.random() < 0.5 else phrase)
    denial = len(out) > 1 and re.search(r'\b(not|no|lacks|never|bans)\b', out[-1]) and not re.search(r'\b(not|no|lacks)\b', out[-2])
    word = ' but ' if denial and random.random() < 0.6 else ' and '
    return (', '.join(out[:-1]) + random.choice((word, word, ',' + word)) if len(out) > 2 else out[0] + word if len(out) == 2 else '') + out[-1]


def spans(sentence: str, labels: list[str], style: dict):
    """A pair made of a real sentence: some of its words as the record, the sentence as what they say."""
    words = sentence.split()
    n = len(words)
    if not 6 <= n <= 30:
        return None
    cover, used, picked, total = random.uniform(0.35, 0.85) * n, [False] * n, [], 0
    bare = [re.sub(r'\W', '', w).lower() for w in words]
    for i in random.sample(range(n), n):
        if total >= cover or len(picked) >= 7:
            break
        if used[i] or bare[i] in STOP or (len(bare[i]) < 3 and not bare[i].isdigit()):
            continue
        j = i + 1
        while j < n and j - i < random.choice((1, 2, 2, 3)) and not used[j]:
            j += 1
        while j > i + 1 and bare[j - 1] in STOP:
            j -= 1
        used[i:j] = [True] * (j - i)
        text = ' '.join(words[i:j]).strip('.,;:!?"\'()[]-')
        if text:
            picked.append((i, text))
            total += j - i
    if len(picked) < 2:
        return None
    if style['sorted']:
        picked.sort()
    return ' | '.join(f'{random.choice(labels)} : {t}' if style['labels'] else t for _, t in picked), sentence


def main() -> None:
    work = pathlib.Path(sys.argv[1])
    groups = int(sys.argv[2]) if len(sys.argv) > 2 else 60_000
    random.seed(int(sys.argv[3]) if len(sys.argv) > 3 else 3)
    documents = [json.loads(line) for line in open(work / 'docs.jsonl', encoding='utf8')]
    words = Words(documents)
    print(f'{len(words.names)} names, {len(words.nouns)} nouns, {len(words.adjectives)} adjectives')
    dart = [tuple(d['text'].split('\n', 1)) for d in documents if d['source'] == 'dart' and '\n' in d['text']]
    sentences, chunks = [], []
    for document in documents:
        if document['source'] == 'dart':
            continue
        found = [s.strip() for line in document['text'].split('\n') for s in re.split(r'(?<=[.!?])["\']?\s+(?=[A-Z"])', line)]
        found = [s for s in found if 30 < len(s) < 190 and '"' not in s and 'est.' not in s and '<unk>' not in s
                 and s[0].isupper() and s[-1] in '.!?' and not re.search(r'\b(Mr|Mrs|Dr|St)\.$', s) and sum(c.isalpha() or c == ' ' for c in s) > 0.9 * len(s)]
        keep = {'fact': 1, 'wiki': 1, 'novel': 0.15}.get(document['source'], 0.4)
        sentences += [s for s in found if random.random() < keep]
        text = document['text']
        chunks += [text[i:i + 900] for i in range(0, len(text), 900) if random.random() < keep * (0.15 if document['source'] == 'fact' else 0.6)]
    random.shuffle(sentences)
    random.shuffle(chunks)
    kinds = random.choices(('speaker', 'mixed', 'span', 'text', 'dart'), (50, 16, 20, 11, 3), k=groups)
    with open(work / 'groups.jsonl', 'w', encoding='utf8') as out:
        for kind in kinds:
            if kind == 'text':
                pairs = [('', chunks.pop())]
            elif kind == 'dart':
                pairs = random.sample(dart, 4)
            elif kind == 'span':
                style = dict(sorted=random.random() < 0.7, labels=random.random() < 0.6)
                labels = random.sample(words.nouns, random.choice((3, 40)))
                pairs = [p for p in (spans(sentences.pop(), labels, style) for _ in range(6)) if p]
            else:
                speaker = Speaker(words)
                pairs = []
                while sum(len(a) + len(b) for a, b in pairs) < 800:
                    pairs.append(speaker.pair())
                    if kind == 'mixed':
                        speaker = Speaker(words)
            out.write(json.dumps([kind, pairs], ensure_ascii=False) + '\n')
    print(f'{groups} groups, {len(sentences)} sentences and {len(chunks)} chunks of text left over')


if __name__ == '__main__':
    main()
