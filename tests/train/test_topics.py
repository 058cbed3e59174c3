"""Topics: found by the company that clauses keep, told from tokens as a plain loop would tell them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from train.texts import load_tokenizer
from train.topics import break_ids, fit_topics, presence_of, read_topics
from twotower.text.tokens import Tokenizer
from twotower.towers.config import TowerConfig
from twotower.towers.topics import Topics

Longs = npt.NDArray[np.int64]
# Causes stand across intents, each with habits of its own; two ways of saying each, in two languages.
CAUSES = {
    "update": (["since the update it fails", "after your new version nothing works"],
               ["desde la actualización falla", "con la nueva versión nada funciona"]),
    "promise": (["a colleague promised this to me", "i was told it would be fine"],
                ["un compañero me lo prometió", "me dijeron que todo iría bien"]),
    "papers": (["the form asks for a certificate", "i cannot get hold of the papers"],
               ["el formulario pide un certificado", "no consigo los papeles"]),
}  # fmt: skip
INTENTS = {
    "bill": (["my bill is far too high", "you charged me twice"], ["mi factura es muy alta", "me cobraron dos veces"]),
    "move": (["i am moving house", "please transfer my contract"], ["me mudo de casa", "trasladen mi contrato"]),
    "login": (["i cannot log in", "my password is refused"], ["no puedo entrar", "rechaza mi contraseña"]),
    "parcel": (["my parcel is late", "nothing was delivered"], ["mi paquete no llega", "no entregaron nada"]),
}
LIKELY = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.34, 0.33, 0.33]])


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_tokenizer(TowerConfig(max_tokens=64))


@pytest.fixture(scope="module")
def said() -> tuple[list[str], Longs, Longs, Longs]:
    """Texts, labels, languages, and the cause of each."""
    random = np.random.default_rng(0)
    intent, language = random.integers(0, 4, 4000), random.integers(0, 2, 4000)
    cause = np.array([random.choice(3, p=LIKELY[i]) for i in intent])
    texts = [
        f"{random.choice(list(INTENTS.values())[i][tongue])}. hello, {random.choice(list(CAUSES.values())[c][tongue])}!"
        for i, tongue, c in zip(intent, language, cause, strict=True)
    ]
    return texts, intent, language, cause


@pytest.fixture(scope="module")
def fitted(tokenizer: Tokenizer, said: tuple[list[str], Longs, Longs, Longs]) -> Topics:
    topics = fit_topics(tokenizer.encode_corpus(said[0]), tokenizer, said[1], said[2], 7)
    assert topics is not None
    return topics


def strongest(topics: Topics, tokenizer: Tokenizer, text: str) -> int:
    with torch.inference_mode():
        return int(topics.presence(torch.from_numpy(tokenizer.encode([text])))[0].argmax())


@pytest.mark.parametrize("ways", [*CAUSES.values(), *INTENTS.values()])
def test_ways_of_saying_one_thing_are_one_topic_in_both_languages(
    fitted: Topics, tokenizer: Tokenizer, ways: tuple[list[str], list[str]]
) -> None:
    assert len({strongest(fitted, tokenizer, way) for way in (*ways[0], *ways[1])}) == 1


def test_different_things_are_different_topics(fitted: Topics, tokenizer: Tokenizer) -> None:
    meanings = [ways[0][0] for ways in (*CAUSES.values(), *INTENTS.values())]
    assert len({strongest(fitted, tokenizer, text) for text in meanings}) == 7


def test_a_wording_that_was_never_seen_is_told_by_its_words(fitted: Topics, tokenizer: Tokenizer) -> None:
    assert strongest(fitted, tokenizer, "the update fails") == strongest(fitted, tokenizer, "since the update it fails")


def test_topics_tell_causes_that_labels_do_not(
    fitted: Topics, tokenizer: Tokenizer, said: tuple[list[str], Longs, Longs, Longs]
) -> None:
    texts, _, _, cause = said
    read = read_topics(fitted, tokenizer.encode_corpus(texts))
    assert np.allclose(read.mean(axis=0, dtype=np.float64), 0, atol=1e-3)
    design = np.column_stack([read, np.ones(len(read))])
    wanted = np.eye(3)[cause]
    error = wanted - design @ np.linalg.lstsq(design, wanted, rcond=None)[0]
    assert 1 - (error**2).sum() / ((wanted - wanted.mean(axis=0)) ** 2).sum() > 0.9


def test_presence_is_what_a_loop_over_clauses_says(fitted: Topics, tokenizer: Tokenizer) -> None:
    texts = ["my bill is far too high. since the update it fails!", "", "?!", "hello", "no marks at all " * 20]
    tokens = tokenizer.encode(texts)
    silent, breaks = set(tokenizer.special_ids()), set(break_ids(tokenizer))
    with torch.inference_mode():
        found = fitted.presence(torch.from_numpy(tokens)).numpy()
    for row, ids in enumerate(tokens.tolist()):
        clauses: list[list[int]] = [[]]
        for token in ids:
            if token in breaks:
                clauses.append([])
            elif token not in silent:
                clauses[-1].append(token)
        best = np.zeros(fitted.count)
        for clause in clauses:
            logits = sum((fitted.weight[t].double().numpy() for t in clause), np.zeros(fitted.count))
            if np.abs(logits).sum() > 0:
                p = np.exp(logits + fitted.bias.double().numpy())
                best = np.maximum(best, p / p.sum())
        assert np.allclose(found[row], best, atol=1e-5)


def test_training_reads_the_presence_that_the_graph_reads(
    fitted: Topics, tokenizer: Tokenizer, said: tuple[list[str], Longs, Longs, Longs]
) -> None:
    many = "no. " * 80 + "my bill is far too high."  # beyond the clauses that are read
    texts = [*said[0][:500], "", "?!", "nothing known here", many, "my bill is far too high. my bill"]
    tokens = tokenizer.encode_corpus(texts)
    found = presence_of(fitted, tokens)
    with torch.inference_mode():
        graph = fitted.presence(torch.from_numpy(tokens.pad(np.arange(len(tokens))))).numpy()
        read = fitted(torch.from_numpy(tokens.pad(np.arange(len(tokens))))).numpy()
    assert np.allclose(found, graph, atol=1e-6)
    assert found.max() > 0.9
    assert np.allclose(read_topics(fitted, tokens), read, atol=1e-5)
    assert not presence_of(fitted, tokenizer.encode_corpus(["", "?!"])).any()


def test_punctuation_cuts_and_company_does_not_dilute(fitted: Topics, tokenizer: Tokenizer) -> None:
    alone = "since the update it fails"
    crowd = f"my parcel is late. hello, hello, hello. {alone}. a colleague promised this to me."
    topic = strongest(fitted, tokenizer, alone)
    with torch.inference_mode():
        p = fitted.presence(torch.from_numpy(tokenizer.encode([alone, crowd])))[:, topic]
    assert float(p[1]) >= float(p[0]) - 1e-6


@pytest.mark.parametrize("labels", [np.full(4000, -1), np.zeros(4000, np.int64)])
def test_without_labels_there_are_no_topics(
    tokenizer: Tokenizer, said: tuple[list[str], Longs, Longs, Longs], labels: Longs
) -> None:
    assert fit_topics(tokenizer.encode_corpus(said[0]), tokenizer, labels, said[2], 7) is None


def test_texts_in_which_nothing_recurs_have_no_topics(tokenizer: Tokenizer) -> None:
    texts = [f"word{i} only{i} once{i}" for i in range(100)]
    assert fit_topics(tokenizer.encode_corpus(texts), tokenizer, np.arange(100) % 5, np.zeros(100, np.int64), 7) is None


def test_topics_do_not_depend_on_how_many_were_read_at_once(fitted: Topics, tokenizer: Tokenizer) -> None:
    texts = ["my bill is far too high", "since the update it fails. me mudo de casa"]
    both = read_topics(fitted, tokenizer.encode_corpus(texts))
    each = np.concatenate([read_topics(fitted, tokenizer.encode_corpus([text])) for text in texts])
    assert np.allclose(both, each, atol=1e-6)
