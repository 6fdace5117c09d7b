"""What policy calls private is taken out of texts, and what is not stays as it was said."""

from __future__ import annotations

import pytest

from modelsmith.repository.private import Scrubber
from modelsmith.schema.governance import Private

EVERYTHING = Scrubber(Private())


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
    ],
)
def test_figures_of_a_trade_are_not_taken_for_private_data(text):
    assert EVERYTHING.scrub(text).text == text


def test_a_policy_adds_forms_of_its_own_and_may_leave_some_in():
    scrubber = Scrubber(Private(kinds=("email",), patterns={"customer": r"CUST-\d+"}))
    found = scrubber.scrub("CUST-4711 wrote from 10.1.2.3 as a@example.org")
    assert (found.text, dict(found.removed)) == (
        "[customer] wrote from 10.1.2.3 as [email]",
        {"customer": 1, "email": 1},
    )
    with pytest.raises(ValueError, match="no pattern of RE2"):
        Scrubber(Private(patterns={"odd": "(?=x)"}))
