# Stage 2 on NH-HAZE: the student learns to dehaze, beside the frozen teacher of stage 1.
# Run: ktdn mmengine train options/mmengine/train_ktdn.py
_base_ = ["_base_/runtime.py", "_base_/nh_haze.py", "_base_/schedule.py"]

model = dict(
    type="KTDNDistiller",
    # A student may have head="affine", and a narrow encoder widths: see options/train_ktdn.yml.
    student=dict(type="KTDN", encoder="res2net101d", pretrained=True),
    teacher=dict(type="KTDN", encoder="res2net101d"),  # its checkpoint holds the encoder
    # Required with a teacher: what stage 1 saved, here or on BasicSR's side.
    teacher_checkpoint="work_dirs/train_teacher/iter_100000.pth",
    # Each loss is switched off by None; without a teacher the student learns alone.
    pixel_loss=dict(type="PixelLoss", loss_weight=1.0, criterion="l1"),
    laplacian_loss=dict(type="LaplacianLoss", loss_weight=0.3, levels=5),  # weight: SRKTDN's
    lab_loss=None,  # dict(type="LabLoss", loss_weight=0.5): SRKTDN's fourth, L2 in CIE Lab
    ssim_loss=None,  # dict(type="SSIMLoss", loss_weight=0.3); further NAME_loss take any loss
    clamp_output=False,  # True compares images clamped to [0, 1]: no gradient where they overshoot
    transfer_loss=dict(
        type="KnowledgeTransferLoss",
        loss_weight=1.0,  # SRKTDN's
        features=dict(mid=1.0),  # of stage1, stage2, stage3 (encoder) and mid (first FAM)
        # Where the encoders differ in width: dict(mid=(student's, teacher's))
        adapters=None,
    ),
    sync_bn=True,
    channels_last=False,
)

custom_hooks = [
    dict(type="EMAHook", ema_type="WeightAverage", momentum=0.001),
    dict(type="CheckpointLayoutHook"),
    dict(type="DehazingVisualizationHook", images=1, save_results=True),
    # The teacher's reconstruction of the validation's clear images is measured before the first
    # step; below this many dB it has nothing to teach, and the run stops.
    dict(type="TeacherCheckHook", min_psnr=20),
    # SRKTDN froze its batch statistics for the last three quarters of training.
    dict(type="FreezeBatchNormHook", after=25000),
]
