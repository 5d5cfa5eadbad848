"""A registered model as MLflow runs it: image files in, rows out, the numbers of `fgsearch predict`.

MLflow keeps this file beside the model and executes it where the model is loaded ("models from code"): nothing is
pickled. It runs where fgsearch is installed: `mlflow models serve -m models:/fgsearch-NAME@best --env-manager local`.
"""

from pathlib import Path
from threading import Lock
from typing import Any

import mlflow.models
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.model import PythonModel

from fgmodel.training import best_device
from fgmodel.use.saved import Saved, read_model
from search.errors import InputError
from search.models.predict import predict, read_bytes


class Served(PythonModel):
    """The model file among the artifacts, ready to answer."""

    def load_context(self, context: Any) -> None:  # noqa: ANN401  MLflow's, without a type
        """Read the model."""
        self.saved: Saved = read_model(Path(context.artifacts["model"]), best_device())
        self.one_at_a_time = Lock()   # each answer takes all threads by itself

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:  # noqa: ANN401, ARG002  MLflow's
        """Return a row for each image file in the column `image`."""
        try:
            files = list(model_input["image"])
            images = [read_bytes(content, f"row {row}") for row, content in enumerate(files, 1)]
        except InputError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None
        with self.one_at_a_time:
            found = predict(self.saved.classifier, images, [str(row) for row in range(len(images))])
        return pd.DataFrame([each.row() for each in found])


mlflow.models.set_model(Served())   # at import: this is how MLflow asks a file for its model
