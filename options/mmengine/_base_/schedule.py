# 100,000 iterations: ours, the paper's schedule is not known. Optimiser and rate: SRKTDN's.
train_cfg = dict(type="SeededTrainLoop", max_iters=100000, val_interval=5000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")

# For bfloat16 use type='BFloat16OptimWrapper', on CPUs as well; for float16 on a GPU mmengine's
# 'AmpOptimWrapper'. Losses stay in float32.
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="Adam", lr=1e-4, betas=(0.9, 0.999), fused=True),
    # The encoder's own learning rate:
    # paramwise_cfg=dict(custom_keys={'encoder': dict(lr_mult=0.1)}),
)
# Cosine to almost zero, as usual in the field (FFA-Net, AECR-Net).
param_scheduler = dict(
    type="CosineAnnealingLR", T_max=100000, eta_min=1e-7, by_epoch=False, end=100000
)
