"""A source of open-vocabulary words: names, places and topics drawn from the corpus, and names made from syllables."""
import collections
import random
import re

MONTHS = 'January February March April May June July August September October November December'.split()
HER = 'Anna Mary Clara Ruth Alice Emma Ingrid Rosa Helen Nadia Sofia Julia Amina Grace Lucy Marta Olga Eva Jane Laura Mei Priya Agnes Edith Yuki Fatima Carmen Elsa'.split()
HIM = 'John Peter Karl Ivan Tom Samuel Hugo Luis Ahmed George Paul Henry Oscar David Marco Erik James Felix Anton Victor Leo Ravi Walter Simon Kenji Omar Pedro Hans'.split()
SIGNS = ('Crown;Lantern;Anchor;Mill;Bridge;Garden;Rose;Swan;Lion;Oak;Star;Harbour;Wheel;Bell;Ship;Phoenix;Willow;Eagle;Fountain;Tower;Palace;Punter;Plough;Barge;'
         'Cricketer;Waterman;Mason;Olive;Falcon;Meadow;Pond;Castle;Gate;Arch;Square;Forge;Stable;Orchard;Cabin;Rainbow;Vault;Grove;Cellar;Saddle;Compass').split(';')
QUALITIES = 'Golden;Blue;Green;Old;New;Red;White;Royal;Silver;Little;Grand;Black;Dancing;Quiet;Happy;Lucky;Merry;Iron;Wild;Sleeping;Flying;Northern;Bright;Twin;Hungry'.split(';')
PARTS = 'ba be bo ca co da de do fa fe fi ga go ha ja ka ki la le li lo ma me mi mo na ne no pa pe po qua ra re ri ro sa se shi so ta te ti to u va ve vi wa xi ya zi zo al an ar el en er in is on or um us ath eck ing ott'.split()


