# SPDX-License-Identifier: Apache-2.0
"""Random Unicode strings, the same as in tests/unit/tokenizer_strings.h. Part of tokenizer_reference.py."""

ATOMS = [" ", " ", " ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", "the", "The", " of", "ing", "Paris", "'s", "'S", "'\u017f", "'re", "'LL", "'d",
         "'", "\u2019s", "1", "42", "1984", "\u00bd", "\u2167", "\u0663", "!", "?!", "...", " -", "--", "(", ")]", "{}", "\u00e9", "e\u0301", "\u00c5", "A\u030a", "\u00df",
         "\u0416", "\u0448\u0435", "\u03b1\u03b2", "\u4f60\u597d", "\u3053\u3093", "\ud55c\uad6d", "\u1112\u1161\u11ab", "\u0627\u0644", "\u0915\u094d\u0937", "\u0e01\u0e33", "\U0001f600",
         "\U0001f469\u200d\U0001f680", "\u200b", "\u00a0", "\u0085", "\u180e", "\u2028", "\u3000", "\ufeff", "\u00ad", "\u2581", "<s>", "</s>", "<|endoftext|>", "<|im_start|>",
         "<|begin_of_text|>", "<think>", "<0x0A>", "_", "a_b", "http://", "\x00", "\x7f"]
# first code point and how many: letters, marks and digits of writing systems
SCRIPTS = [(0x41, 26), (0x61, 26), (0xC0, 64), (0x100, 128), (0x180, 208), (0x250, 96), (0x370, 144), (0x400, 256), (0x531, 86), (0x5D0, 27), (0x620, 43), (0x660, 10), (0x710, 60), (0x780, 50),
           (0x904, 108), (0x985, 120), (0xA05, 120), (0xA85, 120), (0xB05, 120), (0xB85, 120), (0xC05, 120), (0xC85, 120), (0xD05, 120), (0xD85, 110), (0xE01, 91), (0xE81, 92), (0xF00, 200), (0x1000, 160),
           (0x10A0, 96), (0x1100, 256), (0x1200, 384), (0x13A0, 86), (0x1401, 640), (0x16A0, 80), (0x1780, 120), (0x1820, 88), (0x1E00, 256), (0x1F00, 256), (0x2070, 48), (0x2100, 144), (0x2460, 160),
           (0x2C00, 96), (0x2D00, 100), (0x3041, 86), (0x30A1, 90), (0x3105, 43), (0x3400, 6592), (0x4E00, 20992), (0xA000, 1165), (0xAC00, 11172), (0xF900, 512), (0xFB00, 80), (0xFE70, 140), (0xFF01, 190),
           (0x10000, 250), (0x10330, 27), (0x10400, 160), (0x10900, 60), (0x11000, 128), (0x12000, 900), (0x13000, 1000), (0x1D400, 1024), (0x1F100, 200), (0x20000, 42720), (0x30, 10), (0x966, 10)]
MARKS = [(0x300, 112), (0x300, 112), (0x483, 7), (0x591, 45), (0x64B, 21), (0x93A, 20), (0xE31, 10), (0xF71, 20), (0x1AB0, 14), (0x1DC0, 58), (0x20D0, 33), (0x302A, 6), (0x3099, 2), (0xFE20, 16),
         (0x1161, 88), (0x11A8, 27), (0x200C, 2)]
EMOJI = [(0x1F600, 80), (0x1F300, 256), (0x1F900, 256), (0x2600, 256), (0x1F1E6, 26), (0x1F468, 2), (0x23, 20)]
GLUE = [(0x200D, 1), (0x200D, 1), (0xFE0F, 1), (0x1F3FB, 5), (0x20E3, 1), (0xE0020, 96)]
BLANKS = [(9, 5), (10, 1), (0x20, 1), (0x20, 1), (0x20, 1), (0x85, 1), (0xA0, 1), (0x1680, 1), (0x180E, 1), (0x2000, 12), (0x2028, 2), (0x202F, 1), (0x205F, 2), (0x3000, 1), (0xFEFF, 1), (0x2581, 1)]
EDGES = [(0, 32), (0x7F, 34), (0xAD, 1), (0xD7FF, 1), (0xE000, 1), (0xF8FF, 1), (0xFDD0, 32), (0xFFFD, 3), (0x1FFFE, 2), (0xE0000, 128), (0xF0000, 1), (0x10FFFE, 2), (0x2581, 1), (0x100, 68), (0x120, 1)]
JOINS = [" ", " ", " ", "\n", ", ", ".", "'", "-", "", "\u200c"]
WORDS = ["The", " mother", " tongue", " of", " Danielle", " Darrieux", " is", " French", ",", ".", " \"", "\"", " in", " Paris", " 1984", " 3.14", " (", ")", "'s", " isn't", "\n", "\n\n", "  ", " New York", " S\u00e3o Paulo",
         " \u041c\u043e\u0441\u043a\u0432\u0430", " \u6771\u4eac", " <s>", "</s>", " \u2014"]


class Draws:
    def __init__(self, seed):
        self.state = seed

    def below(self, n):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        return (self.state >> 33) % n

    def one(self, items):
        return items[self.below(len(items))]

    def point(self, ranges):
        first, count = self.one(ranges)
        return character(first + self.below(count))


def character(point):
    return chr(0xFFFD if 0xD800 <= point < 0xE000 else point)


def old_part(d):
    kind = d.below(8)
    if kind < 6:
        return d.one(ATOMS)
    return character(d.below(0x110000)) if kind == 6 else chr(0x20 + d.below(95))


def random_texts(seed, count):
    d = Draws(seed)
    for _ in range(count):
        yield "".join([old_part(d) for _ in range(d.below(24))])


def script_part(d, script):
    """A letter of the script, or another script from here on."""
    if d.below(6) == 0:
        script[0] = d.below(len(SCRIPTS))
        return d.one(JOINS)
    first, count = SCRIPTS[script[0]]
    return character(first + d.below(count))


def part(d, kind, script):
    if kind == 0:
        return old_part(d)
    if kind == 1:
        return character(d.below(0x110000))
    if kind == 2:
        return script_part(d, script)
    if kind == 3:
        return chr(0x20 + d.below(95)) if d.below(4) == 0 else d.point(BLANKS)
    if kind == 4:
        return d.point(SCRIPTS) if d.below(3) == 0 else d.point(MARKS)
    if kind == 5:
        return d.point(EMOJI) if d.below(2) == 0 else d.point(GLUE)
    if kind == 6:
        return chr(0x20 + d.below(95)) if d.below(2) == 0 else d.point(EDGES)
    return d.one(WORDS)


def strings(seed, count):
    d = Draws(seed)
    for _ in range(count):
        kind, parts, script = d.below(8), d.below(24), [d.below(len(SCRIPTS))]
        yield "".join([part(d, kind, script) for _ in range(parts)])
