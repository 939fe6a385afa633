"""What every score is an average of, in one sentence each: shown beside a run's numbers.

Two scores of one name and different averaging are two measures, so a name that is not explained here
should not be shown anywhere.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

_POOLED = "pooled over all pixels of the side's tissues"
_CLASSES = "unweighted mean over the classes in truth or prediction"
_CELLS = "Panoptic quality of cells, whatever their type"
_COUNTS = "of counts pooled over the side's tissues"
_TYPES = "unweighted mean over the cell types"

METRIC_DEFINITIONS: dict[str, str] = {
    "epoch": "Passes over the training tiles before this one; the first is 0.",
    "trainer/global_step": "Steps of the optimizer so far.",
    "val/best": "Best of the metric that chooses the epoch (config: monitor) over the epochs so far.",
    "train/loss": "Weighted sum of the loss's terms, mean over an epoch's training tiles, augmented.",
    "train/loss/*": "One term of the loss before its weight, mean over an epoch's training tiles.",
    "*/loss": "Weighted sum of the loss's terms, mean over the side's tiles.",
    "*/loss/*": "One term of the loss before its weight, mean over the side's tiles.",
    "*/dice/macro": f"2|T∩P|/(|T|+|P|) per class, {_POOLED}; {_CLASSES}, background included.",
    "*/dice/macro_foreground": f"2|T∩P|/(|T|+|P|) per class, {_POOLED}; {_CLASSES} but the background.",
    "*/dice/*": f"2|T∩P|/(|T|+|P|) of one class, {_POOLED}.",
    "*/iou/macro": f"|T∩P|/|T∪P| per class, {_POOLED}; {_CLASSES}, background included.",
    "*/iou/macro_foreground": f"|T∩P|/|T∪P| per class, {_POOLED}; {_CLASSES} but the background.",
    "*/iou/*": f"|T∩P|/|T∪P| of one class, {_POOLED}.",
    "*/calibration/ece": "Expected calibration error of the pixels' probabilities, of all pixels alike.",
    "*/calibration/brier": "Brier score of the pixels' probabilities, of all pixels alike.",
    "*/dice_study_batch*": "The study's Dice, mean over batches and classes: to compare with it alone.",
    "*/bpq_image": f"{_CELLS}, of each tissue that has some, then mean over tissues.",
    "*/bpq_tissue": f"{_CELLS}, mean over the tissues of a group, then over groups.",
    "*/bpq_plus": f"{_CELLS}, {_COUNTS}.",
    "*/mpq_image": f"Panoptic quality per type, {_TYPES} a tissue has, then over tissues.",
    "*/mpq_tissue": f"Panoptic quality per type, {_TYPES} a tissue has, then over tissues, then groups.",
    "*/mpq_plus": f"Panoptic quality per type, {_COUNTS}; {_TYPES}.",
    "*/dq_plus": f"Detection's part of panoptic quality (an F1), {_COUNTS}.",
    "*/sq_plus": f"Mean IoU of the cells that were found, {_COUNTS}.",
    "*/pq_plus/*": f"Panoptic quality of one cell type, {_COUNTS}.",
    "*/dq_plus/*": f"Detection's part of panoptic quality of one cell type, {_COUNTS}.",
    "*/sq_plus/*": f"Mean IoU of the cells of one type that were found, {_COUNTS}.",
    "*/classification_f1_pooled": f"F1 of cells found with their type right, {_COUNTS}; {_TYPES}.",
    "*/classification_f1_pooled/*": f"F1 of one cell type, {_COUNTS}.",
    "*_pooled": "Of counts or sums pooled over all tissues of the side.",
    "*_image": "Of each tissue by itself, then mean over those where it is defined.",
    "cost/*": "What the training took: seconds, bytes, parameters, as in cost.json.",
}
"""Pattern of a key -> what it is; the first that matches holds."""


def definition_of(key: str) -> str | None:
    """What a score is an average of; None: nobody said.

    Args:
        key: such as `val/dice/tumor`.
    """
    patterns = (pattern for pattern in METRIC_DEFINITIONS if fnmatchcase(key, pattern))
    return METRIC_DEFINITIONS.get(next(patterns, ""))
