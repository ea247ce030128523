# Stage 1 on NH-HAZE: the teacher learns to reconstruct clear images.
# Run: ktdn mmengine train options/mmengine/train_teacher.py
_base_ = ["_base_/runtime.py", "_base_/nh_haze.py", "_base_/schedule.py"]

model = dict(
    type="KTDNTeacher",
    # Any timm backbone with features at strides 4, 8 and 16. pretrained: True downloads timm's
    # ImageNet weights; a path takes a file; False starts at random.
    generator=dict(type="KTDN", encoder="res2net101d", pretrained=True),
    # Each loss is switched off by None.
    pixel_loss=dict(type="PixelLoss", loss_weight=1.0, criterion="l1"),
    laplacian_loss=dict(type="LaplacianLoss", loss_weight=0.3, levels=5),
    sync_bn=True,  # statistics over the batches of all GPUs, as if one had them all
    channels_last=False,  # True beside mixed precision: the layout that tensor cores want
)

train_dataloader = dict(dataset=dict(type="ClearImageDataset"))
val_dataloader = dict(dataset=dict(type="ClearImageDataset"))
test_dataloader = dict(dataset=dict(type="ClearImageDataset"))

custom_hooks = [
    dict(type="EMAHook", ema_type="WeightAverage", momentum=0.001),
    dict(type="CheckpointLayoutHook"),
    dict(type="DehazingVisualizationHook", images=1, save_results=True),
    # SRKTDN froze its batch statistics for the last three quarters of training.
    dict(type="FreezeBatchNormHook", after=25000),
]
