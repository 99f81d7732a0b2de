"""Labels -> dataset version -> model version."""

from __future__ import annotations

from prefect import flow

from tasks.artifacts import tell_markdown
from tasks.core.entities import ModelVersion
from tasks.core.settings import ProjectSettings
from tasks.retrain import train_model


@flow(name="retrain", flow_run_name="retrain on {dataset_version}")
def retrain(project: ProjectSettings, dataset_version: str, from_model: str) -> ModelVersion:
    """Train from the weights of `from_model` on a dataset version."""
    model = train_model(project, dataset_version, from_model)
    parity = ", ".join(f"{name} {value:.2g}" for name, value in model.parity.items())
    lines = [
        f"# Model {model.model_version}",
        "",
        f"Trained from {model.trained_from} on dataset {model.dataset_version}: {model.training['epochs']} epochs in "
        f"{model.training['seconds']} s. {model.size_bytes / 1e6:.1f} MB of ONNX, input {model.image_size[1]} x "
        f"{model.image_size[0]}, licence of the weights {model.licence}.",
        "",
        f"Largest difference between ONNX and checkpoint: {parity}.",
    ]
    tell_markdown(f"model-{model.model_version}", "\n".join(lines), "A new model version")
    return model