class Words:
    """Names and topics; every method returns a new one, from the module-level random state."""

    def __init__(self, documents: list[dict]):
        names: collections.Counter = collections.Counter()
        nouns: collections.Counter = collections.Counter()
        adjectives: collections.Counter = collections.Counter()
        for document in documents:
            text = document['text'][:150_000]
            names.update(re.findall(r"(?<=[a-z,] )[A-Z][a-z]{3,11}\b(?!')", text))
            nouns.update(re.findall(r'\b(?:the|a|an|of|his|her|their) ([a-z]{3,11})(?= (?:of|and|was|is|in|had|at|on)\b|[,.;])', text))
            adjectives.update(re.findall(r'\b(?:very|so|more|most|rather|too) ([a-z]{4,11})(?=[ ,.;])', text))
        stop = set(re.findall(r'\w+', 'much many that than little well this often about other others same own whole rest what which matter mrs then there when and day'))
        self.names = [n for n, c in names.most_common(6000) if c >= 4 and n.lower() not in stop and n not in MONTHS]
        self.adjectives = [a for a, c in adjectives.most_common(900) if a not in stop and not a.endswith('ly')]
        known = set(self.adjectives)
        self.nouns = [n for n, c in nouns.most_common(2600) if n not in stop and n not in known]

    def invented(self) -> str:
        word = ''.join(random.choice(PARTS) for _ in range(random.choice((2, 2, 3, 3, 4))))
        if random.random() < 0.06:
            word = word.replace('e', 'é', 1)
        return word.capitalize()

    def proper(self) -> str:
        return random.choice(self.names) if random.random() < 0.6 else self.invented()

    def noun(self) -> str:
        return random.choice(self.nouns)

    def adjective(self) -> str:
        return random.choice(self.adjectives)

    def person_parts(self) -> tuple[str, str]:
        her = random.random() < 0.5
        return random.choice(HER if her else HIM) + ' ' + self.proper(), 'She' if her else 'He'

    def person(self) -> str:
        return self.person_parts()[0] if random.random() < 0.8 else random.choice(('Dr ', 'Mr ', 'Mrs ', 'Sir ', 'Professor ')) + self.proper()

    def place(self) -> str:
        return self.proper() if random.random() < 0.8 else random.choice(('New ', 'North ', 'Port ', 'St ', 'East ')) + self.proper()

    def country(self) -> str:
        return self.proper()

    def month(self) -> str:
        return random.choice(MONTHS)

    def sign(self) -> str:
        """A name such as the ones over doors: The Golden Anchor, Willow House, Lomani's."""
        return random.choice((
            lambda: f'The {random.choice(QUALITIES)} {random.choice(SIGNS)}', lambda: f'The {random.choice(SIGNS)}',
            lambda: f'The {self.noun().capitalize()}', lambda: f'The {self.proper()} {random.choice(SIGNS)}',
            lambda: f'{self.proper()} {random.choice(SIGNS)}', lambda: self.invented(), lambda: self.invented(),
            lambda: f'{self.invented()} {self.invented()}', lambda: f"{self.proper()}'s", lambda: self.proper(),
            lambda: f'{random.choice(SIGNS)} and {random.choice(SIGNS)}', lambda: f'{self.adjective().capitalize()} {self.noun().capitalize()}',
            lambda: f'The {self.adjective().capitalize()} {self.noun().capitalize()}', lambda: f'{self.proper()} of {self.proper()}'))()

    def landmark(self) -> str:
        kind = random.choice(('', '', '', ' Hotel', ' Station', ' Park', ' Hall', ' Museum', ' Square', ' Bridge', ' College', ' Tower', ' Library', ' Street', ' Market', ' Lake', ' Theatre'))
        name = self.sign() if random.random() < 0.6 else self.proper()
        return name if name.endswith("'s") or len(name.split()) > 2 else name + kind

    def company(self) -> str:
        return random.choice((lambda: self.proper(), lambda: f'{self.proper()} & Sons', lambda: f'{self.invented()} Ltd', lambda: f'{self.proper()} {random.choice(("Press", "Works", "Group", "Company", "Motors", "Line", "Books"))}'))()

    def award(self) -> str:
        return random.choice((lambda: f'the {self.proper()} {random.choice(("Prize", "Medal", "Award", "Cup"))}', lambda: f'the {random.choice(QUALITIES)} {random.choice(SIGNS)}'))()

    def league(self) -> str:
        return random.choice((lambda: f'{self.proper()} League', lambda: f'{self.proper()} Cup', lambda: random.choice(('first division', 'second division', 'Premier League', 'junior league', 'northern league'))))()

    def topic(self) -> str:
        noun = self.noun()
        many = noun if noun.endswith('s') else noun + 's'
        return random.choice((lambda: many, lambda: f'{self.adjective()} {many}', lambda: f'{noun} {random.choice(("tours", "courses", "lessons", "goods", "design", "history", "shows", "repairs", "studies", "classes"))}',
                              lambda: f'{self.proper()} {many}', lambda: f'{self.adjective()} {noun}', lambda: f'{many} and {self.noun()}'))()

    def subject(self, kind: str) -> tuple[str, str | None]:
        """The name that a record is about, and its pronoun when the name decides it."""
        if kind == 'person':
            return self.person_parts()
        if kind == 'place':
            return self.place(), None
        if kind == 'creature':
            return random.choice((lambda: f'{self.adjective()} {self.proper()}', lambda: f'{self.proper()} {random.choice(SIGNS).lower()}', lambda: self.invented().lower() + ' ' + self.invented().lower(), lambda: self.invented()))(), None
        if kind == 'title':
            return random.choice((lambda: f'The {self.adjective().capitalize()} {self.noun().capitalize()}', lambda: f'{self.noun().capitalize()} and {self.noun().capitalize()}', lambda: f'The {self.noun().capitalize()} of {self.proper()}', lambda: self.sign(), lambda: self.proper()))(), None
        if kind == 'device':
            return random.choice((lambda: f'{self.invented()} {random.randint(1, 990)}', lambda: f'{self.invented()} {random.choice("XZSMTQ")}{random.randint(1, 99)}', lambda: self.company(), lambda: self.sign()))(), None
        if kind == 'job':
            return random.choice(('Senior ', 'Junior ', 'Head ', 'Assistant ', '')) + self.noun().capitalize() + random.choice((' Keeper', ' Teacher', ' Clerk', ' Driver', ' Designer', ' Officer')), None
        if kind in ('team', 'company', 'vehicle'):
            return random.choice((lambda: f'{self.place()} {random.choice(("United", "Rovers", "Athletic", "City", "Stars"))}' if kind == 'team' else self.company(), lambda: self.sign(), lambda: self.proper()))(), None
        return self.sign(), None
