"""What the synthetic records speak of: words, shared fields and domains, read by 2_pairs.py. No food venues among them.

A field is (labels, variants). A variant is (values, roles): `values` is a function of the word source or a list, and `roles`
says how a value may be worded, by place in the sentence:
  adj    before the noun            "a {cheap} museum"
  pp     after the noun             "a museum {near the bridge}"
  vp     as a verb phrase           "It {has a rating of 4 out of 5}."
  front  before the main clause     "{With a rating of 4 out of 5}, ..."
In a verb phrase [is], [has] and [was] agree with the subject.
"""
import random


def choice(text: str):
    """A value source that picks one of the words between semicolons."""
    words = text.split(';')
    return lambda w: random.choice(words)


def number(low: int, high: int, form: str = '{}'):
    def pick(w) -> str:
        n = random.randint(low, high)
        if n >= 1000 and 'year' not in form and random.random() < 0.7:
            return form.replace('year', '').format(f'{n:,}')
        return form.replace('year', '').format(n)
    return pick


def money(w) -> str:
    sign = random.choice('££££$$€')
    n = random.choice((5, 7, 8, 10, 12, 15, 18, 20, 25, 30, 35, 40, 50, 60, 75, 90, 100, 120, 150))
    more = n + random.choice((5, 10, 20))
    return random.choice((f'{sign}{n}', f'{sign}{n}', f'less than {sign}{n}', f'more than {sign}{n}', f'under {sign}{n}', f'over {sign}{n}',
                          f'{sign}{n}-{more}', f'{sign}{n} to {sign}{more}', f'from {sign}{n}', f'{sign}{n}.50'))


def rating(w) -> str:
    return random.choice(('1 out of 5', '2 out of 5', '3 out of 5', '4 out of 5', '5 out of 5', f'{random.randint(1, 10)} out of 10',
                          f'{random.randint(1, 9)}.{random.randint(0, 9)}', f'{random.randint(3, 9) * 10 + random.randint(0, 9)}%', f'{random.randint(1, 5)}/5'))



AREA = (['area', 'location', 'area', 'part of town', 'district', 'where', 'located in', 'quarter', 'zone'], [
    (choice('city centre;riverside;old town;harbour;market square;north bank;south side;town centre;east end;suburbs;waterfront;village;west end;university quarter;'
            'hill district;docklands;high street;seafront;main square;railway quarter;upper town;lower town;business district;countryside'),
     dict(pp=['in the {v}', 'in the {v}', 'in the {v} area', 'located in the {v}', 'situated in the {v}', 'by the {v}', 'in the area of the {v}', 'found in the {v}'],
          vp=['[is] located in the {v}', '[is] in the {v}', '[is] in the {v} area', '[is] situated in the {v}', '[is] located in the {v} area', 'can be found in the {v}', 'lies in the {v}'],
          front=['In the {v}', 'In the {v} area', 'Located in the {v}', 'Situated in the {v}'])),
    (lambda w: w.place(), dict(pp=['in {v}', 'located in {v}', 'in the {v} area', 'situated in {v}'], vp=['[is] located in {v}', '[is] in {v}', '[is] in the {v} area', 'can be found in {v}'],
                               front=['In {v}', 'Located in {v}', 'In the {v} area']))])
NEAR = (['near', 'near', 'close to', 'next to', 'neighbour', 'nearest landmark', 'beside', 'nearby'], [
    (lambda w: w.landmark(), dict(pp=['near {v}', 'near {v}', 'close to {v}', 'near to {v}', 'located near {v}', 'not far from {v}', 'next to {v}', 'situated close to {v}'],
                                  vp=['[is] near {v}', '[is] close to {v}', '[is] located near {v}', '[is] located close to {v}', '[is] next to {v}', '[is] not far from {v}', 'can be found near {v}', '[is] situated near {v}'],
                                  front=['Near {v}', 'Close to {v}', 'Located near {v}', 'Not far from {v}', 'Next to {v}', 'Located close to {v}']))])
PRICE = (['price', 'price range', 'priceRange', 'cost', 'prices', 'fee', 'entry', 'charge', 'price level'], [
    (choice('cheap;moderate;high;low;moderate;high;cheap;expensive;average;reasonable'),
     dict(adj=['{v}-priced', '{v} priced', '{price_adj}'], pp=['with {v} prices', 'with a {v} price range', 'in the {v} price range', 'at {v} prices'],
          vp=['[has] {v} prices', '[has] a {v} price range', '[is] in the {v} price range', '[is] {price_adj}', 'offers {v} prices'],
          front=['With {v} prices', 'In the {v} price range', 'With a {v} price range'])),
    (money, dict(pp=['for {v}', 'with prices of {v}', 'with a price range of {v}', 'in the {v} price range', 'priced at {v}', 'costing {v}', 'with prices {v}'],
                 vp=['costs {v}', '[has] a price range of {v}', '[has] prices of {v}', '[is] priced at {v}', '[is] in the {v} price range', 'charges {v}', '[has] prices {v}'],
                 front=['For {v}', 'Priced at {v}', 'With prices of {v}', 'With a price range of {v}']))])
