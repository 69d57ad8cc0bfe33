"""What a trained model looks at and what it has learnt, as numbers; ``experiments.report.explanations`` draws them.

Examples are those of the validation split; the test split stays closed. Which explanations there are follows from the
model and the data: attention where a model attends, filters where its first layer sees pixels, and so on.
"""
