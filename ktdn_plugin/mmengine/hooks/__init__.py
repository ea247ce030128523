"""Hooks: teacher check, checkpoints of any layout, frozen batch norms, pictures, run log."""

from ktdn_plugin.mmengine.hooks.checkpoint_layout_hook import CheckpointLayoutHook
from ktdn_plugin.mmengine.hooks.freeze_batch_norm_hook import FreezeBatchNormHook
from ktdn_plugin.mmengine.hooks.resume_hook import ResumeHook
from ktdn_plugin.mmengine.hooks.run_log_hook import RunLogHook
from ktdn_plugin.mmengine.hooks.teacher_check_hook import TeacherCheckHook
from ktdn_plugin.mmengine.hooks.visualization_hook import DehazingVisualizationHook

__all__ = [
    "CheckpointLayoutHook",
    "DehazingVisualizationHook",
    "FreezeBatchNormHook",
    "ResumeHook",
    "RunLogHook",
    "TeacherCheckHook",
]
