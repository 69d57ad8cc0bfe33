"""What was registered first stays; what came later can be told from it."""

import dataclasses
import json

import pytest

from experiments import plan, registration
from experiments.plan import resolve
from experiments.study import Within
from models.base import BadInput


@pytest.fixture(scope="module")
def found():
    return resolve(plan.load("architectures", "smoke"), arms=["cnn"])


def content(found):
    return registration.content(found.study, found.configs)


def test_the_first_registration_stays(found):
    first = registration.register(content(found), None)
    more = resolve(plan.load("architectures", "smoke"), seeds=4)
    entry = registration.register(content(more), json.loads(json.dumps(first)))
    assert entry == first
    read = registration.read(entry, content(more))
    assert read.arms == ("mlp", "cnn")
    assert read.seeds == (0, 1)
    assert read.changed == ()
    assert len(read.digest) == 64


def test_changed_terms_are_named(found):
    first = registration.register(content(found), None)
    claim = dataclasses.replace(found.study.claims[0], margin=0.01)
    other = dataclasses.replace(found.study, claims=(claim,), test="wilcoxon")
    assert registration.read(first, registration.content(other, found.configs)).changed == ("claims", "test")


def test_a_registration_that_was_edited_is_damaged(found, tmp_path):
    entry = registration.register(content(found), None)
    entry["content"]["seeds"] = [0, 1, 2]
    path = tmp_path / "study.json"
    path.write_text(json.dumps({"registration": entry}))
    with pytest.raises(BadInput, match="is damaged"):
        registration.entry(path)
    assert registration.entry(tmp_path / "absent.json") is None


def test_a_band_with_an_open_end_is_written_as_json():
    claim = Within(statement="a", source="b", arm="c", low=0.5)
    written = json.loads(json.dumps(claim.to_dict(), allow_nan=False))
    assert written == {
        "kind": "Within",
        "statement": "a",
        "source": "b",
        "metric": None,
        "arm": "c",
        "low": 0.5,
        "high": "inf",
    }
