"""What columns are called, in English, Spanish, German, French, Portuguese, Italian and Dutch.

Notable: names are compared word by word, whatever stands between the words (`StartTime`, `start_time`, `Start Time
(UTC)`), and without accents. A phrase fits a name if all of its words are there; the more of the name it explains, the
better.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache

PHRASES: dict[str, str] = {
    "contact_id": "contact id, call id, interaction id, conversation id, session id, ticket id, ticket, case id, "
    "case number, ucid, call key, callid, contactid, id, uuid, guid, chat id, record id, reference, "
    "id contacto, id llamada, identificador, id ticket, numero de ticket, folio, vorgang, "
    "vorgangsnummer, anruf id, kontakt id, ticketnummer, fallnummer, id contact, id appel, numero de "
    "dossier, id contato, id chamada, protocolo, id contatto, id chiamata, gesprek id, contactnummer, "
    "zaaknummer",
    "customer_id": "customer id, customer, client id, client, caller, caller id, ani, cli, phone, phone number, "
    "telephone, msisdn, from number, email, e mail, requester, requester id, account id, account "
    "number, user id, member id, cliente, id cliente, telefono, telefono cliente, numero de telefono, "
    "correo, kunde, kundennummer, kunden id, telefonnummer, rufnummer, anrufer, numero client, "
    "telephone client, courriel, appelant, telefone, numero cliente, codice cliente, klant, "
    "klantnummer, telefoonnummer",
    "arrived_at": "arrived at, arrival, arrival time, start time, start, started at, call start, created at, "
    "created, creation date, created time, offered, offered at, received, received at, enqueue time, "
    "enqueued at, queue start, begin, begin time, timestamp, datetime, date time, date, call date, "
    "call time, fecha, fecha inicio, hora inicio, fecha de inicio, fecha creacion, fecha hora, "
    "inicio, hora, llegada, hora de llegada, fecha llamada, beginn, startzeit, anfang, eingang, "
    "eingegangen am, erstellt, erstellt am, datum, uhrzeit, anrufzeit, debut, date debut, heure "
    "debut, date de debut, heure, cree le, date creation, date appel, data, data inicio, criado em, "
    "data criacao, data inizio, ora inizio, creato, begintijd, starttijd, aangemaakt, binnengekomen",
    "channel": "channel, media, media type, medium, contact type, interaction type, origin, canal, tipo de "
    "contacto, medio, origen, kanal, medientyp, kontaktart, canal contact, tipo de canal, canale, "
    "kanaal",
    "queue": "queue, queue name, skill, skill name, skill group, skillset, vdn, acd group, split, group, group "
    "name, department, cola, nombre de cola, grupo, departamento, servicio, warteschlange, gruppe, "
    "abteilung, skillgruppe, file, file d attente, groupe, service, fila, fila de atendimento, coda, "
    "gruppo, wachtrij, afdeling, groep",
    "language": "language, lang, locale, customer language, idioma, lengua, idioma cliente, sprache, "
    "kundensprache, langue, langue client, lingua, taal",
    "intent": "intent, reason, call reason, contact reason, category, topic, disposition reason, subject code, "
    "wrap up, wrap up code, issue type, type, motivo, motivo llamada, motivo de contacto, categoria, "
    "tema, tipo, tipologia, grund, anliegen, anrufgrund, kontaktgrund, kategorie, thema, motif, motif "
    "appel, motif de contact, categorie, assunto, motivo contatto, reden, onderwerp",
    "intent_text": "subject, description, summary, title, request, question, message, comment, comments, text, "
    "problem, issue, customer message, asunto, descripcion, consulta, mensaje, resumen, problema, "
    "betreff, beschreibung, anfrage, nachricht, frage, zusammenfassung, objet, sujet, demande, "
    "resume, assunto, descricao, mensagem, oggetto, descrizione, richiesta, messaggio, onderwerp, "
    "omschrijving, vraag, bericht",
    "transcript": "transcript, bot transcript, chat transcript, ivr transcript, conversation, dialog, "
    "transcripcion, conversacion, dialogo, transkript, verlauf, gespraechsverlauf, chatverlauf, "
    "transcription, transcricao, trascrizione, transcriptie, gesprek",
    "priority": "priority, prio, urgency, prioridad, urgencia, prioritaet, prioritat, dringlichkeit, priorite, "
    "urgence, prioridade, priorita, prioriteit",
    "abandoned_at": "abandoned at, abandon time, abandoned time, hora abandono, fecha abandono, abgebrochen am, "
    "aufgelegt um, heure abandon, abandonado em, abbandonato",
    "csa_id": "agent, agent id, agent name, agentid, csa, csa id, csr, operator, operator id, representative, "
    "rep, employee, employee id, user, username, login, assignee, assignee id, assigned to, owner, "
    "handled by, answered by, server, agente, id agente, operador, asesor, empleado, ejecutivo, "
    "gestor, atendido por, agent nr, mitarbeiter, mitarbeiter id, personalnummer, bearbeiter, "
    "sachbearbeiter, conseiller, id conseiller, operateur, matricule, traite par, atendente, id "
    "atendente, operatore, consulente, addetto, medewerker, agentnummer",
    "assigned_at": "assigned at, assigned, answered at, answer time, answered, accepted at, connected at, connect "
    "time, agent start, pickup time, service start, ser start, talk start, dequeue time, hora "
    "asignacion, asignado, hora atencion, fecha asignacion, fecha atencion, respondida, contestada, "
    "hora respuesta, zugewiesen, zugewiesen am, angenommen, angenommen am, annahmezeit, "
    "gespraechsbeginn, attribue le, heure decroche, decroche, prise en charge, atribuido em, hora "
    "atendimento, assegnato, ora risposta, toegewezen, beantwoord om",
    "ended_at": "ended at, end time, end, ended, call end, finished, finished at, closed at, closed, completed "
    "at, solved at, resolved at, disconnect time, hangup, hangup time, service end, ser exit, agent "
    "end, fecha fin, hora fin, fin, fecha de fin, fecha cierre, cierre, hora cierre, final, ende, "
    "endzeit, beendet, beendet am, geschlossen am, gespraechsende, date fin, heure fin, date de fin, "
    "cloture, ferme le, cloture le, data fim, hora fim, encerrado em, fine, data fine, ora fine, "
    "chiuso, eindtijd, einde, afgesloten",
    "resolved": "resolved, is resolved, solved, fcr, first call resolution, first contact resolution, outcome, "
    "result, status, disposition, success, successful, resolution, resuelto, resuelta, resultado, "
    "estado, solucionado, exito, geloest, gelost, ergebnis, erledigt, resolu, resultat, statut, etat, "
    "resolvido, situacao, risolto, esito, stato, opgelost, resultaat",
    "csat": "csat, rating, satisfaction, satisfaction score, survey, survey score, score, nps, stars, "
    "customer satisfaction, satisfaccion, puntuacion, calificacion, encuesta, nota, valoracion, "
    "zufriedenheit, bewertung, kundenzufriedenheit, note, satisfaction client, enquete, satisfacao, "
    "avaliacao, soddisfazione, valutazione, tevredenheid, beoordeling",
    "quality_score": "quality, quality score, qa score, qa, evaluation, evaluation score, calidad, puntuacion calidad, "
    "qualitaet, qualitat, qualitaetsnote, qualite, note qualite, qualidade, qualita, kwaliteit",
    "handle_time_s": "handle time, aht, handling time, talk time, duration, call duration, service time, ser time, "
    "handle duration, contact duration, time spent, total time spent, duracion, tiempo de atencion, "
    "tiempo conversacion, tiempo, tmo, dauer, bearbeitungszeit, gespraechsdauer, gespraechszeit, "
    "duree, duree traitement, duree appel, dmt, duracao, tempo de atendimento, tma, durata, tempo di "
    "gestione, duur, afhandeltijd",
    "wait_s": "wait, wait time, waiting time, queue time, q time, time in queue, asa, speed of answer, hold in "
    "queue, espera, tiempo de espera, tiempo en cola, wartezeit, wartedauer, attente, temps attente, "
    "duree attente, tempo de espera, attesa, tempo di attesa, wachttijd",
    "transferred": "transferred, is transferred, transfer, transfer flag, escalated, transferido, transferida, "
    "escalado, weitergeleitet, verbunden, eskaliert, transfere, trasferito, doorverbonden",
    "hired_at": "hired at, hire date, start date, joined, joining date, employed since, fecha alta, fecha "
    "contratacion, fecha ingreso, eintritt, eintrittsdatum, eingestellt, date embauche, date entree, "
    "data admissao, data assunzione, in dienst",
    "left_at": "left at, leave date, end date, terminated, termination date, fecha baja, austritt, "
    "austrittsdatum, date sortie, date depart, data demissao, data uscita, uit dienst",
    "team": "team, team name, group, squad, supervisor, equipo, mannschaft, gruppe, equipe, squadra, ploeg",
    "site": "site, location, office, city, centre, center, sede, ciudad, centro, oficina, standort, ort, "
    "lieu, ville, cidade, local, citta, locatie, vestiging",
    "languages": "languages, spoken languages, idiomas, sprachen, langues, linguas, lingue, talen",
    "skills": "skills, skill list, competences, habilidades, competencias, faehigkeiten, fahigkeiten, "
    "kenntnisse, competenze, vaardigheden",
    "profile": "profile, bio, notes, about, role, job title, perfil, puesto, profil, rolle, poste, funcao, "
    "profilo, ruolo, functie",
    "capacity": "capacity, concurrency, max contacts, capacidad, kapazitaet, kapazitat, capacite, capacidade, "
    "capacita, capaciteit",
    "cost": "cost, hourly cost, rate, wage, coste, costo, kosten, stundensatz, cout, custo, costo orario, "
    "kostprijs",
    "kind": "kind, agent type, tipo agente, agententyp",
    "since": "since, customer since, registered, signup date, cliente desde, fecha registro, kunde seit, "
    "client depuis, cliente dal, klant sinds",
    "starts_at": "starts at, shift start, start, start time, from, begin, inicio, inicio turno, hora inicio, "
    "schichtbeginn, beginn, debut, debut poste, inizio, inizio turno, begin dienst",
    "ends_at": "ends at, shift end, end, end time, until, to, fin, fin turno, hora fin, schichtende, ende, fin "
    "poste, fim, fine, fine turno, einde dienst",
}  # fmt: skip
"""By column of a table, or `wait_s`, a duration that others are made of: phrases, the plainest first."""
_BEGINS = frozenset({"start", "started", "begin", "beginn", "inicio", "debut", "inizio", "anfang", "open", "opened"})
_ENDS = frozenset({"end", "ended", "fin", "ende", "fim", "fine", "einde", "closed", "cierre", "cloture", "hangup"})
OPPOSED = {
    **dict.fromkeys(("arrived_at", "assigned_at", "hired_at", "starts_at", "since"), _ENDS),
    **dict.fromkeys(("ended_at", "left_at", "ends_at", "abandoned_at"), _BEGINS),
}
"""Words that speak against a target: `call end time` is no beginning, though it is a `call time`."""
_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_NOISE = frozenset(
    {"utc", "gmt", "the", "of", "de", "del", "la", "le", "der", "die", "das", "du", "des", "do", "da", "di"}
)


def words_of(name: str) -> frozenset[str]:
    """The words of a column's name: `CallStartTime (UTC)` → call, start, time."""
    plain = unicodedata.normalize("NFKD", name.replace("ß", "ss"))
    found = {part.lower() for part in _PARTS.findall("".join(c for c in plain if not unicodedata.combining(c)))}
    return frozenset(found - _NOISE) or frozenset(found)


@cache
def _phrases(target: str) -> tuple[frozenset[str], ...]:
    return tuple(words_of(phrase) for phrase in PHRASES[target].split(", "))


def likeness(name: str, target: str) -> tuple[float, str]:
    """(0 to 1, the phrase): how well a name says that its column is `target`."""
    words = words_of(name)
    best, why = 0.0, ""
    for phrase, text in zip(_phrases(target), PHRASES[target].split(", "), strict=True):
        if not phrase <= words:
            continue
        share = len(phrase) / len(words)
        score = 1.0 if share == 1 else 0.85 * share**0.5
        score *= 0.4 if (words - phrase) & OPPOSED.get(target, frozenset()) else 1.0
        if score > best:
            best, why = score, text
    return best, why
