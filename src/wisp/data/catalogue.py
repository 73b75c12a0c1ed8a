"""The data sets that have a name: what they hold, which split is which, and what to fetch where no network is at hand.

Imports no torch, for `wisp list data` reads it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Named:
    """A data set that is known by name.

    Attributes:
        about: one line: what is in it, with the number of training and of test images.
        files: what to download, by the names that its makers gave.
        home: of its makers, where these are.
        into: folder below `cache_folder()/NAME` that takes them; they are unpacked where nothing else is said.
        unpacked: whether the user unpacks the files; otherwise they are found as they are.
    """

    about: str
    files: str
    home: str
    into: str = ""
    unpacked: bool = False


_MNIST = "train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz, t10k-labels-idx1-ubyte.gz"
_OXFORD = "www.robots.ox.ac.uk/~vgg/data"

NAMED = {
    "CIFAR10": Named(
        "photos of 32 px in 10 classes: 50,000 + 10,000",
        "cifar-10-python.tar.gz",
        "www.cs.toronto.edu/~kriz/cifar.html",
    ),
    "CIFAR100": Named(
        "photos of 32 px in 100 classes: 50,000 + 10,000",
        "cifar-100-python.tar.gz",
        "www.cs.toronto.edu/~kriz/cifar.html",
    ),
    "MNIST": Named("handwritten digits of 28 px: 60,000 + 10,000", _MNIST, "yann.lecun.com/exdb/mnist", "MNIST/raw"),
    "FashionMNIST": Named(
        "clothes of 28 px in 10 classes: 60,000 + 10,000",
        _MNIST,
        "github.com/zalandoresearch/fashion-mnist",
        "FashionMNIST/raw",
    ),
    "KMNIST": Named(
        "cursive Japanese of 28 px in 10 classes: 60,000 + 10,000",
        _MNIST,
        "codh.rois.ac.jp/kmnist",
        "KMNIST/raw",
    ),
    "USPS": Named("digits of 16 px: 7,291 + 2,007", "usps.bz2, usps.t.bz2", "www.csie.ntu.edu.tw/~cjlin/libsvmtools"),
    "STL10": Named(
        "photos of 96 px in 10 classes: 5,000 + 8,000", "stl10_binary.tar.gz", "cs.stanford.edu/~acoates/stl10"
    ),
    "SVHN": Named(
        "house numbers of 32 px: 73,257 + 26,032",
        "train_32x32.mat, test_32x32.mat",
        "ufldl.stanford.edu/housenumbers",
    ),
    "DTD": Named(
        "textures in 47 classes: train1 1,880 + test1 1,880, of the first of ten partitions",
        "dtd-r1.0.1.tar.gz",
        f"{_OXFORD}/dtd",
        "dtd",
    ),
    "Flowers102": Named(
        "flowers in 102 classes: trnid 1,020 + tstid 6,149",
        "102flowers.tgz, imagelabels.mat, setid.mat",
        f"{_OXFORD}/flowers/102",
        "flowers-102",
    ),
    "FGVCAircraft": Named(
        "aircraft in 100 variants: trainval 6,667 + test 3,333",
        "fgvc-aircraft-2013b.tar.gz",
        f"{_OXFORD}/fgvc-aircraft",
    ),
    "Food101": Named(
        "dishes in 101 classes: 75,750 + 25,250",
        "food-101.tar.gz",
        "data.vision.ee.ethz.ch/cvl/datasets_extra/food-101",
    ),
    "OxfordIIITPet": Named(
        "cats and dogs in 37 breeds: trainval 3,680 + test 3,669",
        "images.tar.gz, annotations.tar.gz",
        f"{_OXFORD}/pets",
        "oxford-iiit-pet",
    ),
    "Imagenette": Named(
        "ten easy classes of ImageNet: 9,469 + 3,925", "imagenette2.tgz", "github.com/fastai/imagenette"
    ),
    "Caltech101": Named(
        "objects in 101 classes, no background: the first 80 % of each 6,907 + the others 1,770 (no official split)",
        "101_ObjectCategories.tar.gz (it lies in caltech-101.zip)",
        "data.caltech.edu/records/mzrjq-6wc02",
        "caltech101",
        unpacked=True,
    ),
    "StanfordCars": Named(
        "cars in 196 classes: 8,144 + 8,041",
        "cars_train.tgz, cars_test.tgz, car_devkit.tgz and, as it is, cars_test_annos_withlabels.mat",
        "ai.stanford.edu/~jkrause/cars/car_dataset.html (its files have gone; copies are about)",
        "stanford_cars",
        unpacked=True,
    ),
    "SUN397": Named(
        "scenes in 397 classes: Training_01 19,850 + Testing_01 19,850, the first of ten partitions",
        "SUN397.tar.gz, Partitions.zip",
        "vision.princeton.edu/projects/2010/SUN",
        unpacked=True,
    ),
    "MIT67": Named(
        "indoor scenes in 67 classes: TrainImages 5,360 + TestImages 1,340",
        "indoorCVPR_09.tar and, as they are, TrainImages.txt, TestImages.txt",
        "web.mit.edu/torralba/www/indoor.html",
        unpacked=True,
    ),
    "CUB200": Named(
        "birds in 200 classes (CUB-200-2011): 5,994 + 5,794",
        "CUB_200_2011.tgz",
        "www.vision.caltech.edu/datasets/cub_200_2011",
        unpacked=True,
    ),
}
"""Name -> what is known of it, in the order of `wisp list data`; numbers are training + test images."""
