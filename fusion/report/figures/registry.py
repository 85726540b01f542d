"""The figures by name: a new one is its file and a line here."""

from __future__ import annotations

from collections.abc import Mapping

from fusion.report.figures.calibration import CalibrationCurves
from fusion.report.figures.class_scores import ClassChanges, ClassRarity
from fusion.report.figures.confusions import Confusions
from fusion.report.figures.contenders import Contenders, Gains
from fusion.report.figures.contributions import Contributions
from fusion.report.figures.figure import Figure
from fusion.report.figures.front import Front8, Front16
from fusion.report.figures.ladder import Ladder
from fusion.report.figures.multipliers import Multipliers
from fusion.report.figures.plane import WeightPlane
from fusion.report.figures.similarity import ModelSimilarity
from fusion.report.figures.videos import Videos
from fusion.report.figures.weight_line import WeightLine
from fusion.report.figures.weights import Weights

FIGURES: Mapping[str, Figure] = {
    kind.name: kind()
    for kind in (
        *(
            Ladder,
            Contenders,
            Gains,
            WeightPlane,
            WeightLine,
            Weights,
            Multipliers,
            ClassChanges,
            ClassRarity,
        ),
        *(Contributions, ModelSimilarity, Videos, Confusions, CalibrationCurves, Front8, Front16),
    )
}
