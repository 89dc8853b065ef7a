"""Writes what Hugging Face's `tokenizers` makes of 60 odd strings.

Usage: python make.py TOKENIZER.json OUTPUT.json
"""

import hashlib
import json
import sys
from pathlib import Path

import tokenizers

STRINGS = [
    # Records and sentences like those of table-to-text.
    "name : The Vaults | type : pub | price : more than £30 | customer rating : 5 out of 5 | near : Café Adriatic",
    " name : Blue Spice | food : Thai <|endoftext|>",
    " name : Alimentum | area : city centre | family friendly : no <|endoftext|> Alimentum is not family-friendly.<|endoftext|>",
    " The Vaults pub near Café Adriatic has a 5 star rating.  Prices start at £30.",
    "Blue Spice is a coffee shop in the city centre.",
    "It's 20-25 € (or £20-£25), isn't it? We'll see; they've said I'd know you're right, I'm sure.",
    "IT'S LOUD, WE'LL SHOUT, THEY'RE HERE, I'D'VE",
    "William Anders | birthPlace | British Hong Kong",
    "1,234,567.89 3.14159 1e-5 0x1F 2026-11-24 10:30",
    "http://example.org/a?b=c&d=%20e#f user@example.org",
    "{\"key\": [1, 2.5, null, true], \"text\": \"line\\n\"}",
    "def f(x):\n    return x ** 2  # squared\n",
    # White space.
    "",
    " ",
    "  ",
    "a",
    " a",
    "a ",
    "  two  spaces  between  ",
    "\n",
    "\n\n\nthree lines\n",
    "\ttab\tand\r\ncarriage return\r",
    "no\u00a0break space, thin\u2009space, ideographic\u3000space, zero\u200bwidth",
    "\u2028line separator\u2029paragraph separator\u0085next line",
    "trailing spaces before newline   \n   and after",
    # The end-of-text token, whole and broken.
    "<|endoftext|>",
    "<|endoftext|><|endoftext|>",
    "before<|endoftext|>after",
    " before <|endoftext|> after ",
    "<|endoftext|",
    "< |endoftext|>",
    "<|ENDOFTEXT|>",
    # Other scripts.
    "Grüße aus Köln, naïve façade, Ærøskøbing, Łódź, İstanbul, ıssız",
    "Привет, мир! Как дела?",
    "Γειά σου Κόσμε, ΟΔΥΣΣΕΥΣ",
    "שלום עולם",
    "مرحبا بالعالم ٣٤٥",
    "नमस्ते दुनिया १२३",
    "สวัสดีชาวโลก",
    "你好，世界。这是一个测试。",
    "こんにちは世界 カタカナ ﾊﾝｶｸ",
    "안녕하세요 세계",
    "𝔊𝔬𝔱𝔥𝔦𝔠 𝟙𝟚𝟛 𐍈𐌰𐌹𐍂",
    "ⅣⅦ ½ ¾ ² ³ ① ⑳",
    "e\u0301 (combining) and é (composed), a\u0308\u0304",
    "ﬁ ligature, ß, ﬀ, Ǆ",
    # Emoji.
    "😀",
    "I ❤️ pizza 🍕🍕 and 👩‍👩‍👧‍👦 families 👍🏽 in 🇬🇧!",
    "☕︎ ☕️ ☎",
    # Control and rare characters.
    "\u0000null\u0001one\u0007bell\u001bescape\u007fdelete",
    "\ufeffbyte order mark",
    "replacement \ufffd character, private \ue000 use, \U0010ffff last",
    "soft\u00adhyphen, left\u200e-to-right mark, word\u2060joiner",
    # Punctuation and signs.
    "!!!???...,,,;;;:::---___***///\\\\\\|||",
    "“curly” ‘quotes’ – dash — dash … dots · • § ¶ © ® ™ ° ± × ÷ ≠ ≤ ∞ √ ∑",
    "$5 €6 £7 ¥8 ₹9 ₿1 100% #1 @you a&b a+b=c ~x ^y `z`",
    "snake_case camelCase PascalCase kebab-case SCREAMING_SNAKE a1b2c3 v2.0.1-rc.3",
    # Length.
    "Llanfairpwllgwyngyllgogerychwyrndrobwllllantysiliogogoch",
    "a" * 1000,
    "pneumonoultramicroscopicsilicovolcanoconiosis" * 8 + "1234567890" * 20,
]


def main(source: str, target: str) -> None:
    assert len(STRINGS) == 60 and len(set(STRINGS)) == 60
    tokenizer = tokenizers.Tokenizer.from_file(source)
    cases = []
    for text in STRINGS:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        cases.append({"text": text, "ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=True)})
    golden = {
        "tokenizers": tokenizers.__version__,
        "sha256": hashlib.sha256(Path(source).read_bytes()).hexdigest(),
        "vocabulary": tokenizer.get_vocab_size(),
        "endOfText": tokenizer.token_to_id("<|endoftext|>"),
    }
    head = ",\n".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in golden.items())
    # ASCII alone: control characters and rare spaces stay visible in a diff.
    rows = ",\n".join(json.dumps(case) for case in cases)
    Path(target).write_text("{\n" + head + ',\n"cases": [\n' + rows + "\n]\n}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
