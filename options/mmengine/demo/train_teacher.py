# Demo, stage 1: a small teacher learns to reconstruct clear photographs.
# `ktdn demo --toolbox mmengine` runs it.
_base_ = ["../_base_/runtime.py"]

model = dict(
    type="KTDNTeacher",
    generator=dict(type="KTDN", encoder="resnet10t", pretrained=False),  # 2.6 million parameters
    pixel_loss=dict(type="PixelLoss"),
    laplacian_loss=dict(type="LaplacianLoss", loss_weight=0.3),
)

train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    sampler=dict(type="SeededSampler"),
    dataset=dict(
        type="ClearImageDataset",
        dataroot_gt="data/train/clear",
        split="demo-train",
        gt_size=96,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(type="ClearImageDataset", dataroot_gt="data/val/clear", split="demo-val"),
)
test_dataloader = val_dataloader
val_evaluator = [dict(type="PSNR"), dict(type="SSIM")]
test_evaluator = val_evaluator

train_cfg = dict(type="SeededTrainLoop", max_iters=600, val_interval=200)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="Adam", lr=1e-3, betas=(0.9, 0.999), fused=True),
)
param_scheduler = dict(type="CosineAnnealingLR", T_max=600, eta_min=1e-6, by_epoch=False, end=600)

default_hooks = dict(logger=dict(interval=50), checkpoint=dict(interval=200))
custom_hooks = [
    dict(type="EMAHook", ema_type="WeightAverage", momentum=0.01),
    dict(type="CheckpointLayoutHook"),
    dict(type="DehazingVisualizationHook", images=1),
]
visualizer = dict(vis_backends=[dict(type="LocalVisBackend")])
