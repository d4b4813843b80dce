"""Images to train on: folders, downloadable data sets and the generated set; augmentation and pixel scaling."""