RATING = (['rating', 'customer rating', 'score', 'rated', 'visitor rating', 'reviews', 'stars', 'customer rating', 'user rating', 'grade', 'public rating'], [
    (rating, dict(pp=['rated {v}', 'with a rating of {v}', 'with a {l} of {v}', 'that is rated {v}', 'with a {v} rating', 'with a {v} {l}', 'that has a {l} of {v}'],
                  vp=['[has] a rating of {v}', '[is] rated {v}', '[has] a {l} of {v}', '[has] been rated {v}', '[has] a {v} rating', '[has] a {v} {l}', 'received a {l} of {v}'],
                  front=['With a rating of {v}', 'Rated {v}', 'With a {l} of {v}'])),
    (choice('low;average;high;low;average;high;excellent;poor;good;very high;very low'),
     dict(adj=['{rate_adj}', '{v}-rated', '{v} rated'], pp=['with a {v} rating', 'with a {v} {l}', 'with {v} ratings', 'that has a {v} {l}', 'with {an} {v} {l}'],
          vp=['[has] {an} {v} rating', '[has] {an} {v} {l}', '[is] {rate_adj}', '[has] {v} ratings', 'received {an} {v} rating', '[is] rated {v}'],
          front=['With {an} {v} {l}', 'With {an} {v} rating']))])


def boolean(labels: str, yes: dict, no: dict):
    return (labels.split(';'), [(choice('yes;yes;yes;true'), yes), (choice('no;no;no;false'), no)])


FAMILY = boolean('family friendly;families welcome;child friendly;children allowed;suitable for children;kids;kid friendly', dict(
    adj=['family-friendly', 'family friendly', 'child friendly', 'kid friendly', 'kids-friendly'], pp=['for the whole family', 'that welcomes families', 'that is family friendly', 'that is good for children', 'where children are welcome'],
    vp=['[is] family friendly', '[is] child friendly', 'welcomes families', '[is] suitable for children', '[is] kid friendly', 'welcomes children', 'caters to families', '[is] good for families'], front=['Family friendly']), dict(
    adj=['adults-only', 'non family-friendly', 'adult'], pp=['that is not family friendly', 'that is not for children', 'that does not welcome families', 'for adults only', 'where children are not allowed'],
    vp=['[is] not family friendly', '[is] not family-friendly', '[is] not child friendly', '[is] not suitable for children', '[is] not for families', 'does not welcome children', '[is] adults only', '[is] not kid friendly'], front=['Not suitable for children']))
PETS = boolean('pets;pets allowed;dog friendly;dogs;animals', dict(adj=['dog friendly', 'pet-friendly'], pp=['where pets are allowed', 'that welcomes dogs'], vp=['allows pets', '[is] dog friendly', 'welcomes dogs', 'accepts animals']), dict(
    pp=['where pets are not allowed', 'without pets'], vp=['does not allow pets', '[is] not dog friendly', 'does not accept dogs', 'bans pets']))
PARKING = boolean('parking;car park;has parking;free parking', dict(pp=['with parking', 'with a car park', 'with free parking'], vp=['[has] parking', 'offers parking', '[has] its own car park', 'provides free parking'], front=['With free parking']), dict(
    pp=['without parking', 'with no car park'], vp=['[has] no parking', 'does not offer parking', 'lacks a car park'], front=['Without parking']))
ACCESS = boolean('wheelchair access;accessible;step free;lift', dict(adj=['accessible', 'wheelchair-accessible'], pp=['with wheelchair access'], vp=['[has] wheelchair access', '[is] accessible to wheelchairs', '[is] step-free']), dict(
    pp=['without wheelchair access'], vp=['[has] no wheelchair access', '[is] not accessible to wheelchairs', '[is] not step-free']))
OPEN = (['open', 'opening hours', 'hours', 'opens', 'openingTimes'], [
    (lambda w: random.choice(('Monday to Friday', 'on weekends', 'all year', 'every day', 'in summer', 'from May to October', 'on Sundays', 'around the clock', 'in the evening', 'from dawn to dusk', f'from {random.randint(6, 11)} am to {random.randint(4, 11)} pm')),
     dict(pp=['open {v}', 'that is open {v}'], vp=['[is] open {v}', 'opens {v}', 'receives visitors {v}'], front=['Open {v}']))])
