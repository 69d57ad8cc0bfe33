"""``index.html``: the whole report on one page that needs no network."""

import base64
from collections.abc import Mapping

import jinja2

from experiments import formatting
from experiments.report.cells import cells, headings, legend, untrained_cells
from experiments.report.summary import Summary


def page(summary: Summary, images: Mapping[str, bytes]) -> str:
    """The page's HTML.

    Args:
        summary: the study's result.
        images: the figures by name, as SVG files; they are inlined.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("experiments.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    study = summary.study
    return environment.get_template("page.html").render(
        summary=summary,
        study=study,
        headings=headings(summary),
        lines=[("better" if row.bold else "", cells(row, study.metric)) for row in summary.rows]
        + [("untrained", untrained_cells(row, study.metric)) for row in summary.untrained],
        legend=legend(summary),
        seeds=_seeds(summary),
        figures=_figures(summary, images),
        changes={arm: [f"{path} = {value!r}" for path, value in delta.items()] for arm, delta in study.arms.items()},
    )


def _seeds(summary: Summary) -> list[tuple[int, list[str]]]:
    """Each seed with the metric of every arm, or with what became of the trial."""
    statuses = {(failure.arm, failure.seed): failure.status for failure in summary.failures}
    return [
        (
            int(str(seed)),
            [
                statuses.get((str(arm), int(str(seed))), formatting.metric_number(float(value), summary.study.metric))
                for arm, value in values.items()
            ],
        )
        for seed, values in summary.values.iterrows()
    ]


def _figures(summary: Summary, images: Mapping[str, bytes]) -> list[dict[str, str]]:
    """Source, caption and description of each image."""
    metric = summary.study.metric
    means = "; ".join(f"{row.arm} {formatting.metric_number(row.metric.mean, metric)}" for row in summary.rows)
    unit = " %" if metric.percent else ""
    captions = {
        "learning_curves": f"Learning curves: {metric.curve.replace('_', ' ')} against the training step. Lines are "
        "means over the seeds that are still finite, bands their 95% intervals. The vertical axis is fitted "
        "to the last nine tenths of the steps.",
        "metric_by_parameters": f"{metric.label[0].upper()}{metric.label[1:]} against the number of parameters. Small "
        "dots are seeds, large markers means with their 95% intervals.",
    }
    descriptions = {
        "learning_curves": f"Line chart, a line for each arm. Final {metric.label}{unit}: {means}.",
        "metric_by_parameters": f"Scatter chart, a point for each arm. Mean {metric.label}{unit}: {means}.",
    }
    return [
        {
            "name": name,
            "source": "data:image/svg+xml;base64," + base64.b64encode(image).decode(),
            "caption": captions[name],
            "description": descriptions[name],
        }
        for name, image in images.items()
    ]
