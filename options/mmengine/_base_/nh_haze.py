# NH-HAZE as unpacked. PNGs are slow to decode: a store is a hundred times as fast.
# Create one per split with 'ktdn prepare' and set dataroot_gt to it; the rest may stay.
# Other datasets: layout='o-haze', 'dense-haze', ... (see README). Your own: folders with equal file
# names, dataroot_gt='.../clear', dataroot_lq='.../hazy', and no layout.
train_set = dict(
    type="PairedHazeDataset",
    dataroot_gt="datasets/NH-HAZE",
    layout="nh-haze",
    split="challenge-train",  # reported with every metric; splits do not compare
    gt_size=256,  # crop
    use_hflip=True,
    use_rot=True,  # upside down and transposed: with use_hflip, all quarter turns
    use_scale=(1.0, 1.0),  # random scale, min and max
    color_jitter=None,  # dict(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.02)
    on_error="raise",  # 'skip': skip unreadable images, as long as they are few
)
val_set = dict(
    type="PairedHazeDataset",
    dataroot_gt="datasets/NH-HAZE",
    layout="nh-haze",
    split="challenge-val",
)
test_set = dict(
    type="PairedHazeDataset",
    dataroot_gt="datasets/NH-HAZE",
    layout="nh-haze",
    split="challenge-test",
)

train_dataloader = dict(
    batch_size=15,  # SRKTDN's, on one GPU; divide it by the number of GPUs
    num_workers=6,
    pin_memory=True,
    sampler=dict(type="SeededSampler"),  # order and augmentation follow from the seed alone
    collate_fn=dict(type="pseudo_collate"),
    dataset=train_set,
)
val_dataloader = dict(
    batch_size=1,  # photographs differ in size
    num_workers=2,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=val_set,
)
test_dataloader = dict(
    batch_size=1,
    num_workers=2,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=test_set,
)

# On RGB, full resolution, no border cropped.
val_evaluator = [dict(type="PSNR"), dict(type="SSIM")]
test_evaluator = val_evaluator