FOUNDED = (['founded', 'established', 'year founded', 'opened', 'since', 'built', 'year', 'completed'], [
    (number(1650, 2024, '{}year'), dict(pp=['{l_ed} in {v}', 'dating from {v}', 'from {v}'], vp=['[was] {l_ed} in {v}', 'dates from {v}', '[was] {l_ed} in the year {v}'], front=['{L_ed} in {v}', 'In {v}']))])
OWNER = (['owner', 'manager', 'director', 'run by', 'head', 'keeper', 'led by'], [
    (lambda w: w.person(), dict(pp=['run by {v}', 'owned by {v}', 'led by {v}', 'under {v}'], vp=['[is] run by {v}', '[is] owned by {v}', 'belongs to {v}', '[is] led by {v}', '[has] {v} as its {l_noun}'], front=['Run by {v}', 'Led by {v}', 'Owned by {v}']))])
STYLE = (['style', 'specialty', 'theme', 'focus', 'offers', 'collection', 'subject', 'kind of goods', 'sells', 'speciality'], [
    (lambda w: w.topic(), dict(adj=['{v}', '{v}'], pp=['offering {v}', 'that specialises in {v}', 'with a focus on {v}', 'serving {v}', 'with {v}', 'providing {v}', 'that serves {v}', 'that offers {v}', 'selling {v}'],
                               vp=['offers {v}', 'specialises in {v}', 'serves {v}', 'provides {v}', '[is] known for {v}', '[has] {v}', 'sells {v}', 'focuses on {v}'],
                               front=['Offering {v}', 'Known for {v}', 'With {v}', 'Serving {v}']))])
ORIGIN = (['style', 'nationality', 'tradition', 'origin', 'school', 'heritage', 'culture'], [
    (choice('English;Italian;French;Indian;Chinese;Japanese;Spanish;Greek;Dutch;Russian;Polish;Turkish;Danish;Irish;Welsh;Scottish;Mexican;Thai;Korean;Swedish;Persian;Moroccan;Brazilian'),
     dict(adj=['{v}', '{v}', '{v}', '{v}-style'], pp=['in the {v} style', 'of {v} origin', 'offering {v} things', 'serving {v} customers', 'with {v} goods', 'that sells {v} goods', 'offering {v} courses'], vp=['[is] {v}', '[has] {v} roots', '[is] of {v} origin', 'follows {v} tradition', 'offers {v} goods', 'provides {v} crafts', 'sells {v} wares'], front=['With {v} roots']))])
STAFF = (['staff', 'employees', 'workers', 'team size'], [(number(3, 9000), dict(pp=['with {v} employees', 'with a staff of {v}'], vp=['employs {v} people', '[has] {v} employees', '[has] a staff of {v}'], front=['With {v} employees']))])
CAPACITY = (['capacity', 'seats', 'holds', 'places', 'size'], [(number(8, 60000), dict(pp=['with {v} seats', 'with room for {v} people', 'for {v} people'], vp=['seats {v}', '[has] room for {v} people', 'holds {v} people', '[has] a capacity of {v}'], front=['With room for {v} people']))])
VISITORS = (['visitors', 'annual visitors', 'guests a year'], [(number(500, 900000), dict(pp=['with {v} visitors a year'], vp=['draws {v} visitors a year', '[has] {v} visitors each year', 'receives {v} guests a year']))])
COLOUR = (['colour', 'color', 'painted', 'coat'], [(choice('red;blue;green;yellow;black;white;grey;brown;orange;silver;golden;purple;pink;dark green;pale blue;cream'),
                                                     dict(adj=['{v}', '{v}'], pp=['in {v}', 'of {v} colour'], vp=['[is] {v}', '[has] a {v} colour', 'comes in {v}'], front=['In {v}']))])
MATERIAL = (['material', 'made of', 'made from'], [(choice('oak;steel;brass;stone;brick;glass;leather;wool;pine;iron;copper;plastic;canvas;bamboo;marble;clay;aluminium;rubber;silk;paper'),
                                                    dict(adj=['{v}'], pp=['made of {v}', 'of {v}', 'made from {v}'], vp=['[is] made of {v}', 'consists of {v}', '[is] made from {v}'], front=['Made of {v}']))])
