"""Has the world changed? Figures of frames now against a reference, without labels. DRIFT.md says how and why.

figures_of(records, thresholds)            what is looked at, from a traffic log
judge(series, left_out, windows)           all cameras, and what each one's answer is
compare(reference, now, alpha=...)         one figure of one camera, by block permutation
kolmogorov_smirnov, stability_index        the plain tests, for frames that are independent
"""

from tasks.core.drift.blocks import Series
from tasks.core.drift.cameras import (
    REFERENCE_DAYS,
    CameraLog,
    Judged,
    Name,
    Period,
    Windows,
    judge,
    leave_out_wrong_times,
    series_of,
    windows_of,
)
from tasks.core.drift.compare import ALPHA, FEWEST_FRAMES, MINIMUM_CHANGE, Comparison, compare, corrected
from tasks.core.drift.figures import (
    AREA,
    CONFIDENCE_FIGURES,
    FIGURES,
    areas_of,
    figures_of,
    in_order,
)
from tasks.core.drift.permutation import Permutation
from tasks.core.drift.two_samples import (
    KolmogorovSmirnov,
    StabilityIndex,
    chi2_quantile,
    chi2_tail,
    kolmogorov_smirnov,
    kolmogorov_tail,
    stability_index,
)

__all__ = [
    "ALPHA",
    "AREA",
    "CONFIDENCE_FIGURES",
    "FEWEST_FRAMES",
    "FIGURES",
    "MINIMUM_CHANGE",
    "REFERENCE_DAYS",
    "CameraLog",
    "Comparison",
    "Judged",
    "KolmogorovSmirnov",
    "Name",
    "Period",
    "Permutation",
    "Series",
    "StabilityIndex",
    "Windows",
    "areas_of",
    "chi2_quantile",
    "chi2_tail",
    "compare",
    "corrected",
    "figures_of",
    "in_order",
    "judge",
    "kolmogorov_smirnov",
    "kolmogorov_tail",
    "leave_out_wrong_times",
    "series_of",
    "stability_index",
    "windows_of",
]
