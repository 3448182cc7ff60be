"""Predictions: requests into batches, batches onto a backend, answers back.

1. A model is published once and has a version; each node fetches it when it is first asked for, and looks for a newer
   version while it is in use.
2. Requests for one model gather while the backend is busy; whatever has gathered is the next batch. No request waits
   for others to come.
3. A device that fails costs the batch a rerun on the reference path, never an answer; one that cannot hold a model
   leaves that model to the reference path. A bug costs the batch that met it.
4. What waits and what a batch takes is bounded in rows and in bytes.
"""

from meshnode.prediction.backend import Backend, EngineBackend
from meshnode.prediction.config import PredictionConfig
from meshnode.prediction.predictor import Predictor

__all__ = ["Backend", "EngineBackend", "PredictionConfig", "Predictor"]