WEIGHT = (['weight', 'weighs', 'mass'], [(lambda w: f"{random.choice((1, 2, 3, 5, 8, 12, 20, 45, 60, 110, 250, 400, 900, 1.5, 2.4, 7.8))} {random.choice(('kg', 'g', 'tonnes', 'pounds', 'grams', 'kilograms'))}",
                                         dict(pp=['weighing {v}', 'with a weight of {v}'], vp=['weighs {v}', '[has] a weight of {v}'], front=['Weighing {v}', 'With a weight of {v}']))])
LENGTH = (['length', 'long', 'height', 'width', 'depth', 'span'], [(lambda w: f"{random.randint(2, 900)} {random.choice(('m', 'km', 'feet', 'metres', 'cm', 'miles', 'inches'))}",
                                                                  dict(pp=['with a {l_dim} of {v}'], vp=['[has] a {l_dim} of {v}', 'measures {v} in {l_dim}', '[is] {v} {l_dim_adj}'], front=['With a {l_dim} of {v}']))])
MAKER = (['maker', 'manufacturer', 'brand', 'made by', 'producer', 'builder', 'designer', 'company'], [(lambda w: w.company(), dict(pp=['made by {v}', 'from {v}', 'by {v}', 'built by {v}'], vp=['[is] made by {v}', '[was] designed by {v}', 'comes from {v}', '[was] built by {v}'], front=['Made by {v}', 'Built by {v}']))])
USE = (['use', 'used for', 'purpose', 'function'], [(choice('cutting wood;measuring distance;cooking;digging;climbing;painting walls;sewing;fishing;gardening;playing music;taking photographs;carrying water;reading maps;heating rooms;repairing shoes;cleaning floors;drawing;writing;travel;training;studying stars'),
                                                     dict(pp=['for {v}', 'used for {v}'], vp=['[is] used for {v}', 'serves for {v}', '[is] meant for {v}', '[is] good for {v}'], front=['Used for {v}', 'Meant for {v}']))])
COUNTRY = (['country', 'state', 'nation', 'land', 'home country'], [(lambda w: w.country(), dict(pp=['in {v}', 'from {v}'], vp=['[is] in {v}', '[is] from {v}', 'lies in {v}', 'comes from {v}'], front=['In {v}']))])
LANGUAGE = (['language', 'languages', 'spoken', 'language spoken', 'official language'], [(choice('English;French;Spanish;German;Latin;Arabic;Hindi;Portuguese;Russian;Japanese;Swahili;Italian;Dutch;Greek;Turkish;Malay;Norwegian;Polish'),
                                                          dict(adj=['{v}-language'], pp=['in {v}', 'in the {v} language'], vp=['[is] in {v}', 'uses {v}', '[is] available in {v}'], front=['In {v}']))])
