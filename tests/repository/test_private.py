"""What policy calls private is taken out of texts, and what is not stays as it was said."""

from __future__ import annotations

import base64
import re

import pytest

from modelsmith.repository.private import Scrubber
from modelsmith.schema.governance import Private
from modelsmith.schema.naming import NameModel

EVERYTHING = Scrubber(Private())
MAIL = "to j\u00e4ne@example.com"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Ask jane.doe+x@mail.example.co.uk now", "Ask [email] now"),
        ("Call (020) 7946-0958 or +1 415 555 2671.", "Call [phone] or [phone]."),
        ("Card 4111-1111-1111-1111 was charged", "Card [card] was charged"),
        ("to GB82 WEST 1234 5698 7654 32 today", "to [iban] today"),
        ("from 10.1.2.3 and 2001:db8:0:0:0:1:2:3", "from [ip] and [ip]"),
        (
            "j\u00e4ne@ex\u00e4mple.de und \u0660\u0662\u0660 \u0667\u0669\u0664\u0666 \u0660\u0669\u0665\u0668",
            "[email] und [phone]",
        ),
        ("\uff4a\uff41\uff4e\uff45@example.com", "[email]"),
        # as programs escape it, and as people write it for people
        ("jane%40example.com, jane&#64;example.com, jane\\u0040example.com", "[email], [email], [email]"),
        ("jane [at] example [dot] com or jane(at)example.com", "[email] or [email]"),
        ('"jane doe"@example.com jane!x@example.com jane@[10.1.2.3]', "[email] [email] [email]"),
        ("jane <at> example <dot> com or jane[@]example[.]com, at 10[.]1[.]2[.]3", "[email] or [email], at [ip]"),
        # as Markdown writes it, and escaped again where one text was put into another
        ("jane\\@example\\.com j\\\\u0061ne\\\\u0040example.com", "[email] [email]"),
        ("jane\\u{40}example.com jane\\u{0040}example.com jane\\U00000040example.com", "[email] [email] [email]"),
        # in scripts whose letters have marks, and with another full stop
        ("\u0938\u0902\u092a\u0930\u094d\u0915@\u0921\u093e\u091f\u093e.\u092d\u093e\u0930\u0924", "[email]"),
        ("jane@example\u3002com", "[email]"),
        # with the hyphens and dots that word processors and phones put in
        ("020\u20117946\u20110958, +44\u00b720\u00b77946\u00b70958", "[phone], [phone]"),
        ("4111\u20131111\u20131111\u20131111 4111.1111.1111.1111", "[card] [card]"),
        ("078\u201305\u20131120", "[national-id]"),
        ("GB82-WEST-1234-5698-7654-32", "[iban]"),
        # beside what looks like a part of it
        ("BE68 5390 0754 7034 from BE71 0961 2345 6769 with it", "[iban] from [iban] with it"),
        ("card 4111 1111 1111 1111 12", "card [card] 12"),
        ("2026 4111 1111 1111 1111", "2026 [card]"),
        # addresses of machines in their short form, and of pages by any scheme or none
        ("fe80::1ff:fe23:4567:890a, 2001:db8::1 and ::ffff:10.1.2.3", "[ip], [ip] and [ip]"),
        ("ldap://h/jane www.crm.example.com/?u=jane https%3A%2F%2Fcrm%2Fjane", "[url] [url] [url]"),
        # in another spelling, and in one within another
        ("id amFuZS5kb2VAZXhhbXBsZS5jb20= of the mail", "id [email] of the mail"),
        ("id=amFuZS5kb2VAZXhhbXBsZS5jb20 x-amFuZS5kb2VAZXhhbXBsZS5jb20", "id=[email] x-[email]"),
        ("q=WVcxaGFXUWdiV0ZwYkRwcVlXNWxRR1Y0WVcxd2JHVXVZMjl0", "q=[email]"),
        ("eyJzdWIiOiJqYW5lQGV4YW1wbGUuY29tIiwiaXAiOiIxMC4xLjIuMyJ9", "[email][ip]"),
        (
            "6a616e65406578616d706c652e636f6d and 2B3434203230203739343620303935380A",
            "[email] and [phone]",
        ),
        ("to %6A%61%6E%65%40%65%78%2E%63%6F%6D, tel%3A%2B44+20+7946+0958", "to [email], tel:[phone]"),
        ("&#106;&#97;&#110;&#101;&#64;ex&#46;com \\u006aane\\u0040\\u0065x\\u002ecom", "[email] [email]"),
        (
            f"{base64.encodebytes(b'what she wrote on that day, and to whom: ' * 2 + b'jane@example.com').decode()}end",
            "[email]\nend",
        ),
        (f"enc {base64.b64encode(MAIL.encode('utf-16-le')).decode()}", "enc [email]"),
        # glued to a name as programs write it, set apart as people write it, and as a transcript has it
        (
            "host_10.1.2.3 acct_GB82WEST12345698765432_eur ssn_078_05_1120",
            "host_[ip] acct_[iban]_eur ssn_[national-id]",
        ),
        ("+49 (0)30 / 123 456-78, 0171 \u2014 234 56 78", "[phone], [phone]"),
        ("on 2026-11-28 020 7946 0958", "on 2026-11-28 [phone]"),
        ("write to jane dot doe at example dot co dot uk today", "write to [email] today"),
        # secrets in other languages, and as HTTP sends them
        ("contrase\u00f1a: tr33house!\nso", "[secret]\nso"),
        ("\u041f\u0430\u0440\u043e\u043b\u044c: tr33house!\nso", "[secret]\nso"),
        (
            "\u5bc6\u7801\uff1atr33house!\nMot de passe : tr33house!\nMy password's tr33house!\nso",
            "[secret]\n" * 3 + "so",
        ),
        ("Authorization: Basic amFuZTp0cjMzaG91c2Uh\nso", "[secret]\nso"),
    ],
)
def test_each_form_is_taken_out_and_named(text, left):
    assert EVERYTHING.scrub(text).text == left


