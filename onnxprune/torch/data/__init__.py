"""Data sets of images: CIFAR, image folders, and shipped handwritten digits. Nothing is downloaded or unpickled.

`cifar`, `image_folder` and `digits` in the files of these names each give `Splits`, whose `data("train")` is a
map-style data set. A list of indices gives a ready batch (`__getitems__`), so a `DataLoader` needs a `collate_fn` that
returns what it gets.
"""
