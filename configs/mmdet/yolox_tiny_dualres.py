# ruff: noqa: C408 (mmdet configs are written with dict calls)
# YOLOX-tiny behind a resolution router: 416 px for the images that need it, 224 px for the others.
#
# Test with a router that was trained elsewhere, and the detector's own checkpoint:
#     python tools/test.py configs/mmdet/yolox_tiny_dualres.py yolox_tiny.pth --cfg-options dualres.router=runs/router
# Train one here; the detector is frozen, so its weights have to be loaded:
#     python tools/train.py configs/mmdet/yolox_tiny_dualres.py --cfg-options load_from=yolox_tiny.pth
_base_ = ["mmdet::yolox/yolox_tiny_8xb8-300e_coco.py"]
custom_imports = dict(imports=["dualres_plugin.adapters.mmdet"], allow_failed_imports=False)

dualres = dict(
    # The router that ships, trained on: it works on a few hundred photos. A body of your own, with its weights:
    # router=dict(backbone="mobilenet_v3_large", input_size=128, weights="mobilenet.pth").
    router="default",
    low=0.5,
    target_high_rate=0.5,
    gamma=1.0,
)

# Everything below is for training the router: photos as they are at test time, and the paper's schedule.
train_pipeline = [
    dict(type="LoadImageFromFile", backend_args=None),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="Resize", scale=(416, 416), keep_ratio=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="Pad", pad_to_square=True, pad_val=dict(img=(114.0, 114.0, 114.0))),
    dict(
        type="PackDetInputs",
        meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor", "flip", "flip_direction"),
    ),
]
train_dataloader = dict(
    batch_size=32,
    dataset=dict(
        _delete_=True,
        type="CocoDataset",
        data_root="data/coco/",
        ann_file="annotations/instances_train2017.json",
        data_prefix=dict(img="train2017/"),
        filter_cfg=dict(filter_empty_gt=False, min_size=32),
        pipeline=train_pipeline,
    ),
)
train_cfg = dict(max_epochs=40, val_interval=5)
optim_wrapper = dict(
    _delete_=True,
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=3.2e-4, momentum=0.8, weight_decay=3.6e-4, nesterov=True),
)
param_scheduler = [dict(type="CosineAnnealingLR", T_max=40, by_epoch=True, convert_to_iter_based=True)]
# No weight averaging and no switch of losses: those hooks train a detector, and it is frozen.
custom_hooks = [dict(type="DualResHook")]
