"""The keywords of each language, and what a keyword must not be mistaken for.

Notable: entries are compared with the flat text (lower case, no accents), so accents here are for the reader alone. A
vocabulary is data: a further language is one more `Vocabulary` in `VOCABULARIES` and its code in `config.LANGUAGES`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from twotower.redaction.spans import flatten


def word_set(words: str) -> frozenset[str]:
    """The flat words of a text."""
    return frozenset(flatten(words).split())


@dataclass(frozen=True)
class Vocabulary:
    """What one language says before or after something personal; phrases are parted by commas, words by blanks."""

    goods: str
    """Nouns that are followed by an order's id, but by a product or an amount as well."""
    records: str
    """Nouns that are followed by the id of a record."""
    secrets: str
    """What is followed by a password, a code or a person's official number."""
    postcodes: str
    """What is followed by a postcode or a post-office box."""
    fillers: str
    """Words between a noun and its id that say nothing about it."""
    markers: str
    """Words between a noun and its id that announce an id."""
    phones: str
    """What is followed by a telephone number."""
    names: str
    """What is followed by the speaker's name, however it is written."""
    maybe_names: str
    """What may be followed by the speaker's name; needs two capitalised words or one of `speaking` after it."""
    speaking: str
    """What follows a name in an introduction."""
    titles: str
    """What stands before another person's name."""
    greetings: str
    """What a greeting begins with."""
    closings: str
    """Phrases of a sign-off, followed by a name in any case."""
    thanks: str
    """Phrases that also stand elsewhere; followed by a comma or a new line and a capitalised name."""
    others: str
    """Words that are no name although they stand where a name could."""


EN = Vocabulary(
    goods="order, orders, delivery, shipment, parcel, package",
    records="booking, reservation, reference, ref, confirmation, tracking, invoice, receipt, ticket, case, claim,"
    " policy, consignment, account, acct, customer, member, membership, contract, transaction, rma, pnr, itinerary,"
    " incident, complaint, loan",
    secrets="password, passcode, pin, cvv, cvc, security code, ssn, social security, otp, one time code, passport,"
    " national insurance, driving licence, driver's license",
    postcodes="zip, zip code, zipcode, postcode, postal code, post code, pin code, pincode, po box, p o box",
    fillers="is was are it's its it the my s",
    markers="number numbers num no nr nbr id ids code ref reference",
    phones="phone, telephone, tel, ph, mobile, cell, cellphone, whatsapp, fax, call me on, call me at, call me back on,"
    " call me back at, reach me on, reach me at, text me on, text me at, contact number, callback number, my number",
    names="my name is, my name's, my full name is, my first name is, my last name is, my surname is,"
    " full name is, i am called, i'm called, name of account holder, account holder is, cardholder is",
    maybe_names="i am, i'm, this is, here is",
    speaking="speaking calling here from",
    titles="my name, the name is, mr, mrs, ms, miss, mx, dr, prof, professor",
    greetings="dear, hi, hello, hey, good morning, good afternoon, good evening",
    closings="regards, sincerely, yours truly, yours faithfully, best wishes, warm wishes, signed",
    thanks="thanks, thank you, thx, cheers, best, many thanks",
    others="a about access account actually after again all almost already also am an and any anyone apple at"
    " because been before booking but by bye call calling can cannot card case change changed claim code"
    " company confirmation contact could customer date did do does doing done email everybody everyone excel"
    " expired fine folks for from given good great guys had happy has have having he hello help her here hi"
    " his how i if in incorrect information interested invalid is it its just last like listed looking madam"
    " many me member missing misspelled misspelt my name need never no not now number of office ok okay on"
    " once one only or order our outlook out password phone please policy problem put ready real really"
    " reference regarding right same since see service she sir so some soon sorry spelled spelt still support"
    " sure team teams tag thank thanks that the their them then there these they this those to today too"
    " trying under unable undefined until up urgent very waiting want was we well were what when where which"
    " who why will windows with word would writing wrong yes yet you your yours",
)
ES = Vocabulary(
    goods="pedido, pedidos, orden, envío, paquete, entrega",
    records="referencia, reserva, factura, recibo, expediente, localizador, póliza, siniestro, seguimiento, cuenta,"
    " cliente, contrato, caso, incidencia, transacción, albarán, reclamación, billete",
    secrets="contraseña, clave, código de seguridad, dni, nie, nif, seguridad social, pasaporte, código secreto",
    postcodes="código postal, cp, apartado de correos",
    fillers="es de del mi la el con",
    markers="número num núm nº no n nro id código ref",
    phones="teléfono, móvil, tlf, tfno, tel, celular, whatsapp, llámame al, llámeme al, llamarme al, mi número",
    names="me llamo, mi nombre es, mi nombre completo es, mi apellido es, mis apellidos son, nombre del titular,"
    " a nombre de",
    maybe_names="soy, le habla, habla, le saluda",
    speaking="de desde llamando hablando",
    titles="sr, sra, srta, don, doña, señor, señora, señorita",
    greetings="hola, estimado, estimada, querido, querida, buenos días, buenas tardes, buenas noches",
    closings="saludos, un saludo, atentamente, cordialmente, saludos cordiales",
    thanks="gracias, muchas gracias, un abrazo",
    others="a al algo amigo amigos bien buenas buenos cliente como con cordial cordiales cual cuando cuenta de del"
    " desde don donde dos el ella ellos en equipo es esta este esto favor gracias ha hay hola incorrecto la"
    " las lo los mal me mi mis muchas muy necesito ninguno no nombre nos nuestro o otra otro para pedido pero"
    " por porque problema que quien quiero quisiera se señor señora ser si sin sobre soporte soy su sus tal"
    " también tengo tiene todos un una uno usted y ya yo",
)
DE = Vocabulary(
    goods="bestellung, bestellungen, lieferung, paket, sendung",
    records="auftrag, rechnung, buchung, reservierung, vorgang, referenz, aktenzeichen, vertrag, konto, kunde, schaden,"
    " police, ticket, mitglied, buchungscode, kundenkonto, beleg, fall",
    secrets="passwort, kennwort, geheimzahl, prüfziffer, steuer id, sozialversicherung, ausweis, reisepass",
    postcodes="plz, postleitzahl, postfach",
    fillers="ist lautet war die der das meine mein mit",
    markers="nummer nummern nr id code zeichen kennung",
    phones="telefon, telefonnummer, handy, handynummer, rufnummer, mobilnummer, mobil, tel, erreichbar unter,"
    " rückrufnummer, meine nummer",
    names="ich heiße, ich heisse, mein name ist, mein name lautet, mein vorname ist, mein nachname ist, auf den namen",
    maybe_names="ich bin, hier ist, hier spricht",
    speaking="aus von hier",
    titles="herr, herrn, frau, hr, fr",
    greetings="hallo, hi, liebe, lieber, guten tag, guten morgen, guten abend, sehr geehrte, sehr geehrter, moin,"
    " servus",
    closings="grüße, grüßen, gruß, gruss, grüsse, grüssen, mfg, hochachtungsvoll, vg, lg",
    thanks="danke, vielen dank, besten dank",
    others="aber alle alles als am an auch auf aus bei beim bestellung bin bis bitte da damen danke das dass dein"
    " dem den der die doch du ein eine einem einen einer es falsch freundliche freundlichen für guten habe"
    " haben hat herren hier ich ihr ihre ihnen im immer in ist ja jetzt kann kein keine konto kunde kundin"
    " leider mein meine mich mir mit nach name nicht noch nun nur oder seit sehr sein sich sie sind so"
    " stammkunde support team um und uns unser vom von war was wegen weil wenn wer wie wieder wir wo zu"
    " zufrieden zum zur zusammen",
)
FR = Vocabulary(
    goods="commande, commandes, livraison, colis, envoi",
    records="référence, réservation, facture, dossier, suivi, compte, client, contrat, police, sinistre, billet,"
    " réclamation, transaction, adhérent, incident",
    secrets="mot de passe, code secret, code confidentiel, cryptogramme, sécurité sociale, passeport, carte d'identité",
    postcodes="code postal, boîte postale",
    fillers="est de du d ma mon la le c",
    markers="numéro num n no nº id code ref",
    phones="téléphone, portable, tél, mobile, joindre au, appeler au, rappeler au, numéro de téléphone, mon numéro",
    names="je m'appelle, mon nom est, mon prénom est, mon nom c'est, mon nom complet est, au nom de",
    maybe_names="je suis, c'est, ici",
    speaking="de à l'appareil",
    titles="m, mr, mme, mlle, monsieur, madame, mademoiselle",
    greetings="bonjour, bonsoir, salut, cher, chère",
    closings="cordialement, salutations, bien à vous, amicalement, bien cordialement",
    thanks="merci, merci d'avance, bonne journée",
    others="à au aucun aux avec avez bien bonjour ce cela ces cet cette chez client comme comment commande compte"
    " dans de depuis des distinguées donc du elle elles en encore est et être eux faux il ils j je jamais la"
    " le les leur leurs lors lui ma madame mais me merci mes moi mon monsieur ne nom nos notre nous on ou où"
    " par pas pour pourquoi problème quand que quel quelle qui sa sans se service ses si son sont sous sur ta"
    " te toujours tous tout toute très tu un une vos votre vous y équipe",
)
VOCABULARIES = {"en": EN, "es": ES, "de": DE, "fr": FR}

