"""A folder of images per class: with files that Pillow writes here."""

import numpy as np
import pytest
from PIL import Image

from models.base import BadInput
from train.data import image_folder
from train.data.task import Batch, FinalEvaluation

COLOURS = {"cat": (200, 40, 10), "dog": (20, 160, 90), "eel": (5, 30, 220)}


def paint(folder, *, each=10, size=(6, 4), ending="png", classes=COLOURS):
    """Images of width 6 and height 4, of one colour a class, with a pixel that tells them apart."""
    for name, colour in classes.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(each):
            image = Image.new("RGB", size, colour)
            image.putpixel((number % size[0], number // size[0]), (255, 255, number))
            image.save(folder / name / f"{number:03}.{ending}")


def load(data_dir, **options):
    return image_folder.load(image_folder.Config(**options), data_dir)


def pictures(task):
    splits = {"train": task.train.arrays, "validation": task.validation.arrays}
    splits["test"] = task.test.open(FinalEvaluation())
    return {
        split: [(task.show(Batch(inputs, None, None)), label) for inputs, label in zip(*arrays.values(), strict=True)]
        for split, arrays in splits.items()
    }


def test_a_folder_is_split_class_by_class(tmp_path):
    paint(tmp_path / "image_folder")
    task = load(tmp_path)
    assert task.shapes.inputs == (4, 6, 3)
    assert task.facts["class_names"] == "cat, dog, eel"
    found = pictures(task)
    for split, each in (("train", 7), ("validation", 1), ("test", 2)):
        assert np.bincount([label for _, label in found[split]]).tolist() == [each] * 3
    for picture, label in every(found):
        colours, counts = np.unique(picture.reshape(-1, 3), axis=0, return_counts=True)
        assert colours[counts.argmax()].tolist() == list(COLOURS[list(COLOURS)[label]])
    assert len({picture.tobytes() for picture, _ in every(found)}) == 30
    again = load(None, folder=str(tmp_path / "image_folder"))
    assert again.facts["fingerprint"] == task.facts["fingerprint"]


def every(found):
    return [pair for split in found.values() for pair in split]


@pytest.mark.parametrize("validation", ["validation", "val", None])
def test_splits_that_are_given(tmp_path, validation):
    for split, each in (("train", 10), (validation, 3), ("test", 4)):
        if split:
            paint(tmp_path / "own" / split, each=each)
    counts = {split: len(found) for split, found in pictures(load(tmp_path, folder="own")).items()}
    whole, cut = {"train": 30, "validation": 9, "test": 12}, {"train": 27, "validation": 3, "test": 12}
    assert counts == (whole if validation else cut)


def test_grey_resized_and_fewer(tmp_path):
    paint(tmp_path / "image_folder", size=(6, 4))
    Image.new("RGB", (12, 8), COLOURS["cat"]).save(tmp_path / "image_folder" / "cat" / "large.png")
    task = load(tmp_path, size=5, colour=False, train_examples=6)
    assert task.shapes.inputs == (5, 5, 1)
    assert np.bincount(task.train.arrays["targets"]).tolist() == [2, 2, 2]
    assert pictures(task)["test"][0][0].shape == (5, 5)


def test_shrinking_averages(tmp_path):
    """A board of single black and white pixels becomes grey, not one of the two."""
    for name in ("a", "b"):
        (tmp_path / "image_folder" / name).mkdir(parents=True)
        for number in range(4):
            board = (np.indices((16, 16)).sum(0) % 2 * 255).astype(np.uint8)
            Image.fromarray(board).save(tmp_path / "image_folder" / name / f"{number}.png")
    for picture, _ in pictures(load(tmp_path, size=4, colour=False))["test"]:
        assert picture.min() > 100
        assert picture.max() < 155


def test_images_of_two_sizes_are_refused(tmp_path):
    paint(tmp_path / "image_folder")
    paint(tmp_path / "image_folder", size=(7, 4), each=1, classes={"dog": COLOURS["dog"]})
    with pytest.raises(BadInput, match=r"is 7 x 4 pixels, .* is 6 x 4: images must be of one size; data.size=N"):
        load(tmp_path)
    assert load(tmp_path, size=4).shapes.inputs == (4, 4, 3)
    for split, size in (("train", (6, 4)), ("test", (6, 5))):
        paint(tmp_path / "own" / split, size=size)
    with pytest.raises(BadInput, match=r"is 6 x 5 pixels, .* is 6 x 4"):
        load(tmp_path, folder="own")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_every_kind_of_8_bits_is_read(tmp_path, mode):
    paint(tmp_path / "image_folder", each=4)
    ending = "tiff" if mode == "CMYK" else "png"
    Image.new("RGB", (6, 4), (255, 255, 255)).convert(mode).save(tmp_path / "image_folder" / "cat" / f"white.{ending}")
    whites = [picture for picture, _ in every(pictures(load(tmp_path))) if (picture >= 254).all()]
    assert len(whites) == 1


def test_an_image_is_turned_as_its_camera_says(tmp_path):
    paint(tmp_path / "image_folder", each=4)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    Image.new("RGB", (4, 6)).save(tmp_path / "image_folder" / "cat" / "turned.jpg", exif=exif)
    assert load(tmp_path).shapes.inputs == (4, 6, 3)


def broken_png(folder):
    content = (folder / "cat" / "001.png").read_bytes()
    (folder / "cat" / "001.png").write_bytes(content[: len(content) // 2])


BREAKS = {
    "an image cut short": (broken_png, r"cat/001.png cannot be read as an image"),
    "an empty image": (lambda f: (f / "dog" / "002.png").write_bytes(b""), "dog/002.png cannot be read as an image"),
    "text called png": (lambda f: (f / "dog" / "002.png").write_text("hello"), "dog/002.png cannot be read"),
    "another file": (lambda f: (f / "dog" / "notes.txt").write_text("x"), "notes.txt is not an image; expected files"),
    "an empty class": (lambda f: (f / "fox").mkdir(), "fox is empty: expected images"),
    "a class of one": (
        lambda f: ((f / "fox").mkdir(), Image.new("RGB", (6, 4)).save(f / "fox" / "a.png")),
        "the class 'fox' has 1 images: too few to train on after 2 are held out",
    ),
    "16 bits": (
        lambda f: Image.fromarray(np.zeros((4, 6), np.uint16)).save(f / "cat" / "deep.png"),
        "deep.png has pixels of the kind 'I;16'; expected 8 bits a channel",
    ),
    "splits and classes": (lambda f: (f / "train").mkdir(), "has the folders train and 'cat': splits or classes"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_broken_folders(name, tmp_path):
    folder = tmp_path / "image_folder"
    paint(folder)
    change, message = BREAKS[name]
    change(folder)
    with pytest.raises(BadInput, match=message) as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


def test_what_is_hidden_is_passed_over(tmp_path):
    paint(tmp_path / "image_folder")
    (tmp_path / "image_folder" / ".thumbnails").mkdir()
    (tmp_path / "image_folder" / "cat" / ".DS_Store").write_bytes(b"x")
    assert load(tmp_path).facts["classes"] == 3


def test_folders_that_are_not_there(tmp_path):
    with pytest.raises(BadInput, match=r"data.folder=.*image_folder' is not a folder; expected one folder of images"):
        load(tmp_path)
    with pytest.raises(BadInput, match=r"data.folder='image_folder' is not a folder; expected"):
        load(None)
    paint(tmp_path / "image_folder", classes={"cat": COLOURS["cat"]})
    with pytest.raises(BadInput, match="must have two folders or more, one for each class; it has 1"):
        load(tmp_path)
    with pytest.raises(BadInput, match=r"validation_share=0.5 and test_share=0.5 must add up to less than 1"):
        image_folder.Config(validation_share=0.5, test_share=0.5)
    for split in ("train", "test"):
        paint(tmp_path / "own" / split)
    paint(tmp_path / "own" / "test", classes={"dgo": COLOURS["dog"]})
    with pytest.raises(BadInput, match=r"test/dgo: unknown class 'dgo'; did you mean 'dog'"):
        load(tmp_path, folder="own")


def test_a_bomb_is_refused(tmp_path, monkeypatch):
    paint(tmp_path / "image_folder")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
    with pytest.raises(BadInput, match=r"cannot be read as an image: .*exceeds limit of 10 pixels"):
        load(tmp_path)