@pytest.mark.parametrize(
    "text",
    [
        "Floor rose from 1.60 to 2.10 on 2026-11-28 at 09:12, bids 1,234,567 of 12,000,000.",
        "Latency 180 ms against 120 ms; win rate 4.5%, auction 88213",
        "v1.2.3 of the bidder, ratio 3:2",
        "std::cout << a::b; at 10 (at) noon, ::set-output name=x::y, 09:12:33",
        # what says nothing private in another spelling, and what says nothing at all
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 iVBORw0KGgoAAAANSUhEUgAAAAUA",
        "cGxhY2VtZW50cyBvZiBhdWN0aW9ucw== rate%20of%20bids 10%25 a &amp; b \\u00e9t\\u00e9 internationalization/of/x",
        "From 2026-11-28 09:12:33 to 2026-11-29, 2026-11-30 - 2026-12-01: a basic internationalization, password old",
        "Bids fell: 120\n135\n140\n155\n160\n175 \u2013 then 4\u20135 % more.",
    ],
)
def test_figures_of_a_trade_are_not_taken_for_private_data(text):
    assert EVERYTHING.scrub(text).text == text


def test_a_text_of_nothing_but_other_spellings_is_no_work_without_end():
    """Beyond what is read of one text, runs are taken out unread: nobody hides behind a thousand others."""
    scrubbed = EVERYTHING.scrub(" ".join(["%25%32%35%34%31&#38;#37;"] * 3000) + " jane%40ex%2Ecom")
    assert scrubbed.removed["encoded"] > 1000
    assert "jane" not in scrubbed.text


def test_a_policy_s_form_that_matches_nothing_at_all_ends():
    scrubber = Scrubber(Private(kinds=(), patterns={"end": "\u00e9|$", "x": "x*"}))
    assert scrubber.scrub("\u00e9xx\u00e9\u2013a").text == "[end][x][end]\u2013a"


def test_a_policy_adds_forms_of_its_own_and_may_leave_some_in():
    scrubber = Scrubber(Private(kinds=("email",), patterns={"customer": r"CUST-\d+"}))
    scrubbed = scrubber.scrub("CUST-4711 wrote from 10.1.2.3 as a@example.org")
    assert (scrubbed.text, dict(scrubbed.removed)) == (
        "[customer] wrote from 10.1.2.3 as [email]",
        {"customer": 1, "email": 1},
    )
    with pytest.raises(ValueError, match="no pattern of RE2"):
        Scrubber(Private(patterns={"odd": "(?=x)"}))


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("a bid of [marta], who left", "a bid of [[name]], who left"),
        ("[marta.okonkwo] <m@example.com>", "[[name].okonkwo] <[email]>"),
        ("[email] of m@example.com for [marta]", "[email] of [email] for [[name]]"),
    ],
)
def test_a_name_in_brackets_does_not_pass_for_what_was_taken_out(text, left):
    model = NameModel(name="names", uri="file:///names", digest="sha256:" + "0" * 64, license="MIT")
    scrubbed = Scrubber(Private(kinds=("email",), names=model), marta).scrub(text)
    assert scrubbed.text == left


def marta(text):
    return [match.span() for match in re.finditer("marta|email", text)]
