"""Every chart there is, by the section of the report that shows it: a new one is added here."""

from collections.abc import Callable, Mapping

from search.show.charts.chart import Chart
from search.show.charts.course import history_chart, rungs_chart
from search.show.charts.seen import Seen
from search.show.charts.settings import effect_charts, importance_chart, parallel_chart, sampler_charts
from search.show.charts.time_steps import attention_charts

CHARTS: Mapping[str, Callable[[Seen], list[Chart]]] = {
    "history": history_chart,
    "rungs": rungs_chart,
    "parallel": parallel_chart,
    "importance": importance_chart,
    "effects": effect_charts,
    "sampler": sampler_charts,
    "attention": attention_charts,
}
