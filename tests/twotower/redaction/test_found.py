"""What must be masked, kind by kind and language by language."""

from __future__ import annotations

import pytest

from twotower.redaction.redactor import Redactor

REDACTOR = Redactor()

CARDS = [
    ("card 4111 1111 1111 1111, exp 12/27", "card [card], exp 12/27"),
    ("5500-0000-0000-0004", "[card]"),
    ("378282246310005 is the amex", "[card] is the amex"),
    ("3782 822463 10005", "[card]"),
    ("4111111111111111", "[card]"),
    ("4222222222222", "[card]"),
    ("6011 0009 9013 9424 000 is it", "[card] 000 is it"),
    ("read out: 4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1", "read out: [card]"),
    ("VISA4111111111111111", "VISA[card]"),
    ("١٢ ٤١١١١١١١١١١١١١١١ ok", "١٢ [card] ok"),
    ("my credit card number is 4795345267495215", "my credit card number is [card]"),
    ("mi tarjeta es 4795 3452 6749 5215", "mi tarjeta es [card]"),
]
IBANS = [
    ("DE89 3704 0044 0532 0130 00", "[iban]"),
    ("IBAN: GB82WEST12345698765432.", "IBAN: [iban]."),
    ("mein Konto DE89370400440532013000 bitte", "mein Konto [iban] bitte"),
    ("es91 2100 0418 4502 0005 1332 y ya", "[iban] y ya"),
    ("FR14 2004 1010 0505 0001 3M02 606 merci", "[iban] merci"),
]
EMAILS = [
    ("write to anna.smith+shop@example.co.uk.", "write to [email]."),
    ("<jörg@müller.de>", "<[email]>"),
    ("mailto:a@b.io,c_d@e-f.org", "mailto:[email],[email]"),
    ("anna dot smith at example dot com please", "[email] please"),
    ("ana arroba ejemplo punto es", "[email]"),
]
PHONES = [
    ("call 212 555 0123 after six", "call [phone] after six", "en-US"),
    ("(212) 555-0123", "[phone]", None),
    ("555-123-4567", "[phone]", "en"),
    ("my phone number is 555-1234", "my phone number is [phone]", "en"),
    ("+44 20 7946 0958", "[phone]", None),
    ("020 7946 0958 or 07700 900123", "[phone] or [phone]", "en-GB"),
    ("mi móvil es el 612 34 56 78", "mi móvil es el [phone]", "es"),
    ("llámame al 912345678", "llámame al [phone]", "es-ES"),
    ("Handy: 0171/1234567", "Handy: [phone]", "de"),
    ("erreichbar unter 030 1234567", "erreichbar unter [phone]", "de"),
    ("06 12 34 56 78", "[phone]", "fr"),
    ("0033 6 12 34 56 78", "[phone]", "fr"),
    ("555 123 4567, 555 123 4568", "[phone], [phone]", "en"),
]
ORDERS = [
    ("order number 12345 is late", "order number [order] is late"),
    ("my order, 12345678, is late", "my order, [order], is late"),
    ("order #: 114-3941689-8772232 was $59.99", "order #: [order] was $59.99"),
    ("114-3941689-8772232", "[order]"),
    ("tracking number 1Z999AA10123456784", "tracking number [order]"),
    ("booking reference KXQPLM", "booking reference [order]"),
    ("ref: K7PQ2M please", "ref: [order] please"),
    ("policy number is def 987654321", "policy number is def 987654321".replace("def 987654321", "[order]")),
    ("account number 7654 7433 6675", "account number [order]"),
    ("INV-20240001", "[order]"),
    ("mi número de pedido es 123456", "mi número de pedido es [order]"),
    ("PEDIDO N.º 4455", "PEDIDO N.º [order]"),
    ("factura F-2024-00123", "factura [order]"),
    ("Bestellnummer: 4711-22", "Bestellnummer: [order]"),
    ("meine Bestellung 4711222 fehlt", "meine Bestellung [order] fehlt"),
    ("Rechnung Nr. 2024/123", "Rechnung Nr. [order]"),
    ("commande n° 12345", "commande n° [order]"),
    ("le numéro de ma commande est 998877", "le numéro de ma commande est [order]"),
]
SECRETS = [
    ("pin is 3175 and cvv 123", "pin is [secret] and cvv [secret]"),
    ("my ssn is 078-05-1120", "my ssn is [secret]"),
    ("password: sunshine", "password: [secret]"),
    ("contraseña: abc123", "contraseña: [secret]"),
    ("Passwort lautet hase77", "Passwort lautet [secret]"),
    ("mot de passe: soleil", "mot de passe: [secret]"),
]
ADDRESSES = [
    ("I live at 221b Baker Street, London NW1 6XE", "I live at [address]"),
    ("1600 Pennsylvania Ave NW, Washington, DC 20500", "[address]"),
    ("7200 n caldwell avenue niles il 60732", "[address]"),
    ("1 prairie st banning ca 92220", "[address]"),
    ("12 Elm Rd., Apt 4B, Springfield, IL 62704-1234", "[address]"),
    ("deliver to SW1A 2AA", "deliver to [address]"),
    ("zip code is 60091", "zip code is [address]"),
    ("Vivo en la calle Mayor 12, 2º A, 28013 Madrid", "Vivo en la [address]"),
    ("C/ Gran Vía nº 30", "[address]"),
    ("Avenida de la Constitución, 5", "[address]"),
    ("Hauptstraße 12, 10115 Berlin", "[address]"),
    ("Berliner Str. 45", "[address]"),
    ("Meine Adresse: Karl-Marx-Allee 33, 10178 Berlin. Danke", "Meine Adresse: [address]. Danke"),
    ("D-80331 München", "[address]"),
    ("12 rue de la Paix, 75002 Paris", "[address]"),
    ("J'habite au 5 bis avenue Victor Hugo", "J'habite au [address]"),
    ("code postal 69003", "code postal [address]"),
]
NAMES = [
    ("My name is Jean-Luc O'Neill.", "My name is [name]."),
    ("my name is john smith and", "my name is [name] and"),
    ("name raji ssn no 5214", "name [name] ssn no [secret]"),
    ("I'm Anna Lopez, hello", "I'm [name], hello"),
    ("this is Robert speaking", "this is [name] speaking"),
    ("Dear Ms Taylor,", "Dear Ms [name],"),
    ("Hi Priya,\nthe order", "Hi [name],\nthe order"),
    ("Best regards,\nJohn Smith", "Best regards,\n[name]"),
    ("Thanks, Anna", "Thanks, [name]"),
    ("Me llamo José García López.", "Me llamo [name]."),
    ("Soy María López", "Soy [name]"),
    ("Atentamente,\nJosé Luis García", "Atentamente,\n[name]"),
    ("ich heiße Hans Müller", "ich heiße [name]"),
    ("Mein Name ist Dr. Julia Becker-Schulz und", "Mein Name ist Dr. [name] und"),
    ("Mit freundlichen Grüßen\nHans Müller", "Mit freundlichen Grüßen\n[name]"),
    ("Je m'appelle François de la Tour et", "Je m'appelle [name] et"),
    ("Bonjour Madame Lefebvre,", "Bonjour Madame [name],"),
    ("Cordialement,\nPierre Dupont", "Cordialement,\n[name]"),
]
ALL = [*CARDS, *IBANS, *EMAILS, *ORDERS, *SECRETS, *ADDRESSES, *NAMES]


@pytest.mark.parametrize(("text", "wanted"), ALL, ids=lambda v: v[:40].encode("ascii", "replace").decode())
def test_it_is_masked(text, wanted):
    assert REDACTOR.redact(text).text == wanted


@pytest.mark.parametrize(("text", "wanted", "language"), PHONES)
def test_a_telephone_number_is_masked(text, wanted, language):
    assert REDACTOR.redact(text, language).text == wanted


@pytest.mark.parametrize("text", [text for text, _ in ALL] + [text for text, _, _ in PHONES])
def test_capitals_and_accents_do_not_decide_about_digits(text):
    """Upper case hides no number: as many digits are left as in the text as it was written."""
    if "@" not in text and any(c.isdigit() for c in text) and text.isascii() and " at " not in text:
        shouted = REDACTOR.redact(text.upper().replace("NO ", "no ")).text
        assert sum(c.isdigit() for c in shouted) <= sum(c.isdigit() for c in REDACTOR.redact(text).text)


def test_spans_name_places_of_the_text_that_was_given():
    text = "card 4111111111111111 and a@b.com"
    done = REDACTOR.redact(text)
    assert [(text[s.start : s.end], s.kind) for s in done.spans] == [("4111111111111111", "card"), ("a@b.com", "email")]
