custom_hooks = [
    dict(ema_type="WeightAverage", momentum=0.1, type="EMAHook"),
    dict(type="CheckpointLayoutHook"),
]
default_hooks = dict(
    checkpoint=dict(
        backend_args=dict(backend="ktdn_whole_files"),
        by_epoch=False,
        interval=2,
        max_keep_ckpts=3,
        rule="greater",
        save_best="PSNR",
        type="CheckpointHook",
    ),
    logger=dict(interval=1, type="LoggerHook"),
    param_scheduler=dict(type="ParamSchedulerHook"),
    sampler_seed=dict(type="DistSamplerSeedHook"),
    timer=dict(type="IterTimerHook"),
)
default_scope = "ktdn_plugin"
env_cfg = dict(mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0))
log_processor = dict(by_epoch=False, type="LogProcessor", window_size=1)
model = dict(
    laplacian_loss=dict(levels=3, loss_weight=0.3, type="LaplacianLoss"),
    pixel_loss=dict(type="PixelLoss"),
    student=dict(
        encoder="test_efficientnet",
        head="affine",
        type="KTDN",
        widths=[
            16,
            12,
            28,
        ],
    ),
    teacher=dict(
        encoder="test_efficientnet",
        type="KTDN",
        widths=[
            16,
            12,
            28,
        ],
    ),
    teacher_checkpoint="experiments/teacher/models/net_g_latest.pth",
    transfer_loss=dict(features=dict(mid=1.0), type="KnowledgeTransferLoss"),
    type="KTDNDistiller",
)
optim_wrapper = dict(optimizer=dict(lr=0.001, type="Adam"), type="OptimWrapper")
param_scheduler = dict(T_max=100, by_epoch=False, end=100, eta_min=1e-06, type="CosineAnnealingLR")
randomness = dict(seed=0)
test_cfg = dict(type="TestLoop")
test_dataloader = dict(
    batch_size=1,
    dataset=dict(
        dataroot_gt="val/clear", dataroot_lq="val/hazy", split="tiny-val", type="PairedHazeDataset"
    ),
    num_workers=0,
    sampler=dict(shuffle=False, type="DefaultSampler"),
)
test_evaluator = [
    dict(type="PSNR"),
    dict(type="SSIM"),
]
train_cfg = dict(max_iters=4, type="SeededTrainLoop", val_interval=2)
train_dataloader = dict(
    batch_size=1,
    dataset=dict(
        dataroot_gt="train/clear", dataroot_lq="train/hazy", gt_size=48, type="PairedHazeDataset"
    ),
    num_workers=0,
    sampler=dict(type="SeededSampler"),
)
val_cfg = dict(type="ValLoop")
val_dataloader = dict(
    batch_size=1,
    dataset=dict(
        dataroot_gt="val/clear", dataroot_lq="val/hazy", split="tiny-val", type="PairedHazeDataset"
    ),
    num_workers=0,
    sampler=dict(shuffle=False, type="DefaultSampler"),
)
val_evaluator = [
    dict(type="PSNR"),
    dict(type="SSIM"),
]
visualizer = dict(
    type="Visualizer",
    vis_backends=[
        dict(type="LocalVisBackend"),
    ],
)
