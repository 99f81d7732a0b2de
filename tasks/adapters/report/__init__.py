"""Tables, plots and pages: what the figures of the loop say, for people.

evaluation_report(evaluation, matches, out)       report.html and its plots
allocation_plot(allocation, out)                  yields of cameras, strategies and bands, and their labels
suggestion_plot(suggestion, evaluation, out)      what rules collect, against chance, and what stays out of reach
loop_page(story, out), loop_summary(story)        a whole run of the loop, as a page and for a terminal
class_table, band_table, rule_table, forecast_table   the same as tables
"""

from tasks.adapters.report.allocation_plot import allocation_plot
from tasks.adapters.report.pages import evaluation_report, loop_page
from tasks.adapters.report.plots import bands_plot, confidences_plot, precision_recall_plot
from tasks.adapters.report.sentences import class_sentence, evaluation_sentence, suggestion_sentence
from tasks.adapters.report.story import CameTrue, LabelCounts, LoopStory, RoundStory, Thumbnail
from tasks.adapters.report.suggestion_plot import suggestion_plot
from tasks.adapters.report.tables import band_table, class_table, forecast_table, rule_table
from tasks.adapters.report.terminal import loop_summary

__all__ = [
    "CameTrue",
    "LabelCounts",
    "LoopStory",
    "RoundStory",
    "Thumbnail",
    "allocation_plot",
    "band_table",
    "bands_plot",
    "class_sentence",
    "class_table",
    "confidences_plot",
    "evaluation_report",
    "evaluation_sentence",
    "forecast_table",
    "loop_page",
    "loop_summary",
    "precision_recall_plot",
    "rule_table",
    "suggestion_plot",
    "suggestion_sentence",
]
