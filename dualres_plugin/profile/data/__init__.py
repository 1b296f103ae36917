"""Reading data sets: COCO annotations, Ultralytics labels, plain folders."""
