"""May this model version replace that one?

figures.py draws the paired replicates, judges.py turns them into verdicts. One-sided 95% bounds:

    first      AP50 above `minimum_ap50`
    improve    recall at the live model's operating precision above 0, AP50 above -`ap50_margin`, and the recall of each
               class with at least `class_minimum_boxes` test boxes above -`class_margin`
    replace    recall above -`recall_margin`, and smaller or faster
"""

from tasks.core.gate.figures import Edition, ModelOutcome
from tasks.core.gate.judges import SizeAndLatency, judge_first, judge_improve, judge_replace

__all__ = ["Edition", "ModelOutcome", "SizeAndLatency", "judge_first", "judge_improve", "judge_replace"]
