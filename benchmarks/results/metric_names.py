"""The metrics that tables show, in their order, and what heads their columns."""

from __future__ import annotations

# Metric key -> column heading. Optional ones have a column only where some row has a value.
METRICS = {
    "average_accuracy": "average accuracy",
    "last_accuracy": "last accuracy",
    "a_auc": "A_AUC",
    "a_auc_trapezoid": "A_AUC trapezoid",
    "a_avg": "A_avg",
    "a_last": "A_last",
    "f_last": "F_last",
    "a_auc_balanced": "balanced A_AUC",
    "a_auc_trapezoid_balanced": "balanced A_AUC trapezoid",
    "a_avg_balanced": "balanced A_avg",
    "a_last_balanced": "balanced A_last",
    "macro_auroc": "macro AUROC",
    "mean_average_precision": "mean average precision",
    "forgetting": "forgetting",
    "backward_transfer": "backward transfer",
    "forward_transfer": "forward transfer",
    "learning_accuracy": "learning accuracy",
    "future_zero_shot_accuracy": "future zero-shot",
    "held_out_zero_shot_accuracy": "held-out zero-shot",
    "zero_shot_top1": "zero-shot top-1",
    "zero_shot_top5": "zero-shot top-5",
    "zero_shot_mean_per_class_recall": "mean recall",
    "zero_shot_chance": "chance",
    "zero_shot_majority": "majority class",
    "zero_shot_top1_mechanical": "top-1 without phrases",
    "zero_shot_top1_ensemble": "ensemble",
    "zero_shot_top1_bare_label": "bare label",
    "zero_shot_top1_template_mean": "template mean",
    "zero_shot_top1_template_min": "template min",
    "zero_shot_top1_template_max": "template max",
    "zero_shot_top1_template_std": "template std",
    "zero_shot_template_changes": "changed by template",
    "linear_probe_accuracy": "linear probe",
    "knn_accuracy": "kNN",
    "recall_at_1": "text to signal R@1",
    "recall_at_5": "R@5",
    "recall_at_10": "R@10",
    "median_rank": "median rank",
    "map_at_10": "mAP@10",
    "signal_to_text_recall_at_1": "signal to text R@1",
    "signal_to_text_recall_at_10": "signal to text R@10",
}
# Columns that a table of accuracy matrices always has; all others only where some row has a value.
STREAM_METRICS = ("forgetting", "backward_transfer", "forward_transfer")
RANKS = ("median_rank",)  # no fractions
FACTS = ("zero_shot_chance", "zero_shot_majority")  # of the data: without an interval
MAIN_METRICS = (
    "average_accuracy",
    "last_accuracy",
    "a_auc",
    "a_last",
    "f_last",
    "macro_auroc",
    "mean_average_precision",
    "forgetting",
    "future_zero_shot_accuracy",
    "zero_shot_top1",
    "zero_shot_chance",
    "zero_shot_majority",
    "linear_probe_accuracy",
    "recall_at_1",
    "recall_at_10",
)