BIRTHPLACE = (['birth place', 'birthplace', 'born in', 'place of birth', 'home town'], [(lambda w: w.place(), dict(pp=['born in {v}', 'from {v}'], vp=['[was] born in {v}', 'comes from {v}', '[is] from {v}', 'grew up in {v}'], front=['Born in {v}']))])
BIRTH = (['birth year', 'born', 'date of birth', 'year of birth', 'birthDate'], [(lambda w: random.choice((str(random.randint(1700, 2004)), f'{random.randint(1, 28)} {w.month()} {random.randint(1750, 2004)}')), dict(pp=['born in {v}'], vp=['[was] born in {v}'], front=['Born in {v}']))])
OCCUPATION_WORDS = 'painter;engineer;teacher;politician;actor;physician;chemist;judge;poet;sailor;singer;farmer;architect;journalist;historian;astronaut;lawyer;boxer;swimmer;tailor;nurse;botanist;soldier;novelist;composer;photographer;dancer;gardener;pilot;explorer;cook;clerk'
KNOWN = (['known for', 'famous for', 'notable work', 'field', 'works on', 'achievement'], [(lambda w: w.topic(), dict(pp=['known for {v}', 'famous for {v}'], vp=['[is] known for {v}', '[is] famous for {v}', '[is] best known for {v}'], front=['Known for {v}', 'Famous for {v}']))])
EMPLOYER = (['employer', 'works for', 'team', 'company', 'affiliation', 'university', 'club'], [(lambda w: random.choice((w.company, w.landmark))(), dict(pp=['of {v}', 'at {v}'], vp=['works for {v}', '[is] with {v}', '[is] employed by {v}', 'belongs to {v}'], front=['Employed by {v}']))])
SPOUSE = (['spouse', 'married to', 'partner', 'husband or wife'], [(lambda w: w.person(), dict(pp=['married to {v}'], vp=['[is] married to {v}', 'married {v}'], front=['Married to {v}']))])
AWARD = (['award', 'prize', 'honour', 'medal', 'won'], [(lambda w: w.award(), dict(pp=['who won {v}', 'honoured with {v}'], vp=['won {v}', 'received {v}', '[was] given {v}'], front=['Winner of {v}']))])
AUTHOR = (['author', 'writer', 'written by', 'artist', 'creator', 'by'], [(lambda w: w.person(), dict(pp=['by {v}', 'written by {v}', 'from {v}', 'created by {v}'], vp=['[is] by {v}', '[was] written by {v}', '[is] the work of {v}', '[was] created by {v}'], front=['Written by {v}']))])
GENRE = (['genre', 'kind', 'category', 'style'], [(choice('mystery;romance;adventure;history;fantasy;crime;travel;horror;science;folk;jazz;classical;comedy;war;love;nature;school;sea'), dict(adj=['{v}'], pp=['in the {v} genre', 'of the {v} kind'], vp=['[is] in the {v} genre', 'belongs to the {v} genre']))])
PAGES = (['pages', 'number of pages', 'length'], [(number(24, 1400), dict(adj=['{v}-page'], pp=['with {v} pages', 'of {v} pages'], vp=['[has] {v} pages', 'runs to {v} pages'], front=['With {v} pages']))])
PUBLISHER = (['publisher', 'label', 'studio', 'published by'], [(lambda w: w.company(), dict(pp=['from {v}', 'published by {v}'], vp=['[was] published by {v}', 'appeared with {v}', 'came out at {v}'], front=['Published by {v}']))])
HABITAT = (['habitat', 'lives in', 'found in', 'environment', 'range'], [(choice('forests;rivers;deserts;high mountains;swamps;grassland;coral reefs;caves;gardens;cold seas;tropical islands;lakes;meadows;rocky coasts;marshes;old walls'), dict(pp=['found in {v}', 'of {v}', 'from {v}'], vp=['lives in {v}', '[is] found in {v}', 'occurs in {v}', 'thrives in {v}'], front=['Found in {v}', 'In {v}']))])
DIET = (['diet', 'eats', 'feeds on', 'prey'], [(choice('grass;insects;small fish;fruit;seeds;leaves;mice;worms;crabs;honey;frogs;bark;plankton;eggs;berries;roots'), dict(pp=['that eats {v}', 'feeding on {v}'], vp=['eats {v}', 'feeds on {v}', 'lives on {v}'], front=['Feeding on {v}']))])
LIFESPAN = (['lifespan', 'life span', 'lives', 'age'], [(number(1, 120, '{} years'), dict(pp=['with a lifespan of {v}'], vp=['lives for {v}', '[has] a lifespan of {v}', 'can live {v}']))])
ENDANGERED = boolean('endangered;threatened;rare;protected', dict(adj=['endangered', 'threatened'], pp=['that is endangered'], vp=['[is] endangered', '[is] threatened', '[is] at risk']), dict(pp=['that is not endangered'], vp=['[is] not endangered', '[is] not threatened', '[is] not at risk']))
DANGER = boolean('poisonous;toxic;dangerous;venomous', dict(adj=['poisonous', 'dangerous'], pp=['that is {l}'], vp=['[is] {l}']), dict(adj=['harmless'], pp=['that is not {l}'], vp=['[is] not {l}', '[is] harmless']))
CAPITAL = (['capital', 'capital city', 'largest city', 'seat'], [(lambda w: w.place(), dict(pp=['with {v} as its {l}', 'whose {l} is {v}'], vp=['[has] {v} as its {l}', '[has] its {l} at {v}'], front=['With {v} as its {l}']))])
POPULATION = (['population', 'inhabitants', 'people', 'residents'], [(lambda w: random.choice((f'{random.randint(200, 900000):,}', f'{random.randint(1, 300)} million', f'{random.randint(1, 99)}.{random.randint(1, 9)} million', str(random.randint(300, 99999)))), dict(pp=['with a population of {v}', 'with {v} inhabitants', 'of {v} people'], vp=['[has] a population of {v}', '[has] {v} inhabitants', '[is] home to {v} people'], front=['With a population of {v}', 'With {v} inhabitants']))])
LEADER = (['leader', 'mayor', 'president', 'ruler', 'governor', 'king', 'captain', 'coach', 'principal', 'conductor', 'chairman'], [(lambda w: w.person(), dict(pp=['whose {l} is {v}', 'with {v} as {l}'], vp=['[has] {v} as its {l}', '[is] led by {l} {v}', '[is] headed by {v}'], front=['With {v} as {l}', 'Under {l} {v}']))])
CLIMATE = (['climate', 'weather', 'conditions'], [(choice('dry;mild;tropical;cold;wet;windy;temperate;humid;hot;foggy;sunny;stormy;cool'), dict(adj=['{v}'], pp=['with a {v} climate', 'with {v} weather'], vp=['[has] a {v} climate', '[has] {v} weather'], front=['With a {v} climate']))])
EXPORT = (['export', 'main export', 'exports', 'product', 'industry', 'trade'], [(choice('coal;cotton;timber;tea;cars;ships;wheat;wool;oil;copper;sugar;machinery;fish;gold;cloth;paper;rubber;tobacco'), dict(pp=['known for its {v}', 'that exports {v}'], vp=['exports {v}', '[is] known for its {v}', 'produces {v}', 'trades in {v}'], front=['Known for its {v}']))])
FLOWS = (['mouth', 'flows into', 'ends in', 'source'], [(lambda w: w.place(), dict(pp=['that reaches {v}'], vp=['reaches {v}', 'passes {v}', 'runs past {v}']))])
SPEED = (['speed', 'top speed', 'maximum speed'], [(lambda w: f"{random.randint(5, 700)} {random.choice(('km/h', 'mph', 'knots'))}", dict(pp=['with a top speed of {v}', 'reaching {v}'], vp=['reaches {v}', '[has] a top speed of {v}', 'travels at {v}'], front=['With a top speed of {v}']))])
ROUTE = (['route', 'line', 'destination', 'runs to', 'port'], [(lambda w: w.place(), dict(pp=['to {v}', 'for {v}'], vp=['runs to {v}', 'goes to {v}', 'stops at {v}', 'travels to {v}'], front=['Bound for {v}']))])
CREW = (['crew', 'passengers', 'on board'], [(number(2, 4000), dict(pp=['with {v} {l_people}', 'carrying {v} {l_people}'], vp=['carries {v} {l_people}', '[has] room for {v} {l_people}'], front=['With {v} {l_people}']))])
BATTERY = (['battery', 'battery life', 'runs for'], [(number(2, 90, '{} hours'), dict(pp=['with {v} of battery life'], vp=['runs for {v}', '[has] a battery life of {v}', 'lasts {v}'], front=['With {v} of battery life']))])
STORAGE = (['storage', 'memory', 'disk'], [(choice('8 GB;16 GB;64 GB;128 GB;256 GB;512 GB;1 TB'), dict(adj=['{v}'], pp=['with {v} of {l}'], vp=['[has] {v} of {l}', 'comes with {v} of {l}'], front=['With {v} of {l}']))])
SCREEN = (['screen', 'display'], [(lambda w: f'{random.randint(1, 32)}.{random.randint(0, 9)} inches', dict(pp=['with a {l} of {v}'], vp=['[has] a {l} of {v}']))])
WATERPROOF = boolean('waterproof;wireless;rechargeable;portable;foldable;reusable', dict(adj=['{l}'], pp=['that is {l}'], vp=['[is] {l}']), dict(pp=['that is not {l}'], vp=['[is] not {l}']))
STADIUM = (['ground', 'stadium', 'home ground', 'plays at', 'venue'], [(lambda w: w.landmark(), dict(pp=['based at {v}', 'playing at {v}'], vp=['plays at {v}', '[has] its home at {v}', '[is] based at {v}'], front=['Based at {v}']))])
LEAGUE = (['league', 'division', 'competition'], [(lambda w: w.league(), dict(pp=['in the {v}', 'competing in the {v}'], vp=['plays in the {v}', 'competes in the {v}', '[is] in the {v}'], front=['In the {v}']))])
COLOURS = (['colours', 'kit', 'team colours'], [(choice('red and white;blue and gold;black and yellow;green and white;blue;all white;purple and gold;orange and black'), dict(pp=['in {v}'], vp=['plays in {v}', 'wears {v}'], front=['Playing in {v}']))])
SALARY = (['salary', 'pay', 'wage'], [(lambda w: f"{random.choice('£$€')}{random.choice((9, 12, 15, 20, 500, 18000, 24000, 30000, 42000, 55000))}{random.choice((' an hour', ' a year', ' a week', ''))}", dict(pp=['with a {l} of {v}', 'paying {v}'], vp=['pays {v}', '[has] a {l} of {v}'], front=['With a {l} of {v}', 'For {v}']))])
DATE = (['date', 'when', 'starts', 'day'], [(lambda w: random.choice((f'{random.randint(1, 28)} {w.month()}', f'{w.month()} {random.randint(1, 28)}', w.month(), 'Saturday', 'Sunday morning', 'Friday evening', 'Monday', 'the first week of ' + w.month())), dict(pp=['on {v}'], vp=['takes place on {v}', '[is] on {v}', 'starts on {v}'], front=['On {v}']))])
DURATION = (['duration', 'lasts', 'length', 'time'], [(lambda w: f"{random.randint(2, 48)} {random.choice(('hours', 'days', 'weeks', 'months', 'minutes'))}", dict(pp=['lasting {v}', 'of {v}'], vp=['lasts {v}', 'takes {v}'], front=['Lasting {v}']))])
LEVEL = (['level', 'difficulty', 'for'], [(choice('beginners;advanced students;all ages;experts;older children;adults;everyone;young people'), dict(pp=['for {v}', 'aimed at {v}'], vp=['[is] for {v}', '[is] aimed at {v}', '[is] suited to {v}'], front=['Aimed at {v}']))])
ROOMS = (['bedrooms', 'rooms', 'floors', 'windows', 'bathrooms'], [(choice('one;two;three;four;five;6;8;12;20'), dict(adj=[], pp=['with {v} {l}'], vp=['[has] {v} {l}', 'comes with {v} {l}'], front=['With {v} {l}']))])
GARDEN = boolean('garden;balcony;pool;fireplace;view;heating;library;terrace;cellar;shop', dict(pp=['with a {l}', 'that has a {l}'], vp=['[has] a {l}', 'comes with a {l}'], front=['With a {l}']), dict(pp=['without a {l}', 'with no {l}'], vp=['[has] no {l}', 'does not have a {l}', 'lacks a {l}'], front=['Without a {l}']))
TEMPERATURE = (['temperature', 'high', 'low', 'degrees'], [(lambda w: f"{random.randint(-20, 42)}{random.choice((' degrees', '°C', ' °F'))}", dict(pp=['with temperatures of {v}'], vp=['[has] temperatures of {v}', 'reaches {v}', 'sees {v}'], front=['With temperatures of {v}']))])
WIND = (['wind', 'wind speed'], [(lambda w: f"{random.randint(3, 120)} {random.choice(('km/h', 'mph'))}", dict(pp=['with winds of {v}'], vp=['sees winds of {v}', '[has] winds of {v}'], front=['With winds of {v}']))])
FLOWER = (['flowers', 'blooms', 'season', 'flowering'], [(lambda w: random.choice(('spring', 'summer', 'autumn', 'late winter', 'early summer', w.month())), dict(pp=['that blooms in {v}', 'flowering in {v}'], vp=['blooms in {v}', 'flowers in {v}'], front=['Flowering in {v}']))])
NEEDS = (['needs', 'requires', 'requirement', 'soil', 'care'], [(choice('full sun;shade;much water;sandy soil;rich soil;a driving licence;a degree;patience;experience;good eyesight;little care;two batteries;dry ground'), dict(pp=['that needs {v}', 'requiring {v}'], vp=['needs {v}', 'requires {v}', 'calls for {v}']))])

