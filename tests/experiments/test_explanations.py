"""What trained models look at: gradients against finite differences, completeness, and what fits which model."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import models
from experiments.__main__ import main
from experiments.explanations import run, views
from experiments.explanations.gradients import integrated_gradients, saliency
from experiments.explanations.methods import filters, neighbours
from experiments.explanations.subject import Subject, visible
from experiments.explanations.views import Explanation, Panel
from experiments.report import drawing, explanations
from models import cnn, encoder_decoder, ltsf_linear, mlp, rnn, seq2seq, tcn, text_cnn, transformer
from models.base import BadInput
from train import data
from train.config import Config
from train.data import digits, electricity, number_words, sotu, sotu_party
from train.optimizers import sgd
from train.schedules import constant
from train.weights import Weights

DATA = {
    "digits": digits.Config(),
    "party": sotu_party.Config(length=12, train_examples=60, least=1),
    "text": sotu.Config(context=12, evaluation_characters=512),
    "series": electricity.Config(context=24, horizon=6),
    "pairs": number_words.Config(numbers=100),
}


@pytest.fixture(scope="module")
def task_of():
    tasks = {}

    def load(name):
        if name not in tasks:
            tasks[name] = data.load(DATA[name], None)
        return tasks[name]

    return load


@pytest.fixture
def subject_of(task_of):
    """A model with fresh weights and two validation examples."""

    def make(name, config):
        task = task_of(name)
        whole = Config(data=DATA[name], model=config, optimizer=sgd.Config(), schedule=constant.Config())
        arrays = jax.tree.map(jnp.asarray, dict(task.validation.arrays))
        batch = task.sampler.evaluation_batch(arrays, jnp.arange(2, dtype=jnp.int32))
        variables = jax.jit(models.build(config, task.shapes).init)(jax.random.key(1), batch.inputs)
        weights = Weights(dict(variables), whole, task.shapes, {})
        return Subject(trial="made-s0", weights=weights, task=task, batch=batch)

    return make


def cubic(x):
    return jnp.sum(x**3 * jnp.arange(1.0, 4.0)[None], axis=1)


def test_integrated_gradients_of_a_polynomial_are_its_terms():
    inputs = jnp.array([[1.0, -2.0, 0.5], [0.0, 1.0, 3.0]])
    found = integrated_gradients(cubic, inputs, jnp.zeros_like(inputs))
    np.testing.assert_allclose(found.values, inputs**3 * jnp.arange(1.0, 4.0)[None], rtol=1e-2, atol=1e-3)
    assert found.gap.max() < 0.01


def test_integrated_gradients_take_more_points_where_they_are_needed():
    def steep(x):
        return jnp.sum(jnp.tanh(200 * (x - 0.5)), axis=1)

    found = integrated_gradients(steep, jnp.ones((1, 1)), jnp.zeros((1, 1)))
    assert found.steps > 32
    assert found.gap.max() < 0.01


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("digits", mlp.Config(depth=1, width=8, activation="tanh")),
        ("series", ltsf_linear.Config(decomposition="moving_average", kernel_size=3)),
    ],
)
def test_gradients_of_real_inputs_are_finite_differences(subject_of, name, config):
    question = subject_of(name, config).question()
    gradient = np.asarray(saliency(question.score, question.inputs))
    place = tuple(np.unravel_index(np.argmax(np.abs(gradient[0])), gradient[0].shape))
    step = np.zeros(question.inputs.shape, np.float32)
    step[(0, *place)] = 0.05
    above, below = (np.asarray(question.score(question.inputs + sign * step))[0] for sign in (1, -1))
    assert gradient[(0, *place)] == pytest.approx((above - below) / 0.1, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("party", text_cnn.Config(kernel_sizes=(2,), channels=6, embedding=5)),
        ("party", rnn.Config(cell="gru", width=6, embedding=5)),
        ("text", tcn.Config(width=6, depth=2, embedding=5)),
        ("text", transformer.Config(width=8, depth=1, heads=2, feedforward=8, tie_embeddings=True)),
    ],
    ids=["text_cnn", "gru", "tcn", "tied transformer"],
)
def test_gradients_of_words_are_those_of_the_table(subject_of, name, config):
    """Moving a row of the table moves the score as the gradients of all its positions say, for the inputs at least."""
    subject = subject_of(name, config)
    question = subject.question()
    model, variables = subject.model(), subject.weights.variables
    outputs, _ = model.apply(variables, subject.batch.inputs, train=False, rngs={}, hyperparameters={})
    choice, _ = subject._choice(outputs)
    np.testing.assert_allclose(question.score(question.inputs), subject._score(outputs, choice), rtol=1e-4, atol=1e-5)
    if getattr(config, "tie_embeddings", False):  # there a row is an output as well
        return
    gradient = np.asarray(saliency(question.score, question.inputs))
    tokens = np.asarray(getattr(subject.batch.inputs, "values", subject.batch.inputs))
    token = tokens[0, np.argmax(np.linalg.norm(gradient[0], axis=-1))]
    expected = gradient[0][tokens[0] == token].sum(axis=0)

    def moved(size):
        table = np.array(variables["params"]["tokens"]["embedding"])
        table[token] += size * expected / np.linalg.norm(expected)
        params = {**variables["params"], "tokens": {"embedding": jnp.asarray(table)}}
        given, _ = model.apply({"params": params}, subject.batch.inputs, train=False, rngs={}, hyperparameters={})
        return float(subject._score(given, choice)[0])

    assert np.linalg.norm(expected) == pytest.approx((moved(0.02) - moved(-0.02)) / 0.04, rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "config", "expected"),
    [
        ("digits", cnn.Config(channels=(4,)), {"saliency", "filters"}),
        ("digits", mlp.Config(depth=0), {"saliency", "filters"}),
        (
            "digits",
            transformer.Config(width=8, depth=1, heads=2, feedforward=8, patch_size=14),
            {"attention", "saliency", "filters"},
        ),
        ("series", ltsf_linear.Config(), {"saliency", "filters"}),
        ("series", rnn.Config(cell="lstm", width=6), {"saliency", "gates"}),
        ("party", text_cnn.Config(kernel_sizes=(2,), channels=6, embedding=5), {"saliency", "neighbours"}),
        ("party", rnn.Config(cell="lstm", width=6, embedding=5), {"saliency", "neighbours", "gates"}),
        (
            "text",
            transformer.Config(width=8, depth=2, heads=2, feedforward=8, scan_layers=True),
            {"attention", "saliency", "neighbours"},
        ),
        ("pairs", seq2seq.Config(width=8, embedding=4), {"attention", "gates"}),
        (
            "pairs",
            encoder_decoder.Config(width=8, depth=1, heads=2, feedforward=8),
            {"attention", "neighbours"},
        ),
    ],
)
def test_each_model_has_the_explanations_that_fit_it(subject_of, task_of, tmp_path, name, config, expected):
    subject = subject_of(name, config)
    found = run.of("made-s0", subject.weights, task_of(name))
    names = {each.name for each in found}
    assert expected <= names
    assert ("attention" in names) == ("attention" in expected)
    assert ("gates" in names) == ("gates" in expected)
    assert all(np.isfinite(panel.values).all() for each in found for panel in each.panels)
    views.write(tmp_path, "made-s0", found)
    again = views.read(tmp_path, {"made-s0"})
    assert [each.name for each in again] == [each.name for each in found]
    with drawing.style():
        for _, figure in explanations.figures(again):
            drawing.render(figure, "svg")


def test_attention_of_texts_is_labelled_and_sums_to_one(subject_of):
    from experiments.explanations.methods import attention

    subject = subject_of("text", transformer.Config(width=8, depth=1, heads=2, feedforward=8))
    (found,) = attention(subject)
    assert len(found.panels) == 2
    for panel in found.panels:
        assert panel.columns == subject.words(0)
        np.testing.assert_allclose(panel.values.sum(axis=1), 1, atol=1e-5)
        assert not np.triu(panel.values, 1).any()  # it is causal


def test_filters_are_the_weights_themselves(subject_of):
    subject = subject_of("digits", mlp.Config(depth=1, width=5))
    (found,) = filters(subject)
    kernel = np.asarray(subject.params["hidden_0"]["kernel"])
    for panel in found.panels:
        np.testing.assert_array_equal(panel.values, kernel[:, int(panel.title)].reshape(28, 28))
    norms = [np.linalg.norm(panel.values) for panel in found.panels]
    assert norms == sorted(norms, reverse=True)


def test_neighbours_are_nearest_by_cosine(subject_of):
    subject = subject_of("party", text_cnn.Config(kernel_sizes=(2,), channels=6, embedding=5))
    (found,) = neighbours(subject)
    table = np.asarray(subject.params["tokens"]["embedding"], np.float64)
    words = [subject.task.spell[0](token) for token in range(len(table))]
    panel = found.panels[0]
    asked = words.index(panel.rows[0])
    likeness = table @ table[asked] / np.linalg.norm(table, axis=1) / np.linalg.norm(table[asked])
    likeness[[asked, 0, 1]] = -1  # itself, padding and the unknown, which are no words
    assert panel.columns[0] == words[int(np.argmax(likeness))]
    assert panel.values[0, 0] == pytest.approx(likeness.max(), abs=1e-6)


def test_blanks_can_be_seen():
    assert [visible(token) for token in (" ", "\n", "a", "")] == ["␣", "⏎", "a", "∅"]


def test_damaged_explanations_are_refused(tmp_path):
    panel = Panel(kind="heat", title="t", values=np.array([[1.0, np.nan]]), columns=("a", "b"))
    views.write(tmp_path, "x-s0", [Explanation(name="attention", trial="x-s0", caption="c", panels=(panel,))])
    (found,) = views.read(tmp_path, {"x-s0"})
    assert found.panels[0].columns == ("a", "b")
    assert views.read(tmp_path, {"y-s0"}) == ()
    (tmp_path / "explanations" / "x-s0.json").write_text('[{"name": 1}]')
    with pytest.raises(BadInput, match="damaged"):
        views.read(tmp_path, {"x-s0"})


@pytest.mark.slow
def test_the_command_line_explains_a_finished_study(tmp_path, capsys):
    small = [
        "--experiment=architectures",
        "--preset=smoke",
        "--arms=cnn",
        "--seeds=2",
        "--config.training.steps=2",
        "--config.training.evaluate_every=2",
        "--config.schedule.warmup_steps=1",
        f"--workdir={tmp_path}",
    ]
    assert main(small) == 0
    assert main([*small, "--explain=nobody"]) == 2
    assert "unknown arm or trial 'nobody'" in capsys.readouterr().err
    assert main([*small, "--explain=cnn-s1"]) == 0
    folder = tmp_path / "architectures"
    assert sorted(path.name for path in (folder / "explanations").iterdir()) == ["cnn-s1.json"]
    assert (folder / "report" / "figures" / "explanation-cnn-s1-saliency.png").exists()
    assert "What the networks look at" in (folder / "report" / "index.html").read_text(encoding="utf-8")
    assert main([*small, "--explain"]) == 0
    assert {path.name for path in (folder / "explanations").iterdir()} == {"mlp-s0.json", "cnn-s0.json", "cnn-s1.json"}
    shutil.rmtree(folder / "checkpoints")
    assert main([*small, "--explain=cnn"]) == 2
    assert "trial 'cnn-s0' has no weights" in capsys.readouterr().err
