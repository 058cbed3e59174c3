"""What must survive: amounts, dates, products, quantities, and words that only look like names."""

from __future__ import annotations

import pytest

from twotower.redaction.payments import is_card
from twotower.redaction.redactor import Redactor

REDACTOR = Redactor()

NUMBERS = [
    "I paid 1,299.00 EUR on 12.05.2024 at 14:30 for 3 items",
    "refund $12,345.67 or £1,234,567.89 by 2024-05-12 10:30:00",
    "that is 1234567890 dollars, or 1 000 000 €",
    "We waited 45 minutes on hold on 5th May 2024, 10:15-11:30",
    "order 2 pizzas for 20 people",
    "I want to order 10000 of them, 50000 units in all",
    "my order from 2023-11-02 cost 45.90",
    "ticket 2024-05-12",
    "invoice 1234.56 is wrong",
    "account balance 50000",
    "my account, no 30 days later",
    "mi pedido no, 24 horas no bastan",
    "card ending 1234",
    "version 10.0.19045.3803 at 192.168.100.200",
    "see https://example.com/posts/6502530000/35?x=2125550123",
    "part 5901234123457",
    "1700000000000 ms since 1970",
    "20240512 20240513",
    "11 12 13 14 15 16 17 18 19 20",
    "2024-01-15 2024-02-20 2024-03-01",
    "Pedí 2 unidades por 45,90 € el 03/04/2025",
    "Ich habe 50000 Kilometer und 10000 Euro am 03.04.2025 bezahlt",
    "In 2023 waren es 12345 Kunden",
    "J'ai payé 1 234,56 € le 03/04/2025",
]
PRODUCTS = [
    "My WH-1000XM4 and Galaxy S21 Ultra 256GB",
    "iPhone 15 Pro, RTX 3080, SM-G991B, i7-13700K",
    "model number of the washing machine: see page 12",
    "I order the WH-1000XM4 headphones",
    "my phone is a Pixel 7 with 128 GB",
    "Windows 11 on a 27 inch 2560x1440 screen",
    "a 2024 Honda Civic 1.5",
]
PLACES = [
    "10 km road trip, 2 day delivery, 3 way call",
    "2 cars in the street and 5 on the road",
    "I went the wrong way 2 times",
    "En la calle hay 3 perros",
    "el camino de 2 horas",
    "Am Arbeitsplatz 3 geht nichts",
    "auf dem Heimweg 2 mal",
    "J'ai 3 cours de français et 2 place de cinéma",
    "la route est longue de 200 km",
]
WORDS = [
    "my name is not on the list",
    "my name is wrong and I am happy",
    "I need to change my name since I got married",
    "I am Canadian",
    "this is Great!",
    "This Is The Worst",
    "Hi there, my order has not arrived",
    "Hello Support, Dear Customer, Dear Sir or Madam,",
    "Thanks, Team",
    "Thank you. Bye",
    "Kind regards",
    "regards to everyone",
    "Soy cliente desde 2015",
    "Hola buenas, mi pedido no llega",
    "Un saludo cordial",
    "saludos cordiales",
    "Ich bin Kunde seit 2015",
    "Sehr geehrte Damen und Herren,",
    "Viele Grüße aus Berlin",
    "Je suis client depuis 2015",
    "Bonjour Madame,",
    "my password is not working, I forgot the pin",
    "I forgot my passcode; what now?",
    "at this point in time",
    "meet me @ noon, @support",
]


@pytest.mark.parametrize(
    "text", [*NUMBERS, *PRODUCTS, *PLACES, *WORDS], ids=lambda v: v[:40].encode("ascii", "replace").decode()
)
@pytest.mark.parametrize("language", [None, "en", "es", "de", "fr"])
def test_it_survives(text, language):
    assert REDACTOR.redact(text, language).text == text


@pytest.mark.parametrize(
    "digits",
    ["4111111111111112", "0000000000000000", "1111111111111111", "5901234123457", "1700000000003", "7992739871300008"],
)
def test_digits_without_proof_are_no_card(digits):
    assert not is_card(digits)


def test_an_iban_with_a_wrong_check_is_none():
    assert REDACTOR.redact("DE88 3704 0044 0532 0130 00").text.startswith("DE88")


def test_a_commit_hash_that_holds_a_valid_card_is_none():
    assert REDACTOR.redact("4111111111111111a7").text == "4111111111111111a7"


@pytest.mark.parametrize("text", ["Liebe Grüße!", "Danke. Liebe Grüsse", "liebe Grüße"])
def test_a_closing_that_begins_like_a_greeting_names_nobody(text):
    assert REDACTOR.redact(text, "de").text == text


def test_whom_a_greeting_or_such_a_closing_names_is_masked_all_the_same():
    assert REDACTOR.redact("Liebe Anna, mein Paket fehlt.", "de").text == "Liebe [name], mein Paket fehlt."
    assert REDACTOR.redact("Liebe Grüße, Anna Schmidt", "de").text == "Liebe Grüße, [name]"
