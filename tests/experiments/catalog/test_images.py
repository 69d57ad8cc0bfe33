"""The studies of convolutional networks for images: what their heads say and needs no training."""


def test_the_networks_of_mnist1d_have_the_published_sizes(parameters):
    published = {"mlp": 15_210, "linear": 410, "cnn": 5_210, "gru": 5_134}
    sizes = parameters("mnist1d", "cpu")
    assert sizes == published | {f"{name} shuffled": size for name, size in published.items()}
