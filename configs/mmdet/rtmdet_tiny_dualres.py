# ruff: noqa: C408 (mmdet configs are written with dict calls)
# RTMDet-tiny behind a resolution router: 640 px for the images that need it, 320 px for the others.
#
# Test with a router that was trained elsewhere, and the detector's own checkpoint:
#     python tools/test.py configs/mmdet/rtmdet_tiny_dualres.py rtmdet_tiny.pth --cfg-options dualres.router=runs/router
# Train one here; the detector is frozen, so its weights have to be loaded:
#     python tools/train.py configs/mmdet/rtmdet_tiny_dualres.py --cfg-options load_from=rtmdet_tiny.pth
_base_ = ["mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py"]
custom_imports = dict(imports=["dualres_plugin.adapters.mmdet"], allow_failed_imports=False)

# The checkpoint holds the backbone; without this line the host would download it once more.
model = dict(backbone=dict(init_cfg=None))

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
    dict(type="Resize", scale=(640, 640), keep_ratio=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="Pad", size=(640, 640), pad_val=dict(img=(114, 114, 114))),
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
train_cfg = dict(max_epochs=40, val_interval=5, dynamic_intervals=None)
optim_wrapper = dict(
    _delete_=True,
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=3.2e-4, momentum=0.8, weight_decay=3.6e-4, nesterov=True),
)
param_scheduler = [dict(type="CosineAnnealingLR", T_max=40, by_epoch=True, convert_to_iter_based=True)]
# No weight averaging and no switch of losses: those hooks train a detector, and it is frozen.
custom_hooks = [dict(type="DualResHook")]
