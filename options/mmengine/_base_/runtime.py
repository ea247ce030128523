# Shared by all runs: hooks, checkpoints, logs.
default_scope = "ktdn_plugin"  # short names are ours first, then mmengine's

default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    # Validations are logged by their iteration, not by an epoch that never ends.
    logger=dict(type="LoggerHook", interval=100, log_metric_by_epoch=False),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(
        type="CheckpointHook",
        interval=5000,
        by_epoch=False,
        max_keep_ckpts=3,  # not 1: the old one is deleted before the new one is written
        save_best="PSNR",
        rule="greater",
        backend_args=dict(backend="ktdn_whole_files"),  # no half-written file, whatever happens
    ),
    sampler_seed=dict(type="DistSamplerSeedHook"),
)
custom_hooks = [
    # Averages the weights, copies batch statistics. Checkpoints' state_dict is the average.
    dict(type="EMAHook", ema_type="WeightAverage", momentum=0.001),
    # load_from takes checkpoints of BasicSR's side and KTDN's authors too, and no other network's.
    dict(type="CheckpointLayoutHook"),
    # run.json and metrics.jsonl in the work directory, which 'ktdn curves' and 'ktdn report' read.
    dict(type="RunLogHook"),
    dict(type="DehazingVisualizationHook", images=1, save_results=True),
]

vis_backends = [dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")]
visualizer = dict(type="Visualizer", vis_backends=vis_backends)
log_processor = dict(type="LogProcessor", by_epoch=False, window_size=100)
log_level = "INFO"

env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl", timeout=1800),  # without GPUs gloo is used
)
randomness = dict(seed=0)  # order, augmentation, initial weights
load_from = None  # a checkpoint to start from
resume = False  # True resumes load_from; --resume the newest in the work directory
