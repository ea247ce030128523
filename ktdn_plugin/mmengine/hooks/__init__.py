"""Hooks: the teacher's check, checkpoints of any layout, batch norms that freeze, pictures."""

from ktdn_plugin.mmengine.hooks.checkpoint_layout_hook import CheckpointLayoutHook
from ktdn_plugin.mmengine.hooks.freeze_batch_norm_hook import FreezeBatchNormHook
from ktdn_plugin.mmengine.hooks.resume_hook import ResumeHook
from ktdn_plugin.mmengine.hooks.teacher_check_hook import TeacherCheckHook
from ktdn_plugin.mmengine.hooks.visualization_hook import DehazingVisualizationHook

__all__ = [
    "CheckpointLayoutHook",
    "DehazingVisualizationHook",
    "FreezeBatchNormHook",
    "ResumeHook",
    "TeacherCheckHook",
]
