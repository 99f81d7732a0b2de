"""Bucket -> labelling batches, only what is new."""

from __future__ import annotations

from prefect import flow

from tasks.artifacts import tell_table
from tasks.core.settings import ProjectSettings
from tasks.ingest import Ingested, find_devices, ingest_device


@flow(name="ingest", flow_run_name="ingest {project.project}")
def ingest(project: ProjectSettings) -> list[Ingested]:
    """Take in what each device has committed since the last time."""
    ingested = [ingest_device(project, device) for device in find_devices(project)]
    rows = [{"device": i.device, "new samples": i.samples, "batches": ", ".join(i.batches)} for i in ingested]
    problems = [{"device": i.device, "problem": line} for i in ingested for line in i.problems]
    tell_table("ingest", [*rows, *problems], "What is new, by device")
    return ingested