# name kind, type labels, types, pronoun, fields. The name kinds are methods of the word source.
PLACE_FIELDS = [AREA, NEAR, PRICE, RATING, FAMILY, STYLE, ORIGIN]
DOMAINS = [
    ('venue', 'museum;gallery;exhibition hall;planetarium;archive;heritage centre;science centre', 'It', PLACE_FIELDS + [OPEN, FOUNDED, VISITORS, ACCESS, OWNER]),
    ('venue', 'park;garden;playground;nature reserve;zoo;public garden;adventure park;farm park', 'It', PLACE_FIELDS + [OPEN, PETS, PARKING, VISITORS]),
    ('venue', 'gym;swimming pool;tennis club;skating rink;sports centre;climbing hall;dance studio;yoga studio;bowling alley;golf course', 'It', PLACE_FIELDS + [OPEN, PARKING, CAPACITY, LEADER]),
    ('venue', 'cinema;theatre;concert hall;library;puppet theatre;opera house;music hall;community centre', 'It', PLACE_FIELDS + [OPEN, CAPACITY, FOUNDED, ACCESS]),
    ('venue', 'bookshop;florist;toy shop;tailor;hairdresser;pharmacy;furniture shop;repair shop;record shop;clothes shop;market;shoe shop;department store;hardware store;antique shop', 'It', PLACE_FIELDS + [OPEN, OWNER, PARKING, STAFF]),
    ('venue', 'hotel;hostel;guest house;campsite;holiday cottage;inn;lodge;youth hostel', 'It', PLACE_FIELDS + [PETS, PARKING, ROOMS, GARDEN]),
    ('venue', 'primary school;college;language school;music school;academy;nursery;driving school;art school', 'It', PLACE_FIELDS + [FOUNDED, LEADER, STAFF, ACCESS, CAPACITY]),
    ('venue', 'dentist;clinic;hospital;vet;garage;car wash;laundry;bank;post office;workshop;studio', 'It', PLACE_FIELDS + [OPEN, OWNER, STAFF, PARKING]),
    ('venue', 'house;cottage;bungalow;flat;villa;farmhouse;town house;castle;manor', 'It', [AREA, NEAR, PRICE, ROOMS, GARDEN, PETS, FOUNDED, OWNER, MATERIAL, PARKING]),
    ('venue', 'bridge;station;lighthouse;tower;church;mill;harbour;airport;monument;fountain;railway station', 'It', [AREA, NEAR, FOUNDED, LENGTH, MATERIAL, MAKER, COUNTRY, VISITORS, RATING]),
    ('person', OCCUPATION_WORDS, 'person', [BIRTHPLACE, BIRTH, KNOWN, EMPLOYER, SPOUSE, AWARD, ORIGIN, LANGUAGE]),
    ('title', 'book;novel;guide;biography;album;song;play;film;painting;magazine;opera;poem;game', 'It', [AUTHOR, GENRE, PAGES, PUBLISHER, LANGUAGE, PRICE, RATING, FAMILY, FOUNDED, KNOWN]),
    ('creature', 'bird;fish;mammal;beetle;lizard;snake;frog;butterfly;spider;whale;monkey;owl;crab', 'It', [HABITAT, DIET, COLOUR, WEIGHT, LENGTH, LIFESPAN, ENDANGERED, DANGER, COUNTRY]),
    ('creature', 'flower;tree;herb;shrub;grass;moss;fern;rose;vine;cactus', 'It', [HABITAT, COLOUR, LENGTH, FLOWER, NEEDS, DANGER, ENDANGERED, COUNTRY]),
    ('place', 'country;island;kingdom;republic;province', 'It', [CAPITAL, POPULATION, LEADER, CLIMATE, EXPORT, LANGUAGE, LENGTH, NEAR]),
    ('place', 'city;town;village;port;suburb;market town', 'It', [COUNTRY, POPULATION, LEADER, CLIMATE, EXPORT, NEAR, FOUNDED, KNOWN]),
    ('place', 'river;lake;mountain;valley;waterfall;canyon;bay;volcano', 'It', [COUNTRY, LENGTH, NEAR, CLIMATE, KNOWN, FLOWS]),
    ('vehicle', 'ship;ferry;yacht;cargo ship;sailing boat;submarine', 'It', [MAKER, FOUNDED, LENGTH, SPEED, CREW, ROUTE, COLOUR, LEADER, WEIGHT]),
    ('vehicle', 'train;car;lorry;tram;motorcycle;bus;aircraft;bicycle;van;balloon', 'It', [MAKER, FOUNDED, SPEED, CREW, ROUTE, COLOUR, PRICE, RATING, WEIGHT]),
    ('device', 'phone;laptop;camera;watch;radio;printer;speaker;lamp;robot;tablet;telescope', 'It', [MAKER, PRICE, RATING, BATTERY, STORAGE, SCREEN, WATERPROOF, COLOUR, WEIGHT, MATERIAL]),
    ('device', 'tool;saw;hammer;tent;chair;table;guitar;knife;jacket;bag;stove;boot;umbrella;rug', 'It', [MAKER, PRICE, RATING, MATERIAL, USE, COLOUR, WEIGHT, WATERPROOF, FAMILY]),
    ('team', 'football club;rugby team;cricket club;rowing club;basketball team;hockey team;choir;orchestra;band;chess club', 'It', [STADIUM, LEAGUE, COLOURS, FOUNDED, LEADER, AREA, CAPACITY, RATING, FAMILY]),
    ('company', 'company;bank;shipyard;publisher;airline;newspaper;factory;charity;brewery;mine', 'It', [FOUNDED, OWNER, STAFF, AREA, EXPORT, COUNTRY, RATING, NEAR]),
    ('event', 'festival;conference;race;fair;concert;course;workshop;exhibition;parade;lecture;tour;lesson', 'It', [DATE, DURATION, AREA, NEAR, PRICE, LEVEL, FAMILY, RATING, STYLE, LEADER]),
    ('job', 'job;position;post;vacancy;apprenticeship', 'It', [SALARY, EMPLOYER, AREA, NEAR, NEEDS, DATE, DURATION]),
    ('place', 'weather station;valley resort;coast;ski resort;forecast area', 'It', [TEMPERATURE, WIND, CLIMATE, DATE, COUNTRY, NEAR]),
]