UNITS = word_set(
    "euro euros eur usd gbp chf dollar dollars bucks pound pounds cents pesos mxn inr rupees rupien rupias dirham"
    " percent prozent percento miles mile km kilometer kilometers kilometres kilometre kilometros m cm mm kg g gb"
    " mb tb mah mhz ghz hz watt watts volt inch inches zoll feet ft units unit pieces piece pcs items item copies"
    " pairs boxes bottles points people persons users customers calls times x days day weeks week months month"
    " years year hours hour hrs minutes minute min mins seconds am pm unidades piezas articulos puntos personas"
    " veces vez dias dia semanas meses mes años horas minutos stuck stück teile artikel punkte personen kunden mal"
    " tage tag wochen monate jahre stunden minuten uhr unites articles personnes fois jours jour semaines mois ans"
    " heures"
)
"""Flat words after a number that make it an amount."""


def listed(languages: Iterable[str], what: str) -> list[str]:
    """The comma-separated phrases of one field in the languages, each once."""
    found = [phrase.strip() for code in languages for phrase in getattr(VOCABULARIES[code], what).split(",")]
    return list(dict.fromkeys(found))


def flat_words(languages: Iterable[str], what: str) -> frozenset[str]:
    """The single words of one field in the languages, flat."""
    text = " ".join(getattr(VOCABULARIES[code], what) for code in languages)
    return frozenset(word for word in re.split(r"[\s,'’]+", flatten(text)) if word)


def flat_phrases(languages: Iterable[str], what: str) -> frozenset[str]:
    """The comma-separated phrases of one field in the languages, flat."""
    return frozenset(flatten(phrase) for phrase in listed(languages, what))
