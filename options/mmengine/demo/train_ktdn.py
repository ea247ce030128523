# Demo, stage 2: a small student learns to dehaze, with the teacher of stage 1.
# `ktdn demo --toolbox mmengine` runs it.
_base_ = ["train_teacher.py"]

teacher = "work_dirs/train_teacher/iter_600.pth"

model = dict(
    _delete_=True,
    type="KTDNDistiller",
    # The head gives a gain and an offset for each pixel, which a small network learns in minutes.
    student=dict(type="KTDN", encoder="resnet10t", pretrained=False, head="affine"),
    teacher=dict(type="KTDN", encoder="resnet10t"),
    teacher_checkpoint=teacher,
    pixel_loss=dict(type="PixelLoss"),
    laplacian_loss=dict(type="LaplacianLoss", loss_weight=0.3),
    transfer_loss=dict(type="KnowledgeTransferLoss", features=dict(mid=1.0)),
)

train_dataloader = dict(
    # Another haze at each use: three scenes and twelve hazes would not do.
    dataset=dict(type="SyntheticHazeDataset"),
)
val_dataloader = dict(
    dataset=dict(type="PairedHazeDataset", dataroot_lq="data/val/hazy"),
)
test_dataloader = val_dataloader

train_cfg = dict(max_iters=1000)
param_scheduler = dict(T_max=1000, end=1000)
